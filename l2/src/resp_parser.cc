// Invariants: begin_ + at_ <= end_ <= capacity_. nodes_[0, nodes_used_) are the parts of the reply
// that begins at begin_, in the order of the stream; those of open arrays have no extent yet.
// Between replies at_, nodes_used_ and open_count_ are 0. A part of which not all has come is
// looked at again from its first byte, except for the length of a line already searched: what is
// looked at twice is then at most a few digits, and parsing stays linear in the bytes.

#include "resp_parser.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

namespace tiercel::l2 {
namespace {

// More than one read and the rest of the last, so that rests are seldom moved.
constexpr std::size_t kBufferBytes = 2 * RespParser::kReadBytes;
// A buffer or a list of parts that one reply made larger than this is given back after it.
constexpr std::size_t kBufferBytesKept = std::size_t{1} << 20;
constexpr std::size_t kNodesKept = std::size_t{1} << 15;
// A rest shorter than this is moved to the front of the buffer, which is in the cache.
constexpr std::size_t kRestBytesMoved = 1024;

Reply to_reply_at(const ReplyView& view);

}  // namespace

void RespParser::Free::operator()(char* memory) const noexcept {
  std::free(memory);  // NOLINT(cppcoreguidelines-no-malloc): see make_room.
}

RespParser::RespParser() : nodes_(1) {}

RespParser::~RespParser() = default;

std::span<char> RespParser::room() {
  const std::size_t rest = end_ - begin_;
  if (rest == 0) {
    begin_ = end_ = 0;
    if (capacity_ > kBufferBytesKept) {
      buffer_.reset();
      capacity_ = 0;
    }
  } else if (begin_ > 0 && rest < kRestBytesMoved) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, rest);
    begin_ = 0;
    end_ = rest;
  }
  const std::size_t bytes = missing_ > kReadBytes ? kLargeReadBytes : kReadBytes;
  if (capacity_ - end_ < bytes) make_room(bytes);
  return {buffer_.get() + end_, bytes};
}

void RespParser::make_room(std::size_t bytes) {
  const std::size_t rest = end_ - begin_;
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, rest);
    begin_ = 0;
    end_ = rest;
    if (capacity_ - end_ >= bytes) return;
  }
  // Twice as much each time, so that the copying stays linear; and by realloc, which moves the
  // pages of a large buffer instead of its bytes.
  const std::size_t capacity = std::max({kBufferBytes, 2 * capacity_, end_ + bytes});
  auto* const grown = static_cast<char*>(std::realloc(buffer_.get(), capacity));
  if (grown == nullptr) throw std::bad_alloc{};
  static_cast<void>(buffer_.release());
  buffer_.reset(grown);
  capacity_ = capacity;
}

RespParser::Step RespParser::fail(std::string message) {
  error_ = protocol_error("cannot read the reply: " + std::move(message));
  return Step::kError;
}

inline void RespParser::add_node(Reply::Kind kind, std::int64_t number, std::size_t length) {
  if (nodes_used_ == nodes_.size()) nodes_.resize(2 * nodes_used_);
  nodes_[nodes_used_++] = {number, static_cast<std::uint32_t>(length), 1, kind};
}

RespParser::Outcome RespParser::parse() {
  if (error_) return Outcome::kError;
  if (nodes_.size() > kNodesKept && nodes_used_ == 0) nodes_ = std::vector<ReplyNode>(1);
  do {
    switch (read_part()) {
      case Step::kMore: return need_more();
      case Step::kError: return Outcome::kError;
      case Step::kOpened: continue;
      case Step::kLeaf: break;
    }
    while (open_count_ > 0 && --open_[open_count_ - 1].left == 0) {
      const std::size_t node = open_[--open_count_].node;
      nodes_[node].extent = static_cast<std::uint32_t>(nodes_used_ - node);
    }
  } while (open_count_ > 0);
  reply_text_ = buffer_.get() + begin_;
  begin_ += std::exchange(at_, 0);
  nodes_used_ = 0;
  return Outcome::kReply;
}

RespParser::Outcome RespParser::need_more() {
  if (end_ - begin_ + missing_ <= kReplyBytesMax) return Outcome::kMore;
  fail("a reply is longer than " + std::to_string(kReplyBytesMax) + " bytes");
  return Outcome::kError;
}

RespParser::Step RespParser::read_part() {
  missing_ = 1;
  if (begin_ + at_ == end_) return Step::kMore;
  if (nodes_used_ == kReplyPartsMax) {
    return fail("more than " + std::to_string(kReplyPartsMax) + " parts");
  }
  const char type = buffer_.get()[begin_ + at_];
  switch (type) {
    case '$':
    case ':':
    case '*': return read_number(type);
    case '+':
    case '-': return read_line(type);
    default: return fail("it begins with byte " + std::to_string(static_cast<unsigned char>(type)));
  }
}

// A number without leading zeros and its line's end: of `:`, `$` or `*`.
RespParser::Step RespParser::read_number(char type) {
  const char* const begin = buffer_.get() + begin_;
  const char* const end = buffer_.get() + end_;
  const char* p = begin + at_ + 1;
  if (p == end) return Step::kMore;
  const bool is_negative = *p == '-';
  if (is_negative && ++p == end) return Step::kMore;
  const char* const digits = p;
  std::uint64_t number = 0;
  constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
  for (; p != end && *p >= '0' && *p <= '9'; ++p) {
    const auto digit = static_cast<std::uint64_t>(*p - '0');
    if (number > (kMax + 1) / 10) return fail("a number out of range");
    number = number * 10 + digit;
    if (number > kMax + (is_negative ? 1 : 0)) return fail("a number out of range");
  }
  const auto count = p - digits;
  if (count > 1 && *digits == '0') return fail("a number with a leading zero");
  if (p == end) return Step::kMore;
  if (*p != '\r' || count == 0 || (is_negative && number == 0)) return fail("not a number");
  if (++p == end) return Step::kMore;
  if (*p != '\n') return fail("a number's line does not end");
  ++p;
  const auto value = static_cast<std::int64_t>(is_negative ? ~number + 1 : number);
  const auto after = static_cast<std::size_t>(p - begin);
  if (type == '$') return read_string(value, after);
  at_ = after;
  if (type == '*') return open_array(value);
  add_node(Reply::Kind::kInteger, value, 0);
  return Step::kLeaf;
}

inline RespParser::Step RespParser::read_string(std::int64_t length, std::size_t from) {
  if (length < 0) {
    if (length != -1) return fail("a string of negative length");
    at_ = from;
    add_node(Reply::Kind::kNil, 0, 0);
    return Step::kLeaf;
  }
  const auto bytes = static_cast<std::uint64_t>(length);
  if (bytes > kReplyBytesMax) {
    return fail("a reply is longer than " + std::to_string(kReplyBytesMax) + " bytes");
  }
  const std::size_t after = from + bytes + 2;
  if (const std::size_t have = end_ - begin_; have < after) {
    missing_ = after - have;
    return Step::kMore;
  }
  const char* const line_end = buffer_.get() + begin_ + from + bytes;
  if (line_end[0] != '\r' || line_end[1] != '\n') return fail("a string does not end");
  add_node(Reply::Kind::kString, static_cast<std::int64_t>(from), bytes);
  at_ = after;
  return Step::kLeaf;
}

RespParser::Step RespParser::open_array(std::int64_t length) {
  if (length == -1) {
    add_node(Reply::Kind::kNil, 0, 0);
    return Step::kLeaf;
  }
  if (length < 0 || length > std::numeric_limits<std::int32_t>::max()) {
    return fail("an array of " + std::to_string(length) + " elements");
  }
  // An empty one at this depth, too: what it announces is never good.
  if (open_count_ == kArraysOpenMax) return fail("arrays are nested too deeply");
  if (length > 0) open_[open_count_++] = {nodes_used_, static_cast<std::uint32_t>(length)};
  add_node(Reply::Kind::kArray, 0, static_cast<std::size_t>(length));
  return length > 0 ? Step::kOpened : Step::kLeaf;
}

RespParser::Step RespParser::read_line(char type) {
  const char* const begin = buffer_.get() + begin_;
  const char* const text = begin + at_ + 1;
  const char* const end = buffer_.get() + end_;
  const char* p = text + scanned_;
  while (true) {
    p = static_cast<const char*>(std::memchr(p, '\r', static_cast<std::size_t>(end - p)));
    if (p == nullptr || p + 1 == end) {
      scanned_ = static_cast<std::size_t>((p == nullptr ? end : p) - text);
      if (scanned_ > kLineBytesMax) return fail("a line does not end");
      return Step::kMore;
    }
    if (p[1] == '\n') break;
    ++p;
  }
  scanned_ = 0;
  const auto length = static_cast<std::size_t>(p - text);
  if (length > kLineBytesMax) return fail("a line is too long");
  add_node(type == '+' ? Reply::Kind::kStatus : Reply::Kind::kError, text - begin, length);
  at_ = static_cast<std::size_t>(p + 2 - begin);
  return Step::kLeaf;
}

Result<void> RespParser::feed(std::string_view bytes) {
  if (error_) return *error_;
  while (!bytes.empty()) {
    const std::span<char> free = room();
    const std::size_t taken = std::min(free.size(), bytes.size());
    std::memcpy(free.data(), bytes.data(), taken);
    filled(taken);
    bytes.remove_prefix(taken);
  }
  return {};
}

Result<std::optional<Reply>> RespParser::next() {
  switch (parse()) {
    case Outcome::kReply: return std::optional<Reply>{view().to_reply()};
    case Outcome::kMore: return std::optional<Reply>{};
    case Outcome::kError: break;
  }
  return *error_;
}

Reply ReplyView::to_reply() const { return to_reply_at(*this); }

namespace {

// As deep as the parser lets arrays nest.
Reply to_reply_at(const ReplyView& view) {  // NOLINT(misc-no-recursion)
  Reply reply;
  reply.kind = view.kind();
  reply.integer = view.integer();
  reply.text.assign(view.text());
  if (view.size() > 0) {
    reply.elements.reserve(view.size());
    for (const ReplyView element : view) reply.elements.push_back(to_reply_at(element));
  }
  return reply;
}

}  // namespace
}  // namespace tiercel::l2
