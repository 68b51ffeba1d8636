#pragma once

// Value: what a read found, where, and how old it can be.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tiercel/base/clock.h"
#include "tiercel/l1/lru_cache.h"

namespace tiercel {

enum class Tier : std::uint8_t { kL1, kL2, kLoader };

std::string_view to_string(Tier tier) noexcept;  // "l1", "l2", "loader"

// Owns, or shares, the bytes: they stay valid while the Value lives, also after eviction, and also
// after the cache is gone. Move-only; not for two threads at once.
class Value {
 public:
  [[nodiscard]] std::string_view bytes() const noexcept {
    return pinned_ ? pinned_bytes_ : std::string_view{*owned_};
  }
  [[nodiscard]] std::string to_string() const { return std::string{bytes()}; }

  [[nodiscard]] Tier tier() const noexcept { return tier_; }

  // The write that stored it; comparable within an epoch. 0: unknown (a foreign writer's value, or
  // one that was loaded but not stored).
  [[nodiscard]] std::uint64_t version() const noexcept { return version_; }

  // At the time of the read the value reflected every write acknowledged this long before, or
  // longer.
  [[nodiscard]] Duration age_bound() const noexcept { return age_bound_; }

  // Its life had ended (FillPolicy::stale_max): there was no newer one to be had in time.
  [[nodiscard]] bool is_stale() const noexcept { return is_stale_; }

  // For the cache's own sources.
  void set_stale() noexcept { is_stale_ = true; }
  // The codec of its keyspace has accepted the bytes.
  void set_checked() noexcept { is_checked_ = true; }
  [[nodiscard]] bool is_checked() const noexcept { return is_checked_; }
  // `bytes` are of the pinned entry.
  Value(l1::Handle pinned, std::string_view bytes, Duration age_bound) noexcept
      : pinned_(std::move(pinned)),
        pinned_bytes_(bytes),
        tier_(Tier::kL1),
        version_(pinned_.version()),
        age_bound_(age_bound) {}
  Value(std::shared_ptr<const std::string> owned, Tier tier, std::uint64_t version,
        Duration age_bound) noexcept
      : owned_(std::move(owned)), tier_(tier), version_(version), age_bound_(age_bound) {}

 private:
  l1::Handle pinned_;                         // Set for Tier::kL1, with
  std::string_view pinned_bytes_;             // this; else
  std::shared_ptr<const std::string> owned_;  // this.
  Tier tier_;
  std::uint64_t version_;
  Duration age_bound_;
  bool is_stale_ = false;
  bool is_checked_ = false;
};

}  // namespace tiercel
