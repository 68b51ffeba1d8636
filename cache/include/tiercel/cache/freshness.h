#pragma once

// How fresh an answer must be, and what a read does while L1 has no lease. Each read may choose.
//
//   cache.get(key)                                                   the default: leased, else
//   Redis cache.get(key, {.freshness = Freshness::at_most(50ms)})          stricter than the lease
//   cache.get(key, {.freshness = Freshness::at_least(written.version)})  what another process wrote
//   cache.get(key, {.freshness = Freshness::latest()})               asks the master
//   cache.get(key, {.without_lease = WithoutLease::serve_stale(30s)})  better old than slow

#include <chrono>
#include <cstdint>

#include "tiercel/base/clock.h"

namespace tiercel {

class Freshness {
 public:
  enum class Kind : std::uint8_t { kLeased, kAtMost, kAtLeast, kLatest };

  // L1 may answer while it holds the lease: with everything that was acknowledged Δ before.
  [[nodiscard]] static constexpr Freshness leased() noexcept { return Freshness{Kind::kLeased}; }
  // L1 may answer with everything that was acknowledged `age` before, whether or not that is within
  // the lease: less than Δ is stricter (below Δ/5 and a round trip L1 seldom answers), more goes on
  // while a lease is lost. 1 ms to 1 h.
  [[nodiscard]] static constexpr Freshness at_most(std::chrono::milliseconds age) noexcept {
    Freshness freshness{Kind::kAtMost};
    freshness.age_ = age;
    return freshness;
  }
  // L1 may answer with this version of the key or a newer one; else Redis is asked, and a version
  // below this one is kUnavailable: that write was lost by a failover. A key that is not there (any
  // more) is an answer, as its removal has no version. Versions are comparable within an epoch.
  [[nodiscard]] static constexpr Freshness at_least(std::uint64_t version) noexcept {
    Freshness freshness{Kind::kAtLeast};
    freshness.version_ = version;
    return freshness;
  }
  // The master is asked, by a command of its own. It answers with everything that it acknowledged
  // before the call; only a master that was replaced and does not know it yet can answer with less.
  [[nodiscard]] static constexpr Freshness latest() noexcept { return Freshness{Kind::kLatest}; }

  constexpr Freshness() noexcept = default;
  [[nodiscard]] constexpr Kind kind() const noexcept { return kind_; }
  [[nodiscard]] constexpr std::chrono::milliseconds age() const noexcept { return age_; }
  [[nodiscard]] constexpr std::uint64_t version() const noexcept { return version_; }
  // Whether a read that is under way already can answer, too.
  [[nodiscard]] constexpr bool may_join() const noexcept {
    return kind_ == Kind::kLeased || kind_ == Kind::kAtMost;
  }

 private:
  constexpr explicit Freshness(Kind kind) noexcept : kind_(kind) {}

  Kind kind_ = Kind::kLeased;
  std::chrono::milliseconds age_{0};
  std::uint64_t version_ = 0;
};

// What a read does that finds the lease lost, so that L1 may not answer as it was asked to.
class WithoutLease {
 public:
  enum class Kind : std::uint8_t { kGoToL2, kFail, kServeStale };

  [[nodiscard]] static constexpr WithoutLease go_to_l2() noexcept { return {}; }
  // kUnavailable at once, with the reason, where L1 has an entry that it may not give. A key that
  // L1 does not have is fetched all the same.
  [[nodiscard]] static constexpr WithoutLease fail() noexcept {
    return WithoutLease{Kind::kFail, {}};
  }
  // What L1 has, if everything that was acknowledged `age_max` before is in it. 1 ms to 24 h. What
  // is older, or not there, is fetched.
  [[nodiscard]] static constexpr WithoutLease serve_stale(
      std::chrono::milliseconds age_max) noexcept {
    return WithoutLease{Kind::kServeStale, age_max};
  }

  constexpr WithoutLease() noexcept = default;
  [[nodiscard]] constexpr Kind kind() const noexcept { return kind_; }
  [[nodiscard]] constexpr std::chrono::milliseconds age_max() const noexcept { return age_max_; }

 private:
  constexpr WithoutLease(Kind kind, std::chrono::milliseconds age_max) noexcept
      : kind_(kind), age_max_(age_max) {}

  Kind kind_ = Kind::kGoToL2;
  std::chrono::milliseconds age_max_{0};
};

}  // namespace tiercel
