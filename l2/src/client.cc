// Invariants: everything behind Core's loop-thread members happens on the loop thread; other
// threads reach it by the queue (one posted task for all that is submitted before it runs) and by
// close(), after which nothing enters the queue. Lock order: the queue's mutex and the loop's are
// never held together; no callback runs under either.

#include "tiercel/l2/client.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "client_core.h"
#include "one_shot_event.h"
#include "replica_lag.h"
#include "resp_format.h"
#include "tiercel/base/check.h"

namespace tiercel::l2 {

namespace {

// A direct call that has taken so long goes on as an ordinary command: the server is slow, and the
// loop has all that a slow server calls for.
constexpr Duration kLoanMax = std::chrono::milliseconds{5};

}  // namespace

void Client::Core::start() {
  loop_.post([self = shared_from_this()] {
    // The last Connection's handles to be closed let go of it, always on the loop thread. The
    // reference to the Core keeps the mutex alive until then.
    self->open_handles_ = std::shared_ptr<void>(nullptr, [self](void*) {
      MutexLock lock{self->closed_mutex_};
      self->is_all_closed_ = true;
      self->closed_changed_.notify_all();
      if (self->when_closed_.empty()) return;
      // Not from within the destructor of a handle.
      self->loop_.post([when_closed = std::move(self->when_closed_)]() mutable {
        for (auto& done : when_closed) done();
      });
    });
    self->finder_.start();
    self->data_.start();
    if (!self->config_.channel.empty()) self->stream_.start();
  });
}

Error Client::Core::refusal(SubmitQueue::Verdict verdict) {
  using Verdict = SubmitQueue::Verdict;
  if (verdict == Verdict::kClosed) return closed("the client is closed");
  if (verdict == Verdict::kTooLarge) {
    return invalid_argument(
        "the command is larger than queue_bytes_max, or the pipeline longer than "
        "queue_commands_max: it can never be sent");
  }
  counters_.commands_overloaded.fetch_add(1, std::memory_order_relaxed);
  const RedisOptions& redis = config_.redis;
  return overloaded(
      verdict == Verdict::kTooManyCommands
          ? "queue_commands_max (" + std::to_string(redis.queue_commands_max) + ") is reached"
          : "queue_bytes_max (" + std::to_string(redis.queue_bytes_max) + ") is reached");
}

void Client::Core::wake() {
  if (is_wake_posted_.exchange(true)) return;
  loop_.post([self = shared_from_this()] {
    self->is_wake_posted_.store(false);  // Before it looks: what comes later posts again.
    self->data_.accept();
  });
}

void Client::Core::submit_together(UniqueFunction<void()>& submits) {
  const bool was_posted = is_wake_posted_.exchange(true);
  submits();
  if (!was_posted) is_wake_posted_.store(false);  // Before it looks, as in wake().
  data_.accept();
}

bool Client::Core::try_directly(std::string_view command, Retry retry, TimePoint deadline,
                                ViewCallback& callback) {
  if (loop_.is_forked() || command.size() > SubmitQueue::kSharedBytesMax) return false;
  const TimePoint begin = Clock::system().now();
  const auto lent = queue_.borrow(command.size(), begin);
  if (!lent) return false;
  const TimePoint now = clock().now();
  const Duration patience = std::min<Duration>(deadline - now, kLoanMax);
  // A deadline that has passed is for the loop to tell.
  const auto handed_back = patience > Duration{0} ? exchange(*lent, command, begin, patience)
                                                  : std::optional{HandBack{}};
  if (!handed_back) {
    callback(lent->parser->view());
    // What the server has sent beyond the reply is for the loop to judge.
    if (lent->parser->is_empty() && queue_.give_back(command.size())) return true;
  }
  queue_.begin_return();
  wake();
  if (handed_back) {
    const SubmitQueue::Request request{.bytes = command.size(),
                                       .retry = retry,
                                       .deadline = deadline,
                                       .script = nullptr,
                                       .is_call = true};
    queue_.return_unanswered(request, command, callback, now, *handed_back);
  } else {
    queue_.return_socket(command.size());
  }
  return true;
}

void Client::Core::begin_close(UniqueFunction<void()> done) {
  if (loop_.is_forked()) return;
  bool is_first = false;
  {
    MutexLock lock{closed_mutex_};
    is_first = !std::exchange(is_close_begun_, true);
    if (done && !is_all_closed_) when_closed_.push_back(std::exchange(done, nullptr));
  }
  if (done) loop_.post(std::move(done));
  if (is_first) {
    loop_.post([self = shared_from_this()] { self->close_on_loop(); });
  }
}

void Client::Core::close() {
  if (loop_.is_forked()) return;
  begin_close(nullptr);
  MutexLock lock{closed_mutex_};
  if (is_all_closed_) return;
  TIERCEL_CHECK(!loop_.on_loop_thread());  // It would wait for itself.
  while (!is_all_closed_) closed_changed_.wait(closed_mutex_);
}

void Client::Core::close_on_loop() {
  later_.stop();  // From here on nothing is asked.
  watched_.stop();
  finder_.stop();
  stream_.stop();
  data_.close();
  open_handles_.reset();
}

void Client::Core::ask_replication(TimePoint deadline, ReplicationCallback callback) {
  if (later_.is_stopped()) return callback(closed("the client is closed"));
  static const std::string wire{Command{Retry::kSafe, {"INFO", "replication"}}.wire()};
  ViewCallback answer{[this, callback = std::move(callback)](Result<ReplyView> reply) mutable {
    if (!reply) return callback(reply.error());
    callback(take_replication_info(*reply, config_.redis.credentials, data_.endpoint()));
  }};
  auto refused = data_.ask(wire, deadline, answer);
  if (!refused) return;
  later_.run([answer = std::move(answer), refused = std::move(*refused)]() mutable {
    answer(std::move(refused));
  });
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
  if (loop_.is_forked()) return {};  // A mutex may be locked for ever.
  const auto read = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  ClientStats stats;
  stats.commands_submitted = queue_.submitted();
  stats.commands_overloaded = read(counters_.commands_overloaded);
  stats.replies_late = read(counters_.replies_late);
  stats.retries = read(counters_.retries);
  stats.connects_attempted = read(counters_.connects_attempted);
  stats.connects_failed = read(counters_.connects_failed);
  stats.master_changes = read(counters_.master_changes);
  stats.commands_waiting = queue_.waiting();
  stats.direct_calls = queue_.direct_calls();
  return stats;
}

Client::Client(std::shared_ptr<Core> core) : core_(std::move(core)) {}

Client::~Client() {
  if (core_->loop().is_forked()) {
    // What it holds must not be closed here; see event_loop.h.
    static_cast<void>(new std::shared_ptr<Core>(std::move(core_)));
  } else {
    close();
  }
}

Result<std::unique_ptr<Client>> Client::open(ClientConfig config, EventLoop& loop) {
  if (auto checked = validate(config.redis); !checked) return checked.error();
  if (config.clock == nullptr) return invalid_argument("clock: must not be null");
  if (!config.track_prefix.empty() && config.channel.empty()) {
    return invalid_argument("track_prefix: needs a channel");
  }
  auto tls = TlsContext::create_if_wanted(config.redis, config.log);
  if (!tls) return tls.error();
  if (auto started = loop.start(); !started) return started.error();
  auto core = std::make_shared<Core>(std::move(config), std::move(*tls), loop);
  core->start();
  return std::unique_ptr<Client>{new Client(std::move(core))};
}

namespace {

// The bytes of EVALSHA with these arguments, written to where they are sent from.
class ScriptRequest {
 public:
  using Words = std::span<const std::string_view>;

  ScriptRequest(const Script& script, Words keys, Words arguments)
      : script_(script),
        keys_(keys),
        arguments_(arguments),
        words_(3 + keys.size() + arguments.size()),
        key_count_(std::to_string(keys.size())) {
    bytes_ = array_header_bytes(words_) + bulk_bytes(kCommand.size()) +
             bulk_bytes(script.sha1().size()) + bulk_bytes(key_count_.size());
    for (const Words words : {keys, arguments}) {
      for (const std::string_view word : words) bytes_ += bulk_bytes(word.size());
    }
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  void write(char* out) const noexcept {
    const char* const begin = out;
    out = write_decimal_line(out, '*', words_);
    out = write_bulk(out, kCommand);
    out = write_bulk(out, script_.sha1());
    out = write_bulk(out, key_count_);
    for (const Words words : {keys_, arguments_}) {
      for (const std::string_view word : words) out = write_bulk(out, word);
    }
    TIERCEL_CHECK(static_cast<std::size_t>(out - begin) == bytes_);
  }

 private:
  static constexpr std::string_view kCommand = "EVALSHA";

  const Script& script_;
  const Words keys_;
  const Words arguments_;
  const std::size_t words_;
  const std::string key_count_;  // At most 20 digits: inside the string.
  std::size_t bytes_;
};

}  // namespace

template <typename Callback>
std::optional<Error> Client::try_submit(Command& command, TimePoint deadline, Callback& callback,
                                        bool is_call) {
  const SubmitQueue::Request request{.bytes = command.size_,
                                     .retry = command.retry_,
                                     .deadline = deadline,
                                     .script = nullptr,
                                     .is_call = is_call};
  if (command.chunk_ != nullptr && command.size_ > SubmitQueue::kSharedBytesMax) {
    return core_->try_submit(request, callback, OwnChunk{std::exchange(command.chunk_, nullptr)});
  }
  const std::string_view wire = command.wire();
  return core_->try_submit(request, callback, [wire](char* out) noexcept {
    std::memcpy(out, wire.data(), wire.size());
  });
}

template <typename Callback>
void Client::submit_any(Command& command, TimePoint deadline, Callback& callback) {
  TIERCEL_CHECK(static_cast<bool>(callback));
  if (auto refused = try_submit(command, deadline, callback)) callback(std::move(*refused));
}

template <typename Callback>
void Client::submit_any_script(const Script& script, std::span<const std::string_view> keys,
                               std::span<const std::string_view> arguments, Retry retry,
                               TimePoint deadline, Callback& callback) {
  TIERCEL_CHECK(static_cast<bool>(callback));
  const ScriptRequest words{script, keys, arguments};
  auto refused = core_->try_submit(
      {.bytes = words.bytes(), .retry = retry, .deadline = deadline, .script = &script}, callback,
      [&words](char* out) noexcept { words.write(out); });
  if (refused) callback(std::move(*refused));
}

void Client::submit(Command command, TimePoint deadline, ReplyCallback callback) {
  submit_any(command, deadline, callback);
}

void Client::submit_view(Command command, TimePoint deadline, ViewCallback callback) {
  submit_any(command, deadline, callback);
}

void Client::submit_script(const Script& script, std::span<const std::string_view> keys,
                           std::span<const std::string_view> arguments, Retry retry,
                           TimePoint deadline, ReplyCallback callback) {
  submit_any_script(script, keys, arguments, retry, deadline, callback);
}

void Client::submit_script_view(const Script& script, std::span<const std::string_view> keys,
                                std::span<const std::string_view> arguments, Retry retry,
                                TimePoint deadline, ViewCallback callback) {
  submit_any_script(script, keys, arguments, retry, deadline, callback);
}

void Client::submit_pipeline(Pipeline& pipeline, TimePoint deadline, PipelineCallback each) {
  TIERCEL_CHECK(static_cast<bool>(each));
  if (pipeline.empty()) return;
  const std::size_t count = pipeline.size();
  std::unique_ptr<PipelineAnswers> answers{new PipelineAnswers{std::move(each), count}};
  const auto refused = core_->try_submit(pipeline, deadline, answers.get());
  if (!refused) return static_cast<void>(answers.release());
  pipeline.clear();
  for (std::size_t i = 0; i < count; ++i) answers->each(i, *refused);
}

void Client::submit_together(UniqueFunction<void()> submits) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->submit_together(submits);
}

bool CommandAwaitable::await_suspend(std::coroutine_handle<> waiter) {
  waiter_ = waiter;
  ViewCallback callback{[this](Result<ReplyView> reply) {
    result_.emplace(reply ? Result<Reply>{reply->to_reply()} : std::move(reply).error());
    waiter_.resume();  // Destroys this, perhaps.
  }};
  // Once it is accepted the coroutine may already run on the loop thread, so nothing of this may be
  // touched any more; an error that comes at once is answered without suspending.
  auto refused = client_.try_submit(command_, deadline_, callback);
  if (!refused) return true;
  result_.emplace(std::move(*refused));
  return false;
}

Result<Reply> Client::call(Command command, TimePoint deadline) {
  if (core_->loop().on_loop_thread()) {
    return invalid_argument("call() on the loop thread would wait for itself: use submit()");
  }
  std::optional<Result<Reply>> result;
  OneShotEvent came;
  ViewCallback callback{[&result, &came](Result<ReplyView> reply) {
    result.emplace(reply ? Result<Reply>{reply->to_reply()} : std::move(reply).error());
    came.set();
  }};
  if (!core_->try_directly(command.wire(), command.retry(), deadline, callback)) {
    if (auto refused = try_submit(command, deadline, callback, true)) return std::move(*refused);
  }
  came.wait();
  return std::move(*result);
}

void Client::stream_ping(std::string_view token) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->ping(token);
}

void Client::stream_redial(std::string_view reason) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->redial_stream(reason);
}

void Client::leave_master(std::string_view reason) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->leave_master(reason);
}

void Client::ask_replication(TimePoint deadline, ReplicationCallback callback) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->ask_replication(deadline, std::move(callback));
}

void Client::watch_servers(std::span<const Endpoint> servers) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->watch_servers(servers);
}

void Client::ask_server(const Endpoint& server, TimePoint deadline, ReplicationCallback callback) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->ask_server(server, deadline, std::move(callback));
}

void Client::survey_sentinels(TimePoint deadline, SurveyCallback callback) {
  TIERCEL_CHECK(core_->loop().on_loop_thread());
  core_->survey_sentinels(deadline, std::move(callback));
}

std::optional<Error> Client::data_trouble() const {
  return core_->loop().is_forked() ? forked() : core_->data_trouble();
}

std::optional<Error> Client::stream_trouble() const {
  return core_->loop().is_forked() ? forked() : core_->stream_trouble();
}

ClientStats Client::stats() const { return core_->stats(); }

std::vector<SentinelStatus> Client::sentinels() const {
  if (core_->loop().is_forked()) return {};  // A mutex may be locked for ever.
  return core_->sentinels();
}

void Client::close() { core_->close(); }

void Client::close_then(UniqueFunction<void()> done) { core_->begin_close(std::move(done)); }

}  // namespace tiercel::l2
