#pragma once

// Client::Core: what a Client consists of, for those sources that implement it.

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data_link.h"
#include "dial_gate.h"
#include "host.h"
#include "later.h"
#include "master_finder.h"
#include "stream_link.h"
#include "submit_queue.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/random.h"
#include "tiercel/l2/client.h"
#include "watched_servers.h"

namespace tiercel::l2 {

inline Error forked() { return closed("this process is a fork of the one that opened the client"); }

class Client::Core final : public Host, public std::enable_shared_from_this<Client::Core> {
 public:
  Core(ClientConfig config, std::shared_ptr<TlsContext> tls, EventLoop& loop)
      : config_(std::move(config)),
        tls_(std::move(tls)),
        loop_(loop),
        queue_({config_.redis.queue_commands_max, config_.redis.queue_bytes_max}),
        random_(config_.seed != 0 ? Random{config_.seed} : Random::from_entropy()),
        later_(loop),
        finder_(*this),
        data_(*this),
        stream_(*this, config_.channel, config_.track_prefix),
        watched_(*this) {}

  void start();
  // The error, if it is refused at once; the callback is then still the caller's.
  template <typename Callback, typename Write>
  [[nodiscard]] std::optional<Error> try_submit(const SubmitQueue::Request& request,
                                                Callback& callback, Write&& write);
  template <typename Callback>
  [[nodiscard]] std::optional<Error> try_submit(const SubmitQueue::Request& request,
                                                Callback& callback, OwnChunk chunk);
  [[nodiscard]] std::optional<Error> try_submit(Pipeline& pipeline, TimePoint deadline,
                                                PipelineAnswers* answers) {
    if (loop_.is_forked()) return forked();
    return conclude(queue_.push_pipeline(pipeline, deadline, answers));
  }
  // Sends the command and reads its reply on this thread, if the connection is on offer. False: it
  // is not, and nothing has happened. True: the callback was called, or will be by the loop.
  [[nodiscard]] bool try_directly(std::string_view command, Retry retry, TimePoint deadline,
                                  ViewCallback& callback);
  void submit_together(UniqueFunction<void()>& submits);
  void begin_close(UniqueFunction<void()> done) TIERCEL_EXCLUDES(closed_mutex_);
  void close() TIERCEL_EXCLUDES(closed_mutex_);

  void ping(std::string_view token) { stream_.ping(token); }
  void redial_stream(std::string_view reason) { stream_.redial(unavailable(std::string{reason})); }
  void leave_master(std::string_view reason) {
    if (!stream_.is_up()) return;
    const Endpoint endpoint = stream_.endpoint();  // It changes on the way.
    found_not_master(endpoint, unavailable(std::string{reason}, endpoint.to_string()));
  }
  void ask_replication(TimePoint deadline, ReplicationCallback callback);
  void watch_servers(std::span<const Endpoint> servers) { watched_.watch(servers); }
  void ask_server(const Endpoint& server, TimePoint deadline, ReplicationCallback callback) {
    watched_.ask(server, deadline, std::move(callback));
  }
  void survey_sentinels(TimePoint deadline, SurveyCallback callback) {
    finder_.survey(deadline, std::move(callback));
  }
  // About the size of the values that batches read lately; it falls slowly. Any thread.
  [[nodiscard]] std::size_t batch_value_bytes() const noexcept {
    return batch_value_bytes_.load(std::memory_order_relaxed);
  }
  // Loop thread only.
  void note_batch_value_bytes(std::size_t mean) noexcept {
    const std::size_t before = batch_value_bytes();
    batch_value_bytes_.store(std::max(mean, before - before / 16), std::memory_order_relaxed);
  }
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
  [[nodiscard]] SubmitQueue& queue() noexcept override { return queue_; }
  [[nodiscard]] Later& later() noexcept override { return later_; }
  [[nodiscard]] std::shared_ptr<void> open_handles() override { return open_handles_; }
  [[nodiscard]] TlsTarget server_tls() const override {
    if (tls_ == nullptr) return {};
    return {tls_, config_.redis.tls->server_name};
  }
  [[nodiscard]] TlsTarget sentinel_tls() const override {
    if (tls_ == nullptr) return {};
    return {tls_, config_.redis.tls->sentinel_server_name};
  }
  void log(LogLevel level, const std::string& message) override {
    if (config_.log) config_.log(level, message);
  }
  void move_links(const Endpoint& master, bool only_those_up) override;
  void found_not_master(const Endpoint& endpoint, const Error& reason) override;

 private:
  [[nodiscard]] std::optional<Error> conclude(SubmitQueue::Verdict verdict) {
    if (verdict == SubmitQueue::Verdict::kAccepted) return std::nullopt;
    if (verdict != SubmitQueue::Verdict::kAcceptedFirst) return refusal(verdict);
    wake();
    return std::nullopt;
  }
  [[nodiscard]] Error refusal(SubmitQueue::Verdict verdict);
  void wake();
  void close_on_loop();

  const ClientConfig config_;
  const std::shared_ptr<TlsContext> tls_;  // Null: plain.
  EventLoop& loop_;
  Counters counters_;

  SubmitQueue queue_;
  // A task that takes what was submitted is on its way to the loop.
  std::atomic<bool> is_wake_posted_{false};
  std::atomic<std::size_t> batch_value_bytes_{0};

  Mutex closed_mutex_;
  CondVar closed_changed_;
  bool is_close_begun_ TIERCEL_GUARDED_BY(closed_mutex_) = false;
  bool is_all_closed_ TIERCEL_GUARDED_BY(closed_mutex_) = false;
  std::vector<UniqueFunction<void()>> when_closed_ TIERCEL_GUARDED_BY(closed_mutex_);

  // Loop thread only.
  Random random_;
  std::shared_ptr<void> open_handles_;
  DialGate dial_gate_;
  Later later_;
  MasterFinder finder_;
  DataLink data_;
  StreamLink stream_;
  WatchedServers watched_;
};

template <typename Callback, typename Write>
std::optional<Error> Client::Core::try_submit(const SubmitQueue::Request& request,
                                              Callback& callback, Write&& write) {
  if (loop_.is_forked()) return forked();
  return conclude(queue_.push(request, callback, std::forward<Write>(write)));
}

template <typename Callback>
std::optional<Error> Client::Core::try_submit(const SubmitQueue::Request& request,
                                              Callback& callback, OwnChunk chunk) {
  if (loop_.is_forked()) return forked();
  return conclude(queue_.push_own(request, callback, chunk));
}

template <typename Callback, typename Write>
std::optional<Error> Client::try_submit_written(std::size_t bytes, Retry retry, TimePoint deadline,
                                                Callback& callback, Write&& write) {
  return core_->try_submit(
      {.bytes = bytes, .retry = retry, .deadline = deadline, .script = nullptr}, callback,
      std::forward<Write>(write));
}

}  // namespace tiercel::l2
