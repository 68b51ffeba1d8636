#pragma once

// LinkDriver: carries the events of the two links, and the answers to what the coherence Session
// asks, to the Session, and its actions back. It lives on the loop thread; what other threads may
// ask is said.
//
//   link_driver.cc       events and actions
//   link_questions.cc    what is asked of the master, its replicas, the Sentinels and the history

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"
#include "tiercel/cache/stats.h"
#include "tiercel/coherence/lease.h"
#include "tiercel/coherence/names.h"
#include "tiercel/coherence/session.h"
#include "tiercel/coherence/tag_table.h"
#include "tiercel/l2/client.h"

namespace tiercel {

class LinkDriver final : public l2::LinkObserver {
 public:
  // What the actions mean for the cache. Called on the loop thread.
  class Host {
   public:
    virtual ~Host() = default;
    virtual void bar_fills() = 0;
    virtual void drop_l1() = 0;  // And bars the fills.
    virtual void evict(std::string_view key, coherence::Version version) = 0;
    virtual void refresh(std::string_view key, coherence::Version version,
                         std::string_view stored) = 0;
    virtual void forget_tag(std::string_view tag, coherence::Version version) = 0;
    virtual void clear_before(coherence::Version version) = 0;
    // The tags as they stand in Redis: they are asked for after the one and told by the other.
    virtual void forget_tags() = 0;
    virtual void join_tags(const coherence::TagBaseline& tags) = 0;
    // Tells Redis of this instance's Δ, by D; answers the longest of the fleet.
    virtual void register_lease(TimePoint deadline,
                                UniqueFunction<void(Result<std::chrono::milliseconds>)> done) = 0;
    // Someone's load of the key has ended; what it stored, if it did, is in Redis.
    virtual void fill_done(std::string_view key) = 0;
    // D is up: what could not be sent while it was not.
    virtual void data_is_up() = 0;
    // S is up, on this branch of history; before all else that comes of it.
    virtual void follow(const std::string& branch) = 0;
  };

  LinkDriver(coherence::SessionOptions options, const Clock& clock, l2::EventLoop& loop, Host& host,
             const coherence::Names& names, coherence::LeaseCell& cell, LogSink log);

  // Before the first event.
  void attach(l2::Client& client) { client_ = &client; }

  // Loop thread only. True while what D delivers now may be put into L1.
  [[nodiscard]] bool fills_allowed() const { return session_.fills_allowed(); }
  [[nodiscard]] bool stream_is_up() const { return session_.stream_is_up(); }
  void note_fill(std::string_view key, coherence::Version version) {
    session_.note_fill(key, version);
  }
  void replay_waits(bool waits);
  // Whether all messages up to this version have been applied.
  [[nodiscard]] bool has_reached(coherence::Version version) const {
    return session_.has_reached(version);
  }
  // The branch that S is on, or was last: the replication id.
  [[nodiscard]] const std::string& branch() const noexcept { return branch_; }
  // Whether S is on this server, in this life.
  [[nodiscard]] bool is_on(const l2::ServerIdentity& server) const;

  // Any thread.
  [[nodiscard]] std::uint64_t epochs() const noexcept {
    return epoch_number_.load(std::memory_order_acquire);
  }
  [[nodiscard]] LeaseInfo lease() const;
  [[nodiscard]] std::string why_no_lease() const;
  [[nodiscard]] bool is_data_up() const;
  // Waits for a change of the lease or of D, but not longer than `limit`.
  void wait_for_change(Duration limit);
  struct Counts {
    std::uint64_t messages = 0;
    std::uint64_t messages_unreadable = 0;
    std::uint64_t epochs = 0;
    std::uint64_t epochs_warm = 0;
  };
  [[nodiscard]] Counts counts() const;

  void data_up(const l2::ServerIdentity& server) override;
  void data_down(const Error& reason) override;
  void stream_up(const l2::ServerIdentity& server) override;
  void stream_down(const Error& reason) override;
  void stream_message(std::string_view payload) override;
  void stream_pong(std::string_view token) override;
  void stream_ping_refused(std::string_view server_error) override;
  void stream_tracked(std::span<const std::string_view> keys) override;
  void stream_flushed() override;

 private:
  void settle();  // After each event: publish the lease, carry out the actions, arm the timer.
  void run(coherence::Action& action);
  void publish();
  void arm_timer();
  void log(LogLevel level, std::string_view message) const;

  // --- link_questions.cc
  void ask_master(std::uint64_t token);
  void ask_candidate(const std::string& address, std::uint64_t token);
  void ask_sentinels(std::uint64_t token);
  std::shared_ptr<const bool> register_lease();
  void ask_history(std::uint64_t token, coherence::Version from, std::size_t count);
  void ask_baseline(std::uint64_t token);
  void baseline_answered(std::uint64_t token, const coherence::TagBaseline& tags);
  coherence::TagBaseline tags_of(const l2::Reply& reply);
  void history_answered(std::uint64_t token, std::size_t count, Result<l2::Reply> reply);
  void history_silent(std::uint64_t token);
  void watch_candidates();
  [[nodiscard]] std::string address_of(const l2::Endpoint& endpoint);
  [[nodiscard]] coherence::ReplicationState state_of(const l2::ReplicationInfo& info);
  [[nodiscard]] coherence::SentinelRound round_of(const l2::SentinelSurvey& survey);
  [[nodiscard]] TimePoint answer_by() const { return clock_.now() + options_.stream_timeout; }

  // Immutable.
  const coherence::SessionOptions options_;
  const Clock& clock_;
  l2::EventLoop& loop_;
  Host& host_;
  const coherence::Names& names_;
  coherence::LeaseCell& cell_;
  const LogSink log_;
  l2::Client* client_ = nullptr;

  // Loop thread only.
  coherence::Session session_;
  coherence::Actions actions_;
  l2::EventLoop::TimerId timer_ = 0;
  TimePoint timer_at_;
  bool lease_was_granted_ = false;
  l2::Endpoint stream_endpoint_;                   // Where S is.
  std::string branch_;                             // Likewise.
  std::map<std::string, l2::Endpoint> endpoints_;  // By the names that the Session has for them.
  std::vector<std::string> watched_;

  std::atomic<std::uint64_t> epoch_number_{0};
  std::atomic<std::uint64_t> messages_{0};
  std::atomic<std::uint64_t> messages_unreadable_{0};

  // What other threads are told.
  mutable Mutex mutex_;
  CondVar changed_;
  std::string epoch_ TIERCEL_GUARDED_BY(mutex_);
  std::string master_ TIERCEL_GUARDED_BY(mutex_);
  std::string why_no_lease_ TIERCEL_GUARDED_BY(mutex_);
  coherence::WitnessMode witness_mode_ TIERCEL_GUARDED_BY(mutex_) = coherence::WitnessMode::kNone;
  std::uint64_t epochs_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t epochs_warm_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool is_data_up_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel
