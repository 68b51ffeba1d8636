#pragma once

// The guard of a keyspace: "there is nothing", from a Bloom filter in this process, for keys that
// cannot exist; without Redis and without the loader. It stops whoever asks for what is not there,
// by mistake or on purpose, and it never refuses a key that exists, if three things hold:
//
//   1. Who creates a key in the source of the keyspace tells the cache, AFTER it is in the source
//      (committed, and visible to `enumerate`): by a set or an invalidation of the key, also one of
//      many. While that is not acknowledged, nothing is promised of the key. As of any write, L1's
//      answers may be older by the lease Δ: so a key is not refused from Δ after the
//      acknowledgement on.
//   2. Every instance that writes keys of the keyspace has opened it with a guard, and nobody
//      writes them without Tiercel.
//   3. `enumerate` leaves out no key that was in the source when it was called.
//
// Refused are reads of the keyspace that L1 does not answer, with Freshness::leased or at_most, and
// only while L1 itself might answer: with a lease. Nothing is refused before the filter is whole:
// made from the source by one instance of the fleet, fetched from Redis by the others. It is made
// anew when it has been lost there, when it is overfull, on demand (Keyspace::rebuild_guard), so
// that keys leave that were deleted, and after every failover: a creation that the old master had
// acknowledged may have gone with it, and only the source knows. Until then nothing is refused.
//
// docs/design/bloom.md has the protocol, and why it holds.
//
//   .guard = BloomGuardOptions{.keys_expected = 10'000'000, .enumerate = [&](const auto& found) {
//     for (const auto& row : database.all_ids()) if (!found(row)) break;
//     return Result<void>{};
//   }}
//   (compiled in tests/cache/guard_test.cc)

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"

namespace tiercel {

struct BloomGuardOptions {
  // As BloomOptions': how many keys it is made for, and its size for them. It is made larger when
  // it turns out to be overfull, up to bytes_max. What others have made of another size is taken as
  // it is.
  std::uint64_t keys_expected = 0;
  std::optional<double> false_positive_rate{};
  std::optional<double> bits_per_key{};
  // Of one filter; while one is replaced there are two. 64 bytes to 256 GiB.
  std::size_t bytes_max = std::size_t{1} << 30;

  // Gives every key of the source, as format_key writes it, without the keyspace's name, to
  // `found`, which may be called by several threads until this returns; false from it means: stop,
  // it is of no use any more. Runs on the cache's executor, and holds one of its threads for as
  // long as it takes. What it throws counts as an error; then it is tried again, later and later.
  //
  // None: the keys are those that Redis has values of, read by SCAN. That is right only where Redis
  // itself is the source, so a keyspace with a loader must have one, as must a cache without Redis.
  using Found = std::function<bool(std::string_view key)>;
  std::function<Result<void>(const Found& found)> enumerate{};

  // What is moved between Redis and here for a filter. 64 KiB to 100 GiB. More primes sooner; less
  // leaves more of the network and of the server to others.
  std::size_t bytes_per_second_max = std::size_t{64} << 20;
};

// Errors: kInvalidArgument, kOverloaded (more than bytes_max), naming the field.
Result<void> validate(const BloomGuardOptions& options);

enum class GuardState : std::uint8_t {
  kNone,       // The keyspace has no guard.
  kNotPrimed,  // Waits: for the lease, for another instance that builds, or after an error.
  kPriming,    // From Redis.
  kBuilding,   // From the source.
  kAnswering,
};
[[nodiscard]] std::string_view to_string(GuardState state) noexcept;

struct GuardStats {
  GuardState state = GuardState::kNone;
  bool is_renewing = false;      // Answers, and another filter is being made or fetched.
  std::uint64_t refused = 0;     // Reads.
  std::uint64_t keys = 0;        // About, those deleted since it was made included.
  std::size_t bytes = 0;         // Of the filter that answers.
  std::uint64_t generation = 0;  // Of it. Grows with each that is made.
  double false_positive_rate = 0;
  std::uint64_t primed = 0;  // How often from Redis,
  std::uint64_t built = 0;   // and from the source.
  std::uint64_t stored = 0;  // How often a whole filter was put into Redis.
  std::uint64_t lost = 0;    // How often what was there could no longer be trusted.
  std::uint64_t failures = 0;
  std::string last_failure{};
};

}  // namespace tiercel
