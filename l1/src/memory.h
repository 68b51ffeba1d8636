#pragma once

// What an allocation costs, and its release. Entries and tables come from malloc itself, because
// only for its pointers can one ask what the allocator really gave.

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <type_traits>

namespace tiercel::l1 {

// Bytes that a block from malloc takes: its usable size and the size word that glibc keeps before
// each block. Allocators that keep no such word (jemalloc, tcmalloc) are charged 8 bytes too much;
// blocks so large that glibc maps them on their own, 8 bytes too little of at least 128 KiB.
[[nodiscard]] std::size_t allocation_charge(const void* block) noexcept;

struct FreeDeleter {
  void operator()(void* block) const noexcept { std::free(block); }
};

template <typename T>
using MallocPtr = std::unique_ptr<T, FreeDeleter>;

// Zeroed, or null when there is no memory. T is an aggregate of pointers or an array of them.
template <typename T>
[[nodiscard]] MallocPtr<T> allocate_zeroed(std::size_t count = 1) noexcept {
  using Item = std::remove_extent_t<T>;
  return MallocPtr<T>{static_cast<Item*>(std::calloc(count, sizeof(Item)))};
}

}  // namespace tiercel::l1
