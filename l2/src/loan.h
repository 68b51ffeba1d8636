#pragma once

// A loan: the loop lets threads that make blocking calls use D's socket and parser by themselves,
// one at a time, so that a call costs no trip through the loop. docs/design/l2.md, "Direct calls",
// has the picture.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "resp_parser.h"
#include "tiercel/base/clock.h"

namespace tiercel::l2 {

// What is lent. Nothing is in flight on the socket, and the parser is empty.
struct LentSocket {
  int fd = -1;       // Does not block.
  int kick_fd = -1;  // Readable: the loop wants it back.
  RespParser* parser = nullptr;
  // It was used a moment ago, as if the loop had just read it: no use in looking what has come.
  bool is_fresh = false;
};

enum class LoanState : std::uint8_t {
  kNone,       // The loop has the socket.
  kOffered,    // Nobody uses it, and the loop does not read it: who calls may take it.
  kBorrowed,   // One thread has it.
  kWanted,     // The same, and the loop has asked for it.
  kReturning,  // That thread is about to say kReturned, and does not wait for anything before.
  kReturned,   // It is for the loop to collect, with a HandBack.
};

// In what state a borrower leaves the socket.
struct HandBack {
  std::size_t written = 0;  // Of the command's bytes. 0: the server has seen nothing of it.
  bool has_reply = false;   // The parser's view() is the reply, and nobody has looked at it.
  int failure = 0;          // Set: what read or write said, as libuv counts errors.
};

// Sends the command and waits for its reply, then parser->view(); or says how far it came, when
// something is not as usual: the server is slow (`patience`) or gone, the loop wants the socket
// back, an error reply. `now`: on Clock::system(). Any thread, the borrower's.
[[nodiscard]] std::optional<HandBack> exchange(const LentSocket& lent, std::string_view command,
                                               TimePoint now, Duration patience);

// By which the loop gets a borrower out of its wait. Loop thread only; the fd is for poll().
class Kick {
 public:
  Kick() = default;
  Kick(const Kick&) = delete;
  Kick& operator=(const Kick&) = delete;
  ~Kick();

  // False: there are no file descriptors left.
  [[nodiscard]] bool open() noexcept;
  [[nodiscard]] int fd() const noexcept { return fd_; }
  void give() noexcept;
  void take_back() noexcept;  // When the borrower has reacted, to whatever.

 private:
  int fd_ = -1;
  bool is_given_ = false;
};

}  // namespace tiercel::l2
