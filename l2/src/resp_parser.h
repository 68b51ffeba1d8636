#pragma once

// RespParser: bytes of a RESP2 stream in, replies out. The bytes are read straight into its buffer
// (room, filled) and replies are views of it, so that nothing is copied unless the taker wants it.
//
// Bounds, past each of which the stream is refused: nesting of arrays, bytes and parts of one
// reply, bytes of one line. Sizes that a peer announces reserve nothing; memory grows with what has
// come.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/result.h"
#include "tiercel/l2/reply.h"

namespace tiercel::l2 {

class RespParser {
 public:
  // Redis' own replies reach 12 levels (COMMAND DOCS), those of scripts as many as their authors
  // like. A level costs 16 bytes here, and a stack frame in ReplyView::to_reply().
  static constexpr std::size_t kArraysOpenMax = 128;
  // Redis bounds one string at 512 MB; twice that leaves room for arrays and stops a peer that
  // never ends its reply from filling our memory.
  static constexpr std::size_t kReplyBytesMax = std::size_t{1} << 30;
  // Arrays and their elements. Four bytes on the wire make one, and one costs 24 here.
  static constexpr std::size_t kReplyPartsMax = std::size_t{16} << 20;
  static constexpr std::size_t kLineBytesMax = std::size_t{1} << 20;
  // Of one read. More lets the client and the server take turns instead of working side by side:
  // measured, 64 KiB costs a third of the throughput of small replies.
  static constexpr std::size_t kReadBytes = 16 * 1024;
  // While a larger string is on its way.
  static constexpr std::size_t kLargeReadBytes = 32 * 1024;

  RespParser();
  ~RespParser();
  RespParser(const RespParser&) = delete;
  RespParser& operator=(const RespParser&) = delete;

  // Where the next bytes of the stream are to be written, at least kReadBytes. Ends every view.
  [[nodiscard]] std::span<char> room();
  // So many bytes have been written there.
  void filled(std::size_t bytes) noexcept { end_ += bytes; }
  // Every byte that came belongs to a reply that was passed on.
  [[nodiscard]] bool is_empty() const noexcept { return begin_ == end_; }

  enum class Outcome : std::uint8_t {
    kReply,  // view() is the next reply.
    kMore,   // More bytes are needed.
    kError,  // error() says why, and so does every further call: the stream is lost.
  };
  [[nodiscard]] Outcome parse();
  // Valid until the next call of parse(), room() or feed().
  [[nodiscard]] ReplyView view() const noexcept { return {nodes_.data(), reply_text_}; }
  [[nodiscard]] const Error& error() const noexcept { return *error_; }

  // The same for those who have the bytes already and want values. Errors: kProtocol.
  Result<void> feed(std::string_view bytes);
  Result<std::optional<Reply>> next();

 private:
  enum class Step : std::uint8_t { kLeaf, kOpened, kMore, kError };
  struct OpenArray {
    std::size_t node;
    std::uint32_t left;  // Elements still to come.
  };

  Step read_part();
  Step read_line(char type);
  Step read_number(char type);
  Step read_string(std::int64_t length, std::size_t from);
  Step open_array(std::int64_t length);
  void add_node(Reply::Kind kind, std::int64_t number, std::size_t length);
  Step fail(std::string message);
  [[nodiscard]] Outcome need_more();
  void make_room(std::size_t bytes);

  struct Free {
    void operator()(char* memory) const noexcept;
  };

  // The bytes [begin_, end_) have come and are not yet consumed.
  std::unique_ptr<char, Free> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;

  // Of the reply that begins at begin_; positions are relative to it, since the buffer may move.
  std::size_t at_ = 0;       // What comes before it is parsed.
  std::size_t scanned_ = 0;  // Of the line at at_: has no end.
  std::size_t missing_ = 0;  // At least so many bytes more are needed.
  std::vector<ReplyNode> nodes_;
  std::size_t nodes_used_ = 0;
  OpenArray open_[kArraysOpenMax];
  std::size_t open_count_ = 0;

  const char* reply_text_ = nullptr;  // Of the last complete reply.
  std::optional<Error> error_;
};

}  // namespace tiercel::l2
