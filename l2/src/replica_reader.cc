// Invariants: what stands in links_ is what the master's newest sample lists (kReplicasMax at
// most); a link that is dropped hands its reads back first. outstanding_ counts the reads from
// submission to their answer, or to the moment that the master is asked. The master's answers come
// on the client's loop and are posted to ours, with a weak reference: the reader may be closed by
// then.

#include "tiercel/l2/replica_reader.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "replica_lag.h"
#include "replica_link.h"
#include "tiercel/base/check.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/random.h"

namespace tiercel::l2 {
namespace {

// For a network and a server that are slow, on top of the interval.
constexpr Duration kAnswerTime = std::chrono::milliseconds{100};
// A master that does not answer must not keep the replicas from being asked.
constexpr Duration kSampleDeadlineMin = std::chrono::milliseconds{500};

}  // namespace

class ReplicaReader::Core final : public ReplicaLink::Owner,
                                  public std::enable_shared_from_this<Core> {
 public:
  Core(ReplicaReaderConfig config, std::shared_ptr<TlsContext> tls, Client& master, EventLoop& loop)
      : config_(std::move(config)),
        tls_(std::move(tls)),
        master_(master),
        loop_(loop),
        random_(config_.seed != 0 ? Random{config_.seed} : Random::from_entropy()) {}

  void start();
  void submit(ReplicaRead read) TIERCEL_EXCLUDES(inbox_mutex_);
  void close() TIERCEL_EXCLUDES(closed_mutex_);
  // In a child of fork() no mutex may be touched.
  [[nodiscard]] bool is_forked() const noexcept { return loop_.is_forked(); }
  [[nodiscard]] std::vector<ReplicaStatus> statuses() const TIERCEL_EXCLUDES(statuses_mutex_) {
    if (is_forked()) return {};
    MutexLock lock{statuses_mutex_};
    return statuses_;
  }

  [[nodiscard]] EventLoop& loop() noexcept override { return loop_; }
  [[nodiscard]] const RedisOptions& redis() const noexcept override { return config_.redis; }
  [[nodiscard]] const Clock& clock() const noexcept override { return *config_.clock; }
  [[nodiscard]] Random& random() noexcept override { return random_; }
  [[nodiscard]] Duration silence_max() const noexcept override {
    return 2 * config_.sample_interval + kAnswerTime;
  }
  [[nodiscard]] std::shared_ptr<void> open_handles() override { return open_handles_; }
  [[nodiscard]] TlsTarget server_tls() const override {
    if (tls_ == nullptr) return {};
    return {tls_, config_.redis.tls->server_name};
  }
  void read_returned(ReplicaRead read) override;
  void read_ended(ReplicaRead read, Result<ReplicaReply> answer) override;
  void sampled(ReplicaLink&) override { publish_statuses(); }

 private:
  void take_inbox();
  void close_on_loop();
  void sample_master();
  void master_sampled(TimePoint asked_at, const Result<Reply>& reply);
  void follow(const std::vector<Endpoint>& replicas);
  void give(ReplicaRead read);
  void give_to_master(ReplicaRead read);
  [[nodiscard]] std::optional<ReplicaLag> lag_of(const ReplicaLink& link, TimePoint now) const;
  [[nodiscard]] Error explain_none() const;
  void publish_statuses() TIERCEL_EXCLUDES(statuses_mutex_);

  const ReplicaReaderConfig config_;
  const std::shared_ptr<TlsContext> tls_;  // Null: plain.
  Client& master_;
  EventLoop& loop_;
  std::atomic<std::size_t> outstanding_{0};

  Mutex inbox_mutex_;
  std::vector<ReplicaRead> inbox_ TIERCEL_GUARDED_BY(inbox_mutex_);
  bool is_inbox_posted_ TIERCEL_GUARDED_BY(inbox_mutex_) = false;
  bool is_closed_ TIERCEL_GUARDED_BY(inbox_mutex_) = false;

  mutable Mutex statuses_mutex_;
  std::vector<ReplicaStatus> statuses_ TIERCEL_GUARDED_BY(statuses_mutex_);

  Mutex closed_mutex_;
  CondVar closed_changed_;
  bool is_close_begun_ TIERCEL_GUARDED_BY(closed_mutex_) = false;
  bool is_all_closed_ TIERCEL_GUARDED_BY(closed_mutex_) = false;

  // Loop thread only.
  Random random_;
  std::shared_ptr<void> open_handles_;
  std::vector<std::unique_ptr<ReplicaLink>> links_;
  OffsetHistory history_;
  std::optional<Error> master_trouble_ = unavailable("the master was not asked yet");
  std::size_t turn_ = 0;
  EventLoop::TimerId sample_timer_ = 0;
  bool is_stopped_ = false;
};

void ReplicaReader::Core::start() {
  loop_.post([self = shared_from_this()] {
    // The last Connection's handles to be closed let go of it, always on the loop thread.
    self->open_handles_ = std::shared_ptr<void>(nullptr, [self](void*) {
      MutexLock lock{self->closed_mutex_};
      self->is_all_closed_ = true;
      self->closed_changed_.notify_all();
    });
    self->sample_master();
  });
}

void ReplicaReader::Core::submit(ReplicaRead read) {
  if (is_forked()) {
    return read.callback(
        closed("this process is a fork of the one that opened the replica reader"));
  }
  if (read.command.retry() != Retry::kSafe) {
    return read.callback(invalid_argument("a replica runs only commands of Retry::kSafe"));
  }
  if (read.options.staleness_max < std::chrono::milliseconds{1}) {
    return read.callback(invalid_argument("staleness_max: 1 ms or more"));
  }
  if (outstanding_.fetch_add(1, std::memory_order_relaxed) >= config_.redis.queue_commands_max) {
    outstanding_.fetch_sub(1, std::memory_order_relaxed);
    return read.callback(overloaded("queue_commands_max (" +
                                    std::to_string(config_.redis.queue_commands_max) +
                                    ") is reached"));
  }
  bool is_closed = false;
  bool must_post = false;
  {
    MutexLock lock{inbox_mutex_};
    is_closed = is_closed_;
    if (!is_closed) {
      inbox_.push_back(std::move(read));
      must_post = !std::exchange(is_inbox_posted_, true);
    }
  }
  if (is_closed) {
    outstanding_.fetch_sub(1, std::memory_order_relaxed);
    return read.callback(closed("the replica reader is closed"));
  }
  if (must_post) loop_.post([self = shared_from_this()] { self->take_inbox(); });
}

void ReplicaReader::Core::take_inbox() {
  std::vector<ReplicaRead> batch;
  {
    MutexLock lock{inbox_mutex_};
    is_inbox_posted_ = false;
    if (is_closed_) return;  // close_on_loop answers them.
    batch.swap(inbox_);
  }
  for (ReplicaRead& read : batch) give(std::move(read));
}

void ReplicaReader::Core::sample_master() {
  const TimePoint asked_at = clock().now();
  master_.submit(Command{Retry::kSafe, {"INFO", "replication"}},
                 asked_at + std::max<Duration>(config_.sample_interval, kSampleDeadlineMin),
                 [weak = weak_from_this(), &loop = loop_, asked_at](Result<Reply> reply) {
                   loop.post([weak, asked_at, reply = std::move(reply)] {
                     if (const auto self = weak.lock()) self->master_sampled(asked_at, reply);
                   });
                 });
}

void ReplicaReader::Core::master_sampled(TimePoint asked_at, const Result<Reply>& reply) {
  if (is_stopped_) return;
  sample_timer_ = loop_.run_after(config_.sample_interval, [this] {
    sample_timer_ = 0;
    sample_master();
  });
  const auto info = reply && reply->is_string() ? parse_replication_info(reply->text)
                                                : std::optional<ReplicationInfo>{};
  if (!reply) {
    master_trouble_ = reply.error();
  } else if (!info || !info->is_master) {
    master_trouble_ = unavailable("the master's INFO replication makes no sense");
  } else {
    master_trouble_.reset();
    history_.add(*info, asked_at);
    follow(info->replicas);
  }
  // After the master, so that a replica that keeps up has what the master had then.
  for (const auto& link : links_) link->sample();
  publish_statuses();
}

void ReplicaReader::Core::follow(const std::vector<Endpoint>& replicas) {
  const auto first_beyond =
      replicas.begin() + static_cast<std::ptrdiff_t>(std::min(replicas.size(), kReplicasMax));
  const auto is_listed = [&](const Endpoint& endpoint) {
    return std::find(replicas.begin(), first_beyond, endpoint) != first_beyond;
  };
  std::vector<std::unique_ptr<ReplicaLink>> gone;
  for (std::size_t i = links_.size(); i-- > 0;) {
    if (is_listed(links_[i]->endpoint())) continue;
    gone.push_back(std::move(links_[i]));
    links_.erase(links_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  for (const auto& link : gone) link->stop();
  for (auto replica = replicas.begin(); replica != first_beyond; ++replica) {
    const bool is_known = std::any_of(links_.begin(), links_.end(), [replica](const auto& link) {
      return link->endpoint() == *replica;
    });
    if (is_known) continue;
    links_.push_back(std::make_unique<ReplicaLink>(*this, *replica));
    links_.back()->start();
  }
}

std::optional<ReplicaLag> ReplicaReader::Core::lag_of(const ReplicaLink& link,
                                                      TimePoint now) const {
  if (!link.is_up() || !link.info() || link.is_silent()) return std::nullopt;
  const auto caught_up_to = history_.caught_up_to(*link.info());
  if (!caught_up_to) return std::nullopt;
  return ReplicaLag{now - *caught_up_to, history_.bytes_behind(*link.info()),
                    now - link.sampled_at()};
}

void ReplicaReader::Core::give(ReplicaRead read) {
  const TimePoint now = clock().now();
  if (read.deadline <= now) {
    return read_ended(std::move(read), unavailable("not sent before its deadline"));
  }
  // Each replica once at most: what has been handed round to all goes on.
  const bool may_try = read.tries < links_.size() && !is_stopped_;
  for (std::size_t i = 0; may_try && i < links_.size(); ++i) {
    ReplicaLink& link = *links_[(turn_ + i) % links_.size()];
    const auto lag = lag_of(link, now);
    if (!lag || lag->behind_max > read.options.staleness_max) continue;
    turn_ = (turn_ + i + 1) % links_.size();
    return link.read(std::move(read), *lag);
  }
  if (is_stopped_) {
    return read_ended(std::move(read), closed("the replica reader was closed"));
  }
  if (read.options.from == ReadFrom::kReplica) return read_ended(std::move(read), explain_none());
  give_to_master(std::move(read));
}

void ReplicaReader::Core::give_to_master(ReplicaRead read) {
  outstanding_.fetch_sub(1, std::memory_order_relaxed);
  master_.submit(std::move(read.command), read.deadline,
                 [callback = std::move(read.callback)](Result<Reply> reply) mutable {
                   if (!reply) return callback(reply.error());
                   callback(ReplicaReply{std::move(*reply), {}, {}});
                 });
}

void ReplicaReader::Core::read_returned(ReplicaRead read) { give(std::move(read)); }

void ReplicaReader::Core::read_ended(ReplicaRead read, Result<ReplicaReply> answer) {
  outstanding_.fetch_sub(1, std::memory_order_relaxed);
  read.callback(std::move(answer));
}

Error ReplicaReader::Core::explain_none() const {
  constexpr std::size_t kNamedMax = 3;
  std::string why = "no replica may answer: ";
  const auto trouble = master_trouble_ ? master_trouble_ : master_.data_trouble();
  if (trouble) why += "the master cannot be asked: " + trouble->message + "; ";
  if (links_.empty()) why += "the master has none online";
  const TimePoint now = clock().now();
  for (std::size_t i = 0; i < std::min(links_.size(), kNamedMax); ++i) {
    const ReplicaLink& link = *links_[i];
    why += (i == 0 ? "" : "; ") + link.endpoint().to_string() + ": ";
    if (link.trouble()) {
      why += link.trouble()->message;
    } else if (link.is_silent()) {
      why += "it does not answer";
    } else if (const auto lag = lag_of(link, now)) {
      why += "up to " + std::to_string(to_milliseconds(lag->behind_max)) + " ms behind";
    } else {
      why += "how far it is behind is not known";
    }
  }
  return unavailable(std::move(why));
}

void ReplicaReader::Core::publish_statuses() {
  const TimePoint now = clock().now();
  std::vector<ReplicaStatus> statuses;
  for (const auto& link : links_) {
    statuses.push_back({link->endpoint(), lag_of(*link, now), link->trouble()});
  }
  MutexLock lock{statuses_mutex_};
  statuses_ = std::move(statuses);
}

void ReplicaReader::Core::close() {
  if (is_forked()) return;
  bool is_first = false;
  {
    MutexLock lock{closed_mutex_};
    is_first = !std::exchange(is_close_begun_, true);
  }
  TIERCEL_CHECK(!loop_.on_loop_thread());  // It would wait for itself.
  if (is_first) {
    loop_.post([self = shared_from_this()] { self->close_on_loop(); });
  }
  MutexLock lock{closed_mutex_};
  while (!is_all_closed_) closed_changed_.wait(closed_mutex_);
}

void ReplicaReader::Core::close_on_loop() {
  std::vector<ReplicaRead> last;
  {
    MutexLock lock{inbox_mutex_};
    is_closed_ = true;
    last.swap(inbox_);
  }
  is_stopped_ = true;
  loop_.cancel(std::exchange(sample_timer_, 0));
  for (const auto& link : links_) link->stop();
  links_.clear();
  for (ReplicaRead& read : last) {
    read_ended(std::move(read), closed("the replica reader was closed"));
  }
  open_handles_.reset();
}

ReplicaReader::ReplicaReader(std::shared_ptr<Core> core) : core_(std::move(core)) {}

ReplicaReader::~ReplicaReader() {
  if (core_->is_forked()) {
    // What it holds must not be closed here; see event_loop.h.
    static_cast<void>(new std::shared_ptr<Core>(std::move(core_)));
  } else {
    close();
  }
}

Result<std::unique_ptr<ReplicaReader>> ReplicaReader::open(ReplicaReaderConfig config,
                                                           Client& master, EventLoop& loop) {
  if (auto checked = validate(config.redis); !checked) return checked.error();
  if (config.clock == nullptr) return invalid_argument("clock: must not be null");
  if (config.sample_interval < std::chrono::milliseconds{10} ||
      config.sample_interval > std::chrono::minutes{1}) {
    return invalid_argument("sample_interval: 10 ms to 1 min");
  }
  auto tls = TlsContext::create_if_wanted(config.redis, config.log);
  if (!tls) return tls.error();
  if (auto started = loop.start(); !started) return started.error();
  auto core = std::make_shared<Core>(std::move(config), std::move(*tls), master, loop);
  core->start();
  return std::unique_ptr<ReplicaReader>{new ReplicaReader(std::move(core))};
}

void ReplicaReader::read(Command command, ReplicaReadOptions options, TimePoint deadline,
                         Callback callback) {
  TIERCEL_CHECK(static_cast<bool>(callback));
  core_->submit({std::move(command), options, deadline, std::move(callback), 0});
}

std::vector<ReplicaStatus> ReplicaReader::replicas() const { return core_->statuses(); }

void ReplicaReader::close() { core_->close(); }

}  // namespace tiercel::l2
