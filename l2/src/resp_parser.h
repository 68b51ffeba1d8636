#pragma once

// RespParser: bytes of a RESP2 stream in, Replies out, by hiredis' redisReader with object
// functions of our own, so that each string is copied once, into its Reply. Nesting is limited to 7
// (hiredis), one reply to kReplyBytesMax, one line to kLineBytesMax.

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

#include "tiercel/base/result.h"
#include "tiercel/l2/reply.h"

struct redisReader;

namespace tiercel::l2 {

class RespParser {
 public:
  // Redis bounds one string at 512 MB; twice that leaves room for arrays and stops a peer that
  // never ends its reply from filling our memory.
  static constexpr std::size_t kReplyBytesMax = std::size_t{1} << 30;
  // Statuses, errors and lengths are lines. redisReader scans an unfinished line anew at each feed,
  // so an endless one would also cost quadratic time.
  static constexpr std::size_t kLineBytesMax = std::size_t{1} << 20;

  RespParser();
  ~RespParser();
  RespParser(const RespParser&) = delete;
  RespParser& operator=(const RespParser&) = delete;

  // Errors: kProtocol. After an error every further call answers it again.
  Result<void> feed(std::string_view bytes);
  // The next complete reply, or nothing when more bytes are needed. Errors: kProtocol.
  Result<std::optional<Reply>> next();

 private:
  struct FreeReader {
    void operator()(redisReader* reader) const noexcept;
  };

  [[nodiscard]] bool unfinished_line_is_too_long() const noexcept;
  Error fail(std::string message);

  std::unique_ptr<redisReader, FreeReader> reader_;
  std::size_t reply_bytes_ = 0;  // Fed since the last complete reply.
  std::optional<Error> error_;
};

}  // namespace tiercel::l2
