#include "fleet/write_log.h"

#include <algorithm>

// Layout: WriteLogHeader, newest position of each key, log.

namespace tiercel::fleet {
namespace {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
                  std::atomic<std::uint32_t>::is_always_lock_free,
              "between processes only lock-free atomics work");

constexpr std::size_t aligned(std::size_t offset) { return (offset + 63) / 64 * 64; }

struct Layout {
  std::size_t newest;
  std::size_t log;
  std::size_t end;
};

Layout layout_of(const WriteLog::Limits& limits) {
  Layout layout{};
  layout.newest = aligned(sizeof(WriteLogHeader));
  layout.log = aligned(layout.newest + limits.key_count * sizeof(std::uint32_t));
  layout.end = aligned(layout.log + std::size_t{limits.capacity} * sizeof(WriteRecord));
  return layout;
}

}  // namespace

std::size_t WriteLog::bytes(const Limits& limits) noexcept { return layout_of(limits).end; }

WriteLog::WriteLog(const Limits& limits, void* memory) noexcept
    : limits_(limits), header_(static_cast<WriteLogHeader*>(memory)) {
  const Layout layout = layout_of(limits);
  auto* base = static_cast<std::byte*>(memory);
  newest_ = reinterpret_cast<std::atomic<std::uint32_t>*>(base + layout.newest);
  log_ = reinterpret_cast<WriteRecord*>(base + layout.log);
}

std::uint32_t WriteLog::count() const noexcept {
  return std::min(header_->records.load(std::memory_order_acquire), limits_.capacity);
}

}  // namespace tiercel::fleet
