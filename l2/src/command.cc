#include "tiercel/l2/command.h"

#include <cstring>

#include "resp_format.h"
#include "sha1.h"
#include "tiercel/base/check.h"
#include "write_chunk.h"

namespace tiercel::l2 {

Command::Command(Retry retry, std::span<const std::string_view> words)
    : size_(request_bytes(words)), retry_(retry) {
  TIERCEL_CHECK(!words.empty());  // An empty request gets no reply and would shift all later ones.
  write_request(allocate(), words);
}

Command::Command(Retry retry, std::initializer_list<std::string_view> words)
    : Command(retry, std::span{words.begin(), words.size()}) {}

Command::Command(const Command& other) : size_(other.size_), retry_(other.retry_) {
  const std::string_view bytes = other.wire();
  std::memcpy(allocate(), bytes.data(), bytes.size());
}

Command::~Command() {
  if (chunk_ != nullptr) DeleteChunk{}(chunk_);
}

char* Command::allocate() {
  if (size_ <= kInlineBytes) return inline_;
  chunk_ = make_chunk(size_).release();
  chunk_->used = size_;
  return chunk_->bytes();
}

std::string_view Command::wire() const noexcept {
  return {chunk_ == nullptr ? inline_ : chunk_->bytes(), size_};
}

Script::Script(std::string_view source) : source_(source), sha1_(sha1_hex(source)) {}

}  // namespace tiercel::l2
