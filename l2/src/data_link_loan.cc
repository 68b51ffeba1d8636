// DataLink's part of direct calls: when the connection is lent, and how it comes back. The picture
// and the races: docs/design/l2.md.
//
// Invariants: is_lent_ is true from lend() until the loan is recalled or collected, and then the
// connection is the loop's in every respect but that its replies may not have been looked at:
// Connection::take_back does that, last, since the listener may redial.

#include <algorithm>
#include <utility>

#include "data_link.h"
#include "event_loop_native.h"

namespace tiercel::l2 {
namespace {

// So many calls in a row, each with nothing else in flight, before the connection is lent.
constexpr int kLonelyCalls = 8;
// After so long without a direct call the loop reads again: only who reads notices that the server
// has closed the connection.
constexpr Duration kLoanIdleMax = std::chrono::milliseconds{10};

}  // namespace

// `commands`: in flight with the write that begins now.
void DataLink::count_lonely_call(std::size_t commands) noexcept {
  const bool is_lonely = commands == 1 && in_flight_.front()->is_call;
  lonely_calls_ = is_lonely ? lonely_calls_ + 1 : 0;
}

// Not on a user's loop, which must not be made to wait for a borrower (link_leaving).
bool DataLink::lend() {
  if (host().clock().now() < lend_after_) return false;
  if (lonely_calls_ < kLonelyCalls || !is_up() || was_paused_ || drain_timer_ != 0) return false;
  if (!in_flight_.empty() || !returned_.empty() || !waiting_.empty()) return false;
  if (host().loop().native().is_users() || !kick_.open()) return false;
  auto socket = connection().lend();
  if (!socket) return false;
  socket->kick_fd = kick_.fd();
  if (!queue_.offer(*socket)) {
    connection().take_back({});
    return false;
  }
  is_lent_ = true;
  lonely_calls_ = 0;
  watch_loan();
  return true;
}

void DataLink::watch_loan() {
  loan_timer_ = host().loop().run_after(kLoanIdleMax, [this] {
    loan_timer_ = 0;
    switch (queue_.recall_if_unused()) {
      case LoanState::kNone: end_loan({}); return connection().take_back({});
      case LoanState::kWanted: kick_.give(); break;
      default: break;
    }
    watch_loan();
  });
}

// True if the connection is here. Else the borrower tells us when he returns it.
bool DataLink::recall() {
  const LoanState state = queue_.recall();
  if (state == LoanState::kWanted) kick_.give();
  if (state != LoanState::kNone) return false;
  end_loan({});
  connection().take_back({});
  return is_up();
}

void DataLink::collect() {
  if (!is_lent_) return;
  const auto returned = queue_.collect(false);
  if (!returned) return;
  end_loan(*returned);
  connection().take_back(returned->how);
}

// Waits for a borrower, who is kicked and will react at once. For when the connection is about to
// go.
HandBack DataLink::reclaim() {
  SubmitQueue::Returned returned;
  if (queue_.recall() != LoanState::kNone) {
    kick_.give();
    returned = *queue_.collect(true);
  }
  end_loan(returned);
  return returned.how;
}

void DataLink::link_leaving() {
  if (is_lent_) reclaim();  // His command has been sent or not: all else is lost with the socket.
}

void DataLink::end_loan(const SubmitQueue::Returned& returned) {
  is_lent_ = false;
  host().loop().cancel(std::exchange(loan_timer_, 0));
  kick_.take_back();
  PendingCommand* const command = returned.command;
  if (command == nullptr) return;
  if (const std::size_t written = returned.how.written; written == 0) {
    put_back(command);
  } else {
    command->place = PendingCommand::Place::kInFlight;
    in_flight_.push_back(command);
    deadlines_.add(*command);
    const Slice rest{command->bytes + written, command->length - written, command->chunk};
    if (rest.size > 0) connection().write({&rest, 1});
  }
  start_sweep();
}

}  // namespace tiercel::l2
