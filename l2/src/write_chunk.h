#pragma once

// WriteChunk: memory that commands are formatted into and written to the socket from. A shared
// chunk takes the commands of all threads one after the other; a large command has one of its own.
//
// It lives until each of its commands has been answered for good and no write of it is under way.
// Both are counted: `added` by those who submit, under the queue's mutex, until the chunk is
// sealed; `released` and `pins` by the loop thread.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>

namespace tiercel::l2 {

struct WriteChunk {
  static constexpr std::uint32_t kNotSealed = std::numeric_limits<std::uint32_t>::max();

  explicit WriteChunk(std::size_t bytes) noexcept : capacity(bytes) {}

  [[nodiscard]] char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
  [[nodiscard]] bool is_done() const noexcept { return released == added_final && pins == 0; }

  // Of those who submit.
  std::size_t capacity;
  std::size_t used = 0;
  std::uint32_t added = 0;
  WriteChunk* next = nullptr;  // In the list that it is in.

  // Of the loop thread; on another cache line, since both write while the chunk fills.
  alignas(64) std::uint32_t released = 0;
  std::uint32_t pins = 0;
  std::uint32_t added_final = kNotSealed;
};

struct DeleteChunk {
  void operator()(WriteChunk* chunk) const noexcept {
    chunk->~WriteChunk();
    ::operator delete (chunk, std::align_val_t{alignof(WriteChunk)});
  }
};
using OwnChunk = std::unique_ptr<WriteChunk, DeleteChunk>;

[[nodiscard]] inline OwnChunk make_chunk(std::size_t bytes) {
  void* const memory =
      ::operator new (sizeof(WriteChunk) + bytes, std::align_val_t{alignof(WriteChunk)});
  return OwnChunk{::new (memory) WriteChunk(bytes)};
}

// Bytes of a chunk that are to be written.
struct Slice {
  const char* data = nullptr;
  std::size_t size = 0;
  WriteChunk* chunk = nullptr;
};

// While pinned it stays, although its commands may have been answered. Loop thread only.
inline void pin(WriteChunk* chunk) noexcept { ++chunk->pins; }
inline void unpin(WriteChunk* chunk) noexcept {
  --chunk->pins;
  if (chunk->is_done()) DeleteChunk{}(chunk);
}

}  // namespace tiercel::l2
