#include "bloom_pages.h"

#include <sys/mman.h>

#include <new>

namespace tiercel::detail {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

}  // namespace

std::unique_ptr<BloomPages> BloomPages::create(std::size_t bytes, bool huge_pages) noexcept {
  const bool huge = huge_pages && bytes >= kHugePageBytes;
  // So much more that a start aligned to a huge page lies within.
  const std::size_t mapped_bytes = bytes + (huge ? kHugePageBytes : 0);
  // Not MAP_NORESERVE, as all of it will be touched: better refused now than killed later.
  void* mapped =
      mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto address = reinterpret_cast<std::uintptr_t>(mapped);
  if (huge) {
    address = (address + kHugePageBytes - 1) & ~(kHugePageBytes - 1);
    // Advice only. Up to the last whole huge page: the rest would cost more memory than is charged.
    (void)madvise(reinterpret_cast<void*>(address), bytes & ~(kHugePageBytes - 1), MADV_HUGEPAGE);
  }
  auto* pages = new (std::nothrow)
      BloomPages(mapped, mapped_bytes, reinterpret_cast<std::uint64_t*>(address));
  if (pages == nullptr) munmap(mapped, mapped_bytes);
  return std::unique_ptr<BloomPages>{pages};
}

BloomPages::~BloomPages() { munmap(mapped_, mapped_bytes_); }

}  // namespace tiercel::detail
