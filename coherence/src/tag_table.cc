// Invariant: whoever reads a version that a reset has stored also reads the generation that this
// reset has begun, or a later one: the generation is stored first, the versions with release. A
// generation that has not joined is odd, and matches none that a reader can have.

#include "tiercel/coherence/tag_table.h"

#include <limits>
#include <string>

#include "tiercel/base/bytes.h"

namespace tiercel::coherence {
namespace {

constexpr Version kVersionMax = std::numeric_limits<Version>::max();
constexpr std::size_t kVersionBytes = 8;

Result<Version> decode_version(std::string_view bytes) {
  if (bytes.size() != kVersionBytes) {
    return corrupt("tags: a version of " + std::to_string(bytes.size()) + " bytes");
  }
  const Version version = read_u64_be(bytes.data());
  if (version == kVersionUnknown) return corrupt("tags: version 0");
  return version;
}

Result<TagSlot> decode_slot(std::string_view field) {
  const auto slot = parse_u64(field);
  if (slot && *slot < TagTable::kSlots) return static_cast<TagSlot>(*slot);
  return corrupt("tags: '" + bytes_for_message(field) + "' is neither base nor a slot");
}

}  // namespace

Result<TagBaseline> decode_tags(std::span<const std::string_view> fields_and_versions) {
  if (fields_and_versions.size() % 2 != 0) return corrupt("tags: a field without a version");
  TagBaseline baseline;
  baseline.slots.reserve(fields_and_versions.size() / 2);
  bool has_base = false;
  for (std::size_t i = 0; i < fields_and_versions.size(); i += 2) {
    const auto version = decode_version(fields_and_versions[i + 1]);
    if (!version) return version.error();
    if (fields_and_versions[i] == "base") {
      baseline.base = *version;
      has_base = true;
      continue;
    }
    const auto slot = decode_slot(fields_and_versions[i]);
    if (!slot) return slot.error();
    baseline.slots.emplace_back(*slot, *version);
  }
  if (!has_base) return corrupt("tags: no base");
  return baseline;
}

Result<bool> is_dead_in_redis(Version version,
                              std::span<const std::optional<std::string_view>> versions) {
  if (versions.empty()) return corrupt("tags: no base");
  const bool has_slots = versions.size() > 1;
  if (version == kVersionUnknown) return has_slots;
  if (!versions[0]) return true;
  for (const auto& bytes : versions) {
    if (!bytes) continue;
    const auto changed_at = decode_version(*bytes);
    if (!changed_at) return changed_at.error();
    if (*changed_at > version) return true;
  }
  return false;
}

TagTable::TagTable() : versions_(std::make_unique<std::atomic<Version>[]>(kSlots)) {}

void TagTable::raise(std::atomic<Version>& stored, Version version) noexcept {
  if (version == kVersionUnknown) version = kVersionMax;
  Version known = stored.load(std::memory_order_relaxed);
  while (known < version && !stored.compare_exchange_weak(known, version, std::memory_order_release,
                                                          std::memory_order_relaxed)) {
  }
}

void TagTable::invalidate(TagSlot slot, Version version) noexcept {
  raise(versions_[slot], version);
}

void TagTable::clear(Version version) noexcept { raise(base_, version); }

void TagTable::reset() noexcept {
  const std::uint64_t generation = generation_.load(std::memory_order_relaxed);
  if ((generation & kNotJoined) == 0) {
    generation_.store(generation + 1, std::memory_order_relaxed);
  }
  base_.store(kVersionUnknown, std::memory_order_release);
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    versions_[slot].store(kVersionUnknown, std::memory_order_release);
  }
}

void TagTable::join(const TagBaseline& baseline) noexcept {
  if (baseline.base != kVersionUnknown) clear(baseline.base);
  for (const auto& [slot, version] : baseline.slots) invalidate(slot, version);
  const std::uint64_t generation = generation_.load(std::memory_order_relaxed);
  if ((generation & kNotJoined) != 0) {
    generation_.store(generation + 1, std::memory_order_release);
  }
}

}  // namespace tiercel::coherence
