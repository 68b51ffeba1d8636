#pragma once

// SentinelQuestion: asks one Sentinel what it knows of our master. The connection is made at the
// first question and kept, so that a client which has lost its master asks without connecting
// again; a lost one is made anew at the next question, at most once in DialGate::kGap. Loop thread
// only.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "connection.h"
#include "dial_gate.h"
#include "host.h"
#include "master_belief.h"
#include "tiercel/base/unique_function.h"

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

 private:
  enum class Step : std::uint8_t { kAuth, kMaster, kCurrent, kSentinels, kMyId, kInfo, kMasters };

  void connection_ready() override;
  void connection_reply(Reply reply) override;
  void connection_lost(const Error& reason) override;

  void dial();
  void send();
  void take_master(const Reply& reply);
  void take_current(const Reply& reply);
  void take_sentinels(const Reply& reply);
  void take_masters(const Reply& reply);
  void refuse(const std::string& what, const Reply& reply);
  void hang_up();
  void end_with(Error error, bool is_master_unknown = false);
  void end();

  Host& host_;
  const Endpoint sentinel_;
  Ended ended_;
  std::shared_ptr<Connection> connection_;
  bool is_ready_ = false;  // The connection is open, and authenticated if need be.
  bool is_authenticated_ = false;
  bool is_asking_ = false;
  bool is_connection_fresh_ = false;  // Made for this question.
  DialGate gate_;
  EventLoop::TimerId timer_ = 0;       // The question's limit.
  EventLoop::TimerId dial_timer_ = 0;  // Until the gate opens.
  std::vector<Step> steps_;            // Replies awaited, next one last.

  // Of the question under way.
  std::optional<Reply> refusal_;  // To SENTINEL MASTER; what GET-MASTER-ADDR says decides.
  SentinelAnswer answer_;
};

}  // namespace tiercel::l2
