#include "tiercel/l2/pipeline.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "resp_format.h"
#include "tiercel/base/check.h"
#include "write_chunk.h"

namespace tiercel::l2 {
namespace {

constexpr std::size_t kFirstBytes = 4096 - sizeof(WriteChunk);

}  // namespace

Pipeline::~Pipeline() { clear(); }

void Pipeline::clear() noexcept {
  if (chunk_ != nullptr) DeleteChunk{}(std::exchange(chunk_, nullptr));
  parts_.clear();
}

void Pipeline::add(Retry retry, std::span<const std::string_view> words) {
  TIERCEL_CHECK(!words.empty());  // An empty request gets no reply and would shift all later ones.
  const std::size_t bytes = request_bytes(words);
  parts_.push_back({bytes, retry});
  write_request(reserve(bytes), words);
}

char* Pipeline::reserve(std::size_t bytes) {
  const std::size_t used = chunk_ == nullptr ? 0 : chunk_->used;
  if (chunk_ == nullptr || chunk_->capacity - used < bytes) {
    OwnChunk larger = make_chunk(std::max({kFirstBytes, 2 * used, used + bytes}));
    if (chunk_ != nullptr) {
      std::memcpy(larger->bytes(), chunk_->bytes(), used);
      DeleteChunk{}(chunk_);
    }
    larger->used = used;
    chunk_ = larger.release();
  }
  chunk_->used += bytes;
  return chunk_->bytes() + used;
}

}  // namespace tiercel::l2
