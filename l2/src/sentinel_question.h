#pragma once

// SentinelQuestion: asks one Sentinel what it knows of our master: for a round (who is it?), and
// for a survey (what else is seen of it and its replicas?), side by side. The connection is made at
// the first question and kept, so that a client which has lost its master asks without connecting
// again; a lost one is made anew at the next question, at most once in DialGate::kGap. Loop thread
// only.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "connection.h"
#include "dial_gate.h"
#include "host.h"
#include "master_belief.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/l2/sentinel_survey.h"

namespace tiercel::l2 {

struct SentinelAnswer {
  struct Peer {
    Endpoint endpoint;
    std::string run_id;
  };
  SentinelClaim claim{};
  std::string run_id{};           // Its own; empty before Redis 6.2.
  std::vector<Peer> sentinels{};  // The others, as far as it sees them alive.
};

class SentinelQuestion final : private Connection::Listener {
 public:
  struct Outcome {
    std::optional<SentinelAnswer> answer;
    Error error;  // Where there is no answer. kInvalidArgument: it lives, and refuses us.
    bool is_master_unknown = false;  // It lives, and knows no master of this name.
  };
  using Ended = UniqueFunction<void(const Outcome&)>;

  // `ended` is called once for each ask(), never from within it, and may destroy this.
  SentinelQuestion(Host& host, Endpoint sentinel, Ended ended);
  ~SentinelQuestion() override;
  SentinelQuestion(const SentinelQuestion&) = delete;
  SentinelQuestion& operator=(const SentinelQuestion&) = delete;

  // No more than one question at a time: ignored while one is under way.
  void ask();
  [[nodiscard]] bool is_asking() const noexcept { return is_asking_; }

  // The survey's question: no more than one of it, either. `surveyed` is called once, never from
  // within, unless end_survey() or the destructor comes before. Errors: kInvalidArgument: it
  // refuses us, or knows no such master; kUnavailable, kProtocol.
  using Surveyed = UniqueFunction<void(Result<SentinelView>)>;
  void survey(Surveyed surveyed);
  // No answer is awaited any more. Nor is the connection that owes one, if it owes nothing else:
  // the next survey shall not wait for what may be dead.
  void end_survey();

 private:
  enum class Step : std::uint8_t {
    kAuth,
    kMaster,
    kCurrent,
    kSentinels,
    kMyId,
    kInfo,
    kMasters,
    kSurveyMaster,
    kSurveyCurrent,
    kSurveyReplicas,
    kSurveyMyId,
    kSurveyInfo,
  };
  struct Survey {
    std::uint64_t number = 0;
    Surveyed surveyed;
    bool is_sent = false;
    SentinelView view{};
  };
  // A reply to come.
  struct Awaited {
    Step step;
    std::uint64_t survey = 0;  // Whose; of one that has ended it is thrown away.
  };

  void connection_ready() override;
  void connection_reply(Reply reply) override;
  void connection_lost(const Error& reason) override;

  void connect_or_send();
  void dial();
  void send();
  void survey_reply(Step step, const Reply& reply);
  void refuse_survey(const std::string& what, const Reply& reply);
  void end_survey_with(Result<SentinelView> result);
  [[nodiscard]] Error refusal(const std::string& what, const Reply& reply) const;
  void take_master(const Reply& reply);
  void take_current(const Reply& reply);
  void take_sentinels(const Reply& reply);
  void take_masters(const Reply& reply);
  void fail(Error error);
  void hang_up();
  void end_with(Error error, bool is_master_unknown = false);
  void end();

  Host& host_;
  const Endpoint sentinel_;
  Ended ended_;
  std::shared_ptr<Connection> connection_;
  bool is_ready_ = false;  // The connection is open.
  bool is_auth_sent_ = false;
  bool is_asking_ = false;
  bool is_sent_ = false;              // The round's question, on this connection.
  bool is_connection_fresh_ = false;  // Made for the questions under way.
  DialGate gate_;
  EventLoop::TimerId timer_ = 0;       // The question's limit.
  EventLoop::TimerId dial_timer_ = 0;  // Until the gate opens.
  std::deque<Awaited> awaited_;        // Replies to come, the next one first.
  std::optional<Survey> survey_;       // Under way.
  std::uint64_t surveys_ = 0;

  // Of the question under way.
  std::optional<Reply> refusal_;  // To SENTINEL MASTER; what GET-MASTER-ADDR says decides.
  bool awaits_masters_ = false;
  SentinelAnswer answer_;
};

}  // namespace tiercel::l2
