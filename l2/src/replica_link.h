#pragma once

// ReplicaLink: a connection to one replica: reads in order, pipelined, and samples of its
// replication offset between them. It hands back what it could not get an answer to. Loop thread
// only.

#include <cstdint>
#include <deque>
#include <optional>

#include "dial_context.h"
#include "kept_connection.h"
#include "replica_lag.h"
#include "tiercel/l2/replica_reader.h"

namespace tiercel::l2 {

// A read from its submission to its answer.
struct ReplicaRead {
  Command command;
  ReplicaReadOptions options;
  TimePoint deadline{};
  ReplicaReader::Callback callback;
  std::size_t tries = 0;  // Replicas that it was given to.
};

class ReplicaLink final : public KeptConnection {
 public:
  // What a link needs of its surroundings, and tells them.
  class Owner : public DialContext {
   public:
    // A replica that has not answered a sample for this long hands its reads back.
    [[nodiscard]] virtual Duration silence_max() const noexcept = 0;
    // The replica did not answer: someone else may. Not from within read().
    virtual void read_returned(ReplicaRead read) = 0;
    // The answer to a read, or its end by its deadline.
    virtual void read_ended(ReplicaRead read, Result<ReplicaReply> answer) = 0;
    virtual void sampled(ReplicaLink& link) = 0;
  };

  ReplicaLink(Owner& owner, Endpoint replica);
  ~ReplicaLink() override;

  // Hands all its reads back.
  void stop();

  // It owes us a sample for longer than silence_max. One that hangs is not behind while the master
  // writes nothing, but it is of no use.
  [[nodiscard]] bool is_silent() const {
    return is_sampling_ && owner_.clock().now() - asked_at_ > owner_.silence_max();
  }

  // While up. The lag is that at this moment, and goes with the answer.
  void read(ReplicaRead read, const ReplicaLag& lag);
  void sample();

  // The last sample that stands; nothing before the first, and when it was no replica.
  [[nodiscard]] const std::optional<ReplicationInfo>& info() const noexcept { return info_; }
  [[nodiscard]] TimePoint sampled_at() const noexcept { return sampled_at_; }

 private:
  // What a reply is for. A read that was answered by its deadline stays, empty, for its late reply.
  struct Sent {
    bool is_sample = false;
    std::optional<ReplicaRead> read{};
    ReplicaLag lag{};
    TimePoint at{};
  };

  void kept_up() override { sample(); }
  void kept_reply(const ReplyView& reply) override;
  void kept_down(const Error& reason) override;

  void forget_sample();
  void return_reads();
  void take_back_reads();
  void take_sample(const ReplyView& reply);
  void take_answer(Sent sent, const ReplyView& reply);
  void start_sweep();
  void sweep();

  Owner& owner_;
  bool is_sampling_ = false;
  TimePoint asked_at_{};  // For the last sample.
  std::deque<Sent> sent_;
  EventLoop::TimerId sweep_timer_ = 0;
  std::optional<ReplicationInfo> info_;
  TimePoint sampled_at_{};
};

}  // namespace tiercel::l2
