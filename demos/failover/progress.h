#pragma once

// Progress: one line a second for people who watch, and a line for each event. Prints to standard
// output and flushes. One owner.

#include <string>

#include "failover/board.h"
#include "failover/events.h"
#include "failover/tally.h"

namespace tiercel::failover {

class Progress {
 public:
  // Prints the head of the table. The board must outlive it.
  Progress(const Board& board, TimePoint began_at);

  // The line of the second that has just passed.
  void line();
  void event(const Event& event);

 private:
  const Board& board_;
  const TimePoint began_at_;
  TimePoint last_at_;
  Tally last_;
};

// "1.2 us", "340 us", "12 ms"; "-" for none.
std::string duration_text(std::optional<Duration> duration);
// "1,234,567"
std::string number_text(std::uint64_t number);

}  // namespace tiercel::failover
