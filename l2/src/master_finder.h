#pragma once

// MasterFinder: where the master is. A fixed server is answered at once. With Sentinels it puts
// together what asking them (Resolver), their events (SentinelWatch, Election) and the links found
// out, decides by the rules of MasterBelief, and moves the links when the master changes. It also
// asks by itself: every kRefreshMean or so, sooner while something awaits confirmation or nobody's
// events reach us, and whenever something looks wrong. docs/design/failover.md has the whole story.
//
// Loop thread only, except sentinels().

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "election.h"
#include "failover_signs.h"
#include "host.h"
#include "master_belief.h"
#include "resolver.h"
#include "sentinel_directory.h"
#include "sentinel_watch.h"
#include "surveyor.h"
#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"

namespace tiercel::l2 {

class MasterFinder final : private Resolver::Listener, private SentinelWatch::Listener {
 public:
  static constexpr Duration kRefreshMean = std::chrono::seconds{10};
  static constexpr Duration kRefreshUnwatched = std::chrono::seconds{2};
  static constexpr Duration kRefreshUnconfirmed = std::chrono::milliseconds{250};
  static constexpr Duration kSuspicionGap = std::chrono::seconds{1};

  // Valid during the call.
  using Waiter = UniqueFunction<void(const Result<Resolution>&)>;

  explicit MasterFinder(Host& host);
  ~MasterFinder() override;
  MasterFinder(const MasterFinder&) = delete;
  MasterFinder& operator=(const MasterFinder&) = delete;

  void start();
  void stop();

  // The waiter is called during this call (fixed server) or later, but not after stop(). Errors:
  // kUnavailable; kInvalidArgument when every Sentinel says that it does not know the name, or
  // refuses us.
  void resolve(Waiter waiter);

  // Something looks wrong with the master (LOADING, no reply in time): all are asked, at most once
  // in kSuspicionGap.
  void suspect();

  // What a link found out about the server that it dialled.
  void found_master(const ServerIdentity& identity) { belief_.found_master(identity); }
  void found_not_master(const Endpoint& endpoint) { belief_.found_not_master(endpoint); }
  void found_unreachable(const Endpoint& endpoint);

  // See Client::survey_sentinels. Beside the rounds, and without an effect on what is believed.
  void survey(TimePoint deadline, SurveyCallback callback) {
    surveyor_.begin(deadline, std::move(callback));
  }

  // Any thread.
  [[nodiscard]] std::vector<SentinelStatus> sentinels() const { return directory_.statuses(); }

 private:
  void round_ended(const Resolver::Round& round) override;
  void answered_late(const SentinelClaim& claim) override;
  void sentinel_event(SentinelDirectory::Id sentinel, const SentinelEvent& event) override;
  void sentinel_subscribed(SentinelDirectory::Id sentinel, bool hears_all) override;
  void sentinel_unsubscribed(SentinelDirectory::Id sentinel) override;
  void sentinel_ponged(SentinelDirectory::Id sentinel, bool is_refused) override;

  [[nodiscard]] bool has_sentinels() const noexcept { return !host_.redis().sentinels.empty(); }
  void ask_soon();
  void schedule_refresh();
  void remember(const Endpoint& master);
  void move_all_links(const Endpoint& master);
  void note_silence(const Resolver::Round& round, bool has_master);

  Host& host_;
  SentinelDirectory directory_;
  MasterBelief belief_;
  Election election_;
  FailoverSigns signs_;
  Resolver resolver_;
  SentinelWatch watch_;
  Surveyor surveyor_;

  std::vector<Waiter> waiters_;
  std::optional<Endpoint> master_;  // As last told to the links.
  TimePoint asked_at_{};            // The end of the last round.
  bool is_silence_logged_ = false;
  EventLoop::TimerId refresh_timer_ = 0;
  EventLoop::TimerId ask_timer_ = 0;
};

}  // namespace tiercel::l2
