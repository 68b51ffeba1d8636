#pragma once

// Resolver: asks all Sentinels at the same time, round by round. A round ends when every Sentinel
// that is not known to be silent has answered, or kSettleTime after the first answer, or, without
// an answer, when all have failed (connect_timeout). So a dead Sentinel costs kSettleTime once, and
// a Sentinel with newer knowledge is heard though others answer first. Surveys go over the same
// connections, beside the rounds. Loop thread only.

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "host.h"
#include "master_belief.h"
#include "sentinel_directory.h"
#include "sentinel_question.h"

namespace tiercel::l2 {

class Resolver {
 public:
  static constexpr Duration kSettleTime = std::chrono::milliseconds{100};

  struct Round {
    std::vector<SentinelClaim> claims;
    // Where there are no claims: kUnavailable, or kInvalidArgument when every Sentinel says that it
    // does not know the name, or refuses us.
    Error error;
    bool is_master_unknown = false;  // No claims, and a living Sentinel knows no such master.
  };

  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void round_ended(const Round& round) = 0;
    // It came when its round was over already.
    virtual void answered_late(const SentinelClaim& claim) = 0;
  };

  // Answers are noted in the directory, whose Sentinels are asked.
  Resolver(Host& host, SentinelDirectory& directory, Listener& listener);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Begins a round, unless one is under way. The listener is told later, not from within.
  void ask_all();
  [[nodiscard]] bool is_asking() const noexcept { return is_asking_; }

  // Asks for a survey; returns whom. Those that were learned since the round under way began are
  // not among them. `surveyed` is called once for each, later, unless end_survey() comes before; no
  // survey may begin from within it. Not from within a listener call or a Sentinel's answer.
  using Surveyed = std::function<void(SentinelDirectory::Id, Result<SentinelView>)>;
  std::vector<SentinelDirectory::Id> survey(const Surveyed& surveyed);
  void end_survey();

  void stop();

 private:
  struct Asked {
    SentinelDirectory::Id id = 0;
    Endpoint endpoint{};
    std::unique_ptr<SentinelQuestion> question{};
    bool is_awaited = false;  // Not known to be silent when the round began.
    // Of this round:
    std::optional<SentinelClaim> claim{};
    std::optional<Error> error{};
    bool is_master_unknown = false;

    [[nodiscard]] bool has_ended() const noexcept { return claim || error; }
  };

  void follow_directory();
  void ended(SentinelDirectory::Id id, const SentinelQuestion::Outcome& outcome);
  void finish_soon(Duration delay);
  void finish();
  [[nodiscard]] Error explain_failure() const;

  Host& host_;
  SentinelDirectory& directory_;
  Listener& listener_;
  std::vector<Asked> asked_;
  bool is_asking_ = false;
  EventLoop::TimerId settle_timer_ = 0;
  bool is_finishing_ = false;  // The timer is that of the end, not of the settle time.
};

}  // namespace tiercel::l2
