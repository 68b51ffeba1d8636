#pragma once

// DataLink: D. Sends the commands of all threads in order, pipelined, and gives each its answer:
// see the table in client.h. Loop thread only.

#include <array>
#include <cstdint>
#include <deque>
#include <string_view>

#include "deadline_buckets.h"
#include "link.h"
#include "pending_command.h"
#include "submit_queue.h"

namespace tiercel::l2 {

class DataLink final : public Link {
 public:
  static constexpr std::size_t kQuestionsMax = 8;

  explicit DataLink(Host& host);
  ~DataLink() override;

  // Takes what has been submitted, in order, and sends what can be sent. Also what a direct call
  // has left to do.
  void accept();
  // Sends these bytes now, before all that waits, on this connection or not at all. The error, if
  // they cannot be sent; the callback is then still the caller's. At most kQuestionsMax
  // outstanding.
  [[nodiscard]] std::optional<Error> ask(std::string_view wire, TimePoint deadline,
                                         ViewCallback& callback);
  // The server is no master: gives the connection up, after a moment for the replies in flight.
  void leave(const Error& reason);
  // Stops, and answers everything: the client is closed.
  void close();

 private:
  void take();
  void link_handshaken() override;
  void link_up(const ServerIdentity& server) override;
  void link_down(const Error& reason) override;
  void link_failed(const Error& reason) override;
  void link_reply(const ReplyView& reply) override;
  void link_read_end(bool more) override;
  void link_drained() override;
  void link_leaving() override;

  void flush();
  [[nodiscard]] PendingCommand* take_next(TimePoint now);
  void put_back(PendingCommand* command);
  [[nodiscard]] bool handle_not_executed(PendingCommand* command, const ReplyView& reply);
  void make_whole_script(PendingCommand& command);
  void pause(std::string_view said);
  void leave_replica(std::string_view said);
  void begin_drain(const Error& reason);
  void finish_drain();
  void forget_connection();
  void flush_soon();

  // Direct calls: data_link_loan.cc.
  void count_lonely_call(std::size_t commands) noexcept;
  [[nodiscard]] bool lend();
  [[nodiscard]] bool recall();
  void collect();
  HandBack reclaim();
  void watch_loan();
  void end_loan(const SubmitQueue::Returned& returned);

  void start_sweep(bool at_once = false);
  [[nodiscard]] bool sweep();
  [[nodiscard]] bool sort_by_deadline();
  [[nodiscard]] bool expire(TimePoint now);
  void expire(PendingCommand* command);
  void trim_returned() noexcept;
  [[nodiscard]] Error not_sent_in_time() const;
  [[nodiscard]] Error too_late_to_send(const PendingCommand& command) const;
  [[nodiscard]] Error no_reply_in_time(const PendingCommand& command) const;

  void release(PendingCommand* command) noexcept;
  void recycle(PendingCommand* command) noexcept;
  void discard(PendingCommand* command) noexcept;
  void answer(PendingCommand* command, Error error);
  void answer_unsent(const Error& error);

  SubmitQueue& queue_;
  std::array<PendingCommand, kQuestionsMax> questions_;
  PendingList free_questions_;  // Those of them that are not in in_flight_.

  // The three queues hold each command once. Oldest first: in_flight_ in the order of sending,
  // returned_ (nothing of it ran, or it may run twice) and waiting_ by sequence; returned_ is sent
  // first. In in_flight_ and returned_ answered ones may stay as tombstones; a tombstone in
  // returned_ counts against no bound any more.
  PendingList in_flight_;
  std::deque<PendingCommand*> returned_;
  PendingList waiting_;

  // Most commands are answered long before their deadlines. So they are sorted by them only when
  // the first deadline among them is reached: all of returned_, and of in_flight_ and waiting_, one
  // behind the other, those up to and including sorted_last_ (null: none). Of those behind it no
  // deadline is before unsorted_deadline_min_.
  DeadlineBuckets deadlines_;
  PendingCommand* sorted_last_ = nullptr;
  TimePoint unsorted_deadline_min_ = TimePoint::max();
  EventLoop::TimerId sweep_timer_ = 0;
  std::uint64_t swept_sequence_ = 0;  // The last that waited when there was a sweep.
  std::size_t overdue_left_ = 0;      // So many more may be answered in this turn by flush().

  EventLoop::TimerId flush_timer_ = 0;

  // NOSCRIPT: nothing is sent until the replies in flight are there, for those behind may be told
  // the same, and what is sent meanwhile would overtake them.
  bool is_reordering_ = false;

  // Direct calls. While is_lent_ the three lists but waiting_ are empty, and nobody here touches
  // the connection.
  bool is_lent_ = false;
  Kick kick_;
  EventLoop::TimerId loan_timer_ = 0;
  TimePoint lend_after_{};
  int lonely_calls_ = 0;  // In a row, each alone in its write with nothing else in flight.

  // LOADING and the like: nothing is sent until the timer fires.
  EventLoop::TimerId pause_timer_ = 0;
  Backoff pause_backoff_;
  bool was_paused_ = false;  // And no ordinary reply has come since.

  // READONLY: nothing is sent any more; the replies to what is in flight are awaited for a moment.
  EventLoop::TimerId drain_timer_ = 0;
  Error drain_reason_;
};

}  // namespace tiercel::l2
