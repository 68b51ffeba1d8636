#pragma once

// LinkDriver: carries the events of the two links to the coherence Session and its actions back. It
// lives on the loop thread; what other threads may ask is said.

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"
#include "tiercel/cache/stats.h"
#include "tiercel/coherence/lease.h"
#include "tiercel/coherence/session.h"
#include "tiercel/l2/client.h"

namespace tiercel {

class LinkDriver final : public l2::LinkObserver {
 public:
  // What the actions mean for the cache. Called on the loop thread.
  class Host {
   public:
    virtual ~Host() = default;
    virtual void drop_l1() = 0;
    virtual void evict(std::string_view key, coherence::Version version) = 0;
  };

  LinkDriver(coherence::SessionOptions options, const Clock& clock, l2::EventLoop& loop, Host& host,
             coherence::LeaseCell& cell, LogSink log);

  // Before the first event.
  void attach(l2::Client& client) { client_ = &client; }

  // Loop thread only. True while what D delivers now may be put into L1.
  [[nodiscard]] bool fills_allowed() const { return session_.fills_allowed(); }

  void note_fill(coherence::Version version) { session_.note_fill(version); }

  // Any thread.
  [[nodiscard]] LeaseInfo lease() const;
  [[nodiscard]] bool data_is_up() const;
  // Waits for a change of the lease or of D, but not longer than `limit`.
  void wait_for_change(Duration limit);
  struct Counts {
    std::uint64_t messages = 0;
    std::uint64_t messages_unreadable = 0;
    std::uint64_t epochs = 0;
  };
  [[nodiscard]] Counts counts() const;

  void data_up(const l2::ServerIdentity& server) override;
  void data_down(const Error& reason) override;
  void stream_up(const l2::ServerIdentity& server) override;
  void stream_down(const Error& reason) override;
  void stream_message(std::string_view payload) override;
  void stream_pong(std::string_view token) override;
  void stream_ping_refused(std::string_view server_error) override;

 private:
  void settle();  // After each event: publish the lease, carry out the actions, arm the timer.
  void run(const coherence::Action& action);
  void publish();
  void arm_timer();
  void log(LogLevel level, std::string_view message) const;

  // Immutable.
  const Clock& clock_;
  l2::EventLoop& loop_;
  Host& host_;
  coherence::LeaseCell& cell_;
  const LogSink log_;
  l2::Client* client_ = nullptr;

  // Loop thread only.
  coherence::Session session_;
  coherence::Actions actions_;
  l2::EventLoop::TimerId timer_ = 0;
  TimePoint timer_at_;
  bool lease_was_granted_ = false;

  std::atomic<std::uint64_t> messages_{0};
  std::atomic<std::uint64_t> messages_unreadable_{0};

  // What other threads are told.
  mutable Mutex mutex_;
  CondVar changed_;
  std::string epoch_ TIERCEL_GUARDED_BY(mutex_);
  std::string master_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t epochs_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool data_is_up_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel
