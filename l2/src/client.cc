// Invariants: everything behind Core's loop-thread members happens on the loop thread; other
// threads reach it by the inbox (one posted task for all that is submitted before it runs) and by
// close(). Once `is_closed_` is set nothing enters the inbox. Lock order: the inbox mutex and the
// loop's are never held together; no callback runs under either.

#include "tiercel/l2/client.h"

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "data_link.h"
#include "dial_gate.h"
#include "host.h"
#include "master_finder.h"
#include "pending_command.h"
#include "resp_format.h"
#include "stream_link.h"
#include "tiercel/base/check.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/random.h"

namespace tiercel::l2 {

class Client::Core final : public Host, public std::enable_shared_from_this<Client::Core> {
 public:
  Core(ClientConfig config, EventLoop& loop)
      : config_(std::move(config)),
        loop_(loop),
        random_(config_.seed != 0 ? Random{config_.seed} : Random::from_entropy()),
        finder_(*this),
        data_(*this),
        stream_(*this, config_.channel) {}

  void start();
  void submit(PendingCommand command);
  void close() TIERCEL_EXCLUDES(closed_mutex_);

  void ping(std::string_view token) { stream_.ping(token); }
  void redial_stream(std::string_view reason) { stream_.redial(unavailable(std::string{reason})); }
  [[nodiscard]] std::optional<Error> data_trouble() const { return data_.trouble(); }
  [[nodiscard]] std::optional<Error> stream_trouble() const { return stream_.trouble(); }
  [[nodiscard]] ClientStats stats() const;
  [[nodiscard]] std::vector<SentinelStatus> sentinels() const { return finder_.sentinels(); }

  [[nodiscard]] EventLoop& loop() noexcept override { return loop_; }
  [[nodiscard]] const RedisOptions& redis() const noexcept override { return config_.redis; }
  [[nodiscard]] const Clock& clock() const noexcept override { return *config_.clock; }
  [[nodiscard]] Random& random() noexcept override { return random_; }
  [[nodiscard]] Counters& counters() noexcept override { return counters_; }
  [[nodiscard]] LinkObserver* observer() noexcept override { return config_.observer; }
  [[nodiscard]] MasterFinder& finder() noexcept override { return finder_; }
  [[nodiscard]] DialGate& dial_gate() noexcept override { return dial_gate_; }
  [[nodiscard]] std::shared_ptr<void> open_handles() override { return open_handles_; }
  void log(LogLevel level, const std::string& message) override {
    if (config_.log) config_.log(level, message);
  }
  void move_links(const Endpoint& master, bool only_those_up) override;
  void found_not_master(const Endpoint& endpoint, const Error& reason) override;

 private:
  void take_inbox();
  void close_on_loop();

  const ClientConfig config_;
  EventLoop& loop_;
  Counters counters_;

  Mutex inbox_mutex_;
  std::vector<PendingCommand> inbox_ TIERCEL_GUARDED_BY(inbox_mutex_);
  bool is_inbox_posted_ TIERCEL_GUARDED_BY(inbox_mutex_) = false;
  bool is_closed_ TIERCEL_GUARDED_BY(inbox_mutex_) = false;

  Mutex closed_mutex_;
  CondVar closed_changed_;
  bool is_close_begun_ TIERCEL_GUARDED_BY(closed_mutex_) = false;
  bool is_all_closed_ TIERCEL_GUARDED_BY(closed_mutex_) = false;

  // Loop thread only.
  Random random_;
  std::vector<PendingCommand> batch_;
  std::shared_ptr<void> open_handles_;
  DialGate dial_gate_;
  MasterFinder finder_;
  DataLink data_;
  StreamLink stream_;
};

void Client::Core::start() {
  loop_.post([self = shared_from_this()] {
    // The last Connection's handles to be closed let go of it, always on the loop thread. The
    // reference to the Core keeps the mutex alive until then.
    self->open_handles_ = std::shared_ptr<void>(nullptr, [self](void*) {
      MutexLock lock{self->closed_mutex_};
      self->is_all_closed_ = true;
      self->closed_changed_.notify_all();
    });
    self->finder_.start();
    self->data_.start();
    if (!self->config_.channel.empty()) self->stream_.start();
  });
}

void Client::Core::submit(PendingCommand command) {
  TIERCEL_CHECK(static_cast<bool>(command.callback));
  const RedisOptions& redis = config_.redis;
  command.charged_bytes = command.wire.size();
  if (command.charged_bytes > redis.queue_bytes_max) {
    return command.callback(
        invalid_argument("the command is larger than queue_bytes_max, it can never be sent"));
  }
  const std::size_t commands = counters_.commands.fetch_add(1, std::memory_order_relaxed) + 1;
  const std::size_t bytes =
      counters_.bytes.fetch_add(command.charged_bytes, std::memory_order_relaxed) +
      command.charged_bytes;
  const bool is_full = commands > redis.queue_commands_max || bytes > redis.queue_bytes_max;
  bool is_closed = false;
  bool must_post = false;
  if (!is_full) {
    MutexLock lock{inbox_mutex_};
    is_closed = is_closed_;
    if (!is_closed) {
      inbox_.push_back(std::move(command));
      must_post = !std::exchange(is_inbox_posted_, true);
    }
  }
  if (is_full || is_closed) {
    counters_.commands.fetch_sub(1, std::memory_order_relaxed);
    counters_.bytes.fetch_sub(command.charged_bytes, std::memory_order_relaxed);
    if (is_closed) return command.callback(closed("the client is closed"));
    counters_.commands_overloaded.fetch_add(1, std::memory_order_relaxed);
    return command.callback(overloaded(
        commands > redis.queue_commands_max
            ? "queue_commands_max (" + std::to_string(redis.queue_commands_max) + ") is reached"
            : "queue_bytes_max (" + std::to_string(redis.queue_bytes_max) + ") is reached"));
  }
  counters_.commands_submitted.fetch_add(1, std::memory_order_relaxed);
  if (must_post) loop_.post([self = shared_from_this()] { self->take_inbox(); });
}

void Client::Core::take_inbox() {
  {
    MutexLock lock{inbox_mutex_};
    is_inbox_posted_ = false;
    if (is_closed_) return;  // close_on_loop answers them.
    batch_.swap(inbox_);
  }
  data_.accept(batch_);
}

void Client::Core::close() {
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

void Client::Core::close_on_loop() {
  std::vector<PendingCommand> last;
  {
    MutexLock lock{inbox_mutex_};
    is_closed_ = true;
    last.swap(inbox_);
  }
  finder_.stop();
  stream_.stop();
  data_.close();
  for (PendingCommand& command : last) {
    counters_.commands.fetch_sub(1, std::memory_order_relaxed);
    counters_.bytes.fetch_sub(command.charged_bytes, std::memory_order_relaxed);
    command.callback(closed("the client was closed before the command was sent"));
  }
  open_handles_.reset();
}

void Client::Core::move_links(const Endpoint& master, bool only_those_up) {
  // Every client of a fleet hears of a new master in the same millisecond.
  const Duration spread = std::min<Duration>(config_.redis.backoff_min, DialGate::kGap);
  const Duration jitter{
      static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(spread.count())))};
  if (!only_those_up || data_.is_up()) data_.go_to(master, jitter);
  if (config_.channel.empty()) return;
  if (!only_those_up || stream_.is_up()) stream_.go_to(master, jitter);
}

void Client::Core::found_not_master(const Endpoint& endpoint, const Error& reason) {
  finder_.found_not_master(endpoint);
  if (data_.is_up() && data_.endpoint() == endpoint) data_.leave(reason);
  if (stream_.is_up() && stream_.endpoint() == endpoint) stream_.redial(reason);
}

ClientStats Client::Core::stats() const {
  const auto read = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  ClientStats stats;
  stats.commands_submitted = read(counters_.commands_submitted);
  stats.commands_overloaded = read(counters_.commands_overloaded);
  stats.replies_late = read(counters_.replies_late);
  stats.retries = read(counters_.retries);
  stats.connects_attempted = read(counters_.connects_attempted);
  stats.connects_failed = read(counters_.connects_failed);
  stats.master_changes = read(counters_.master_changes);
  stats.commands_waiting = read(counters_.commands);
  return stats;
}

Client::Client(std::shared_ptr<Core> core) : core_(std::move(core)) {}

Client::~Client() { close(); }

Result<std::unique_ptr<Client>> Client::open(ClientConfig config, EventLoop& loop) {
  if (auto checked = validate(config.redis); !checked) return checked.error();
  if (config.clock == nullptr) return invalid_argument("clock: must not be null");
  if (auto started = loop.start(); !started) return started.error();
  auto core = std::make_shared<Core>(std::move(config), loop);
  core->start();
  return std::unique_ptr<Client>{new Client(std::move(core))};
}

void Client::submit(Command command, TimePoint deadline, ReplyCallback callback) {
  PendingCommand pending;
  pending.retry = command.retry();
  pending.wire = std::move(command).take_wire();
  pending.deadline = deadline;
  pending.callback = std::move(callback);
  core_->submit(std::move(pending));
}

void Client::submit_script(const Script& script, std::span<const std::string_view> keys,
                           std::span<const std::string_view> arguments, Retry retry,
                           TimePoint deadline, ReplyCallback callback) {
  constexpr std::string_view kCommand = "EVALSHA";
  const std::string key_count = std::to_string(keys.size());
  PendingCommand pending;
  pending.script = &script;
  pending.script_words = 3 + keys.size() + arguments.size();
  pending.tail_offset = array_header_bytes(pending.script_words) + bulk_bytes(kCommand.size()) +
                        bulk_bytes(script.sha1().size());
  std::size_t bytes = pending.tail_offset + bulk_bytes(key_count.size());
  for (const auto words : {keys, arguments}) {
    for (const std::string_view word : words) bytes += bulk_bytes(word.size());
  }
  pending.wire.reserve(bytes);
  append_array_header(pending.wire, pending.script_words);
  append_bulk(pending.wire, kCommand);
  append_bulk(pending.wire, script.sha1());
  append_bulk(pending.wire, key_count);
  for (const auto words : {keys, arguments}) {
    for (const std::string_view word : words) append_bulk(pending.wire, word);
  }
  TIERCEL_CHECK(pending.wire.size() == bytes);
  pending.retry = retry;
  pending.deadline = deadline;
  pending.callback = std::move(callback);
  core_->submit(std::move(pending));
}

Result<Reply> Client::call(Command command, TimePoint deadline) {
  if (core_->loop().on_loop_thread()) {
    return invalid_argument("call() on the loop thread would wait for itself: use submit()");
  }
  struct Answer {
    Mutex mutex;
    CondVar came;
    std::optional<Result<Reply>> result TIERCEL_GUARDED_BY(mutex);
  };
  // Shared: the loop thread may still be unlocking when the caller has already returned.
  const auto answer = std::make_shared<Answer>();
  submit(std::move(command), deadline, [answer](Result<Reply> result) {
    MutexLock lock{answer->mutex};
    answer->result = std::move(result);
    answer->came.notify_one();
  });
  MutexLock lock{answer->mutex};
  while (!answer->result) answer->came.wait(answer->mutex);
  return std::move(*answer->result);
}

void Client::stream_ping(std::string_view token) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->ping(token);
}

void Client::stream_redial(std::string_view reason) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->redial_stream(reason);
}

std::optional<Error> Client::data_trouble() const { return core_->data_trouble(); }

std::optional<Error> Client::stream_trouble() const { return core_->stream_trouble(); }

ClientStats Client::stats() const { return core_->stats(); }

std::vector<SentinelStatus> Client::sentinels() const { return core_->sentinels(); }

void Client::close() { core_->close(); }

}  // namespace tiercel::l2
