#include "entry.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "memory.h"
#include "tiercel/base/check.h"

namespace tiercel::l1 {

// An entry ends by free alone.
static_assert(std::is_trivially_destructible_v<Entry>);
static_assert(alignof(Entry) <= alignof(std::max_align_t));

Entry* Entry::create(std::uint64_t hash, std::string_view key, std::string_view value,
                     const EntryMeta& meta, std::uint64_t generation) noexcept {
  void* block = std::malloc(sizeof(Entry) + value.size() + key.size());
  if (block == nullptr) return nullptr;
  auto* entry = ::new (block) Entry;
  entry->hash = hash;
  entry->version = meta.version;
  entry->expires_at = meta.expires_at;
  entry->generation = generation;
  entry->key_bytes = key.size();
  entry->value_bytes = value.size();
  entry->flags = meta.flags;
  // A view of nothing may hold a null pointer, which memcpy must not see.
  char* bytes = reinterpret_cast<char*>(entry + 1);
  if (!value.empty()) std::memcpy(bytes, value.data(), value.size());
  if (!key.empty()) std::memcpy(bytes + value.size(), key.data(), key.size());
  return entry;
}

std::size_t Entry::charge() const noexcept { return allocation_charge(this); }

void Entry::release() noexcept {
  // Release: our reads of the bytes come before the free. Acquire: so do those of all others.
  if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) std::free(this);
}

DeadList::~DeadList() {
  while (head_ != nullptr) std::exchange(head_, head_->hash_next)->release();
}

std::string_view Handle::key() const noexcept {
  TIERCEL_CHECK(entry_ != nullptr);
  return entry_->key();
}

std::string_view Handle::value() const noexcept {
  TIERCEL_CHECK(entry_ != nullptr);
  return entry_->value();
}

std::uint64_t Handle::version() const noexcept {
  TIERCEL_CHECK(entry_ != nullptr);
  return entry_->version;
}

TimePoint Handle::expires_at() const noexcept {
  TIERCEL_CHECK(entry_ != nullptr);
  return entry_->expires_at;
}

std::uint32_t Handle::flags() const noexcept {
  TIERCEL_CHECK(entry_ != nullptr);
  return entry_->flags;
}

std::uint64_t Handle::generation() const noexcept {
  TIERCEL_CHECK(entry_ != nullptr);
  return entry_->generation;
}

void Handle::reset() noexcept {
  if (entry_ != nullptr) std::exchange(entry_, nullptr)->release();
}

}  // namespace tiercel::l1
