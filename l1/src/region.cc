#include "region.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "asan.h"

namespace tiercel::l1 {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

}  // namespace

Region* Region::create(std::size_t bytes, bool huge_pages) noexcept {
  const bool huge = huge_pages && bytes >= kHugePageBytes;
  // So much more that a start aligned to a huge page lies within.
  const std::size_t mapped_bytes = bytes + (huge ? kHugePageBytes : 0);
  void* mapped = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto address = reinterpret_cast<std::uintptr_t>(mapped);
  if (huge) {
    address = (address + kHugePageBytes - 1) & ~(kHugePageBytes - 1);
    // Advice only: without it the cache is slower, not wrong. Whole huge pages alone, so that no
    // page reaches past the end.
    (void)madvise(reinterpret_cast<void*>(address), bytes & ~(kHugePageBytes - 1), MADV_HUGEPAGE);
  }
  auto* region = new (std::nothrow) Region(reinterpret_cast<std::byte*>(address), bytes,
                                           mapped_bytes, static_cast<std::byte*>(mapped));
  if (region == nullptr) munmap(mapped, mapped_bytes);
  return region;
}

void Region::release(std::size_t times) noexcept {
  if (times == 0 || holders_.fetch_sub(times, std::memory_order_acq_rel) != times) return;
  asan_unpoison(mapped_, mapped_bytes_);  // Whoever gets these addresses next.
  munmap(mapped_, mapped_bytes_);
  delete this;
}

void RegionHead::give_back(const Entry& entry) noexcept {
  const Ref ref = blocks_.ref_of(entry);
  Region& region = region_;
  Ref head = returned_.load(std::memory_order_acquire);
  do {
    if (head == kClosed) return region.release();
    blocks_[ref].hint.store(head, std::memory_order_relaxed);
  } while (!returned_.compare_exchange_weak(head, ref, std::memory_order_acq_rel));
}

}  // namespace tiercel::l1
