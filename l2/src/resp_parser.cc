// Invariants: redisReader keeps one root Reply (freed by free_reply alone) and, for each open
// array, a pointer to the Reply that stands for it. Elements are appended only to the innermost
// open array, so no vector grows while a pointer into it is in use. No exception may pass through
// hiredis (C).

#include "resp_parser.h"

#include <hiredis/read.h>

#include <algorithm>
#include <new>
#include <utility>

#include "tiercel/base/check.h"

namespace tiercel::l2 {
namespace {

// A peer can announce two thousand million elements in ten bytes; room is made as they come.
constexpr int kReserveElementsMax = 1024;

void* place(const redisReadTask* task, Reply&& reply) noexcept {
  try {
    if (task->parent == nullptr) return new Reply(std::move(reply));
    auto* array = static_cast<Reply*>(task->parent->obj);
    return &array->elements.emplace_back(std::move(reply));
  } catch (const std::bad_alloc&) {
    return nullptr;  // The reader reports "out of memory".
  }
}

void* create_string(const redisReadTask* task, char* bytes, std::size_t length) noexcept {
  Reply reply;
  switch (task->type) {
    case REDIS_REPLY_STATUS: reply.kind = Reply::Kind::kStatus; break;
    case REDIS_REPLY_ERROR: reply.kind = Reply::Kind::kError; break;
    default: reply.kind = Reply::Kind::kString; break;
  }
  try {
    reply.text.assign(bytes, length);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  return place(task, std::move(reply));
}

void* create_array(const redisReadTask* task, int elements) noexcept {
  Reply reply;
  reply.kind = Reply::Kind::kArray;
  try {
    reply.elements.reserve(static_cast<std::size_t>(std::clamp(elements, 0, kReserveElementsMax)));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  return place(task, std::move(reply));
}

void* create_integer(const redisReadTask* task, long long value) noexcept {
  Reply reply;
  reply.kind = Reply::Kind::kInteger;
  reply.integer = value;
  return place(task, std::move(reply));
}

void* create_nil(const redisReadTask* task) noexcept { return place(task, Reply{}); }

void free_reply(void* reply) noexcept { delete static_cast<Reply*>(reply); }

redisReplyObjectFunctions object_functions{&create_string, &create_array, &create_integer,
                                           &create_nil, &free_reply};

}  // namespace

void RespParser::FreeReader::operator()(redisReader* reader) const noexcept {
  redisReaderFree(reader);
}

RespParser::RespParser() : reader_(redisReaderCreateWithFunctions(&object_functions)) {
  TIERCEL_CHECK(reader_ != nullptr);
}

RespParser::~RespParser() = default;

Error RespParser::fail(std::string message) {
  error_ = protocol_error(std::move(message));
  return *error_;
}

Result<void> RespParser::feed(std::string_view bytes) {
  if (error_) return *error_;
  reply_bytes_ += bytes.size();
  if (reply_bytes_ > kReplyBytesMax) {
    return fail("a reply is longer than " + std::to_string(kReplyBytesMax) + " bytes");
  }
  if (redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) != REDIS_OK) {
    return fail(std::string{"cannot read the reply: "} + reader_->errstr);
  }
  return {};
}

Result<std::optional<Reply>> RespParser::next() {
  if (error_) return *error_;
  void* object = nullptr;
  if (redisReaderGetReply(reader_.get(), &object) != REDIS_OK) {
    return fail(std::string{"cannot read the reply: "} + reader_->errstr);
  }
  if (object == nullptr) {
    if (unfinished_line_is_too_long()) return fail("a line of the reply does not end");
    return std::optional<Reply>{};
  }
  const std::unique_ptr<Reply> reply{static_cast<Reply*>(object)};
  reply_bytes_ = reader_->len - reader_->pos;
  return std::optional<Reply>{std::move(*reply)};
}

bool RespParser::unfinished_line_is_too_long() const noexcept {
  const std::size_t unread = reader_->len - reader_->pos;
  if (unread == 0 || reader_->ridx < 0) return false;
  switch (reader_->rstack[reader_->ridx].type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_ARRAY: {
      // What is a line here is only the length, which needs 20 digits at most.
      constexpr std::size_t kLengthLineBytesMax = 32;
      const std::string_view head{reader_->buf + reader_->pos,
                                  std::min(unread, kLengthLineBytesMax)};
      return head.size() == kLengthLineBytesMax && head.find('\n') == std::string_view::npos;
    }
    default: return unread > kLineBytesMax;
  }
}

}  // namespace tiercel::l2
