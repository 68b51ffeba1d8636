#pragma once

// How an entry with tags, or with times within its life, stands in L1: the payload, then the slots
// of its tags, two bytes each, then their number in one byte, then the times, eight bytes each. The
// payload comes first, so that it stays aligned. An entry without either is its payload alone;
// flags of the entry tell what there is.

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "flights.h"
#include "tiercel/serialization/limits.h"

namespace tiercel {

// Of an entry in L1.
inline constexpr std::uint32_t kFlagNegative = 1;
inline constexpr std::uint32_t kFlagTagged = 2;
inline constexpr std::uint32_t kFlagTimed = 4;
inline constexpr std::uint32_t kFlagStale =
    8;  // It was given a life anew, for want of a newer one.

[[nodiscard]] inline std::string with_slots(std::string_view payload,
                                            std::span<const std::uint16_t> slots) {
  std::string bytes;
  bytes.reserve(payload.size() + 2 * slots.size() + 1);
  bytes = payload;
  bytes.append(reinterpret_cast<const char*>(slots.data()), 2 * slots.size());
  bytes.push_back(static_cast<char>(slots.size()));
  return bytes;
}

// Only of entries whose bytes were checked.
inline void append_times(std::string& bytes, const EntryTimes& times) {
  const std::array<std::int64_t, 2> at{times.stale_at.time_since_epoch().count(),
                                       times.refresh_at.time_since_epoch().count()};
  bytes.append(reinterpret_cast<const char*>(at.data()), sizeof(at));
}

// Takes them off the end.
[[nodiscard]] inline EntryTimes take_times(std::string_view& bytes) noexcept {
  std::array<std::int64_t, 2> at;
  bytes.remove_suffix(sizeof(at));
  std::memcpy(at.data(), bytes.data() + bytes.size(), sizeof(at));
  return {TimePoint{Duration{at[0]}}, TimePoint{Duration{at[1]}}, true};
}

class TaggedEntry {
 public:
  explicit TaggedEntry(std::string_view bytes) noexcept
      : count_(static_cast<unsigned char>(bytes.back())),
        payload_(bytes.substr(0, bytes.size() - 1 - 2 * count_)) {
    std::memcpy(slots_.data(), payload_.data() + payload_.size(), 2 * count_);
  }

  [[nodiscard]] std::string_view payload() const noexcept { return payload_; }
  [[nodiscard]] std::span<const std::uint16_t> slots() const noexcept {
    return {slots_.data(), count_};
  }

 private:
  std::size_t count_;
  std::string_view payload_;
  std::array<std::uint16_t, serialization::kTagsPerValueMax> slots_;
};

}  // namespace tiercel
