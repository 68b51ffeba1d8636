#pragma once

// What does the Bloom filter cost? Keys have 24 bytes, of which the last 16 are the digits of a
// number; hashing them is part of every probe and every build.
//
//   in cache   a filter of 200,000 keys (250 KB): the figure
//   1M … 100M  filters of 1.2, 12.5 and 125 MB at 10 bits a key
//
// beside the same on ordinary pages of 4 KiB, and a textbook filter of the same size: one array of
// bits, 7 probes anywhere in it, by double hashing (Kirsch, Mitzenmacher, "Less Hashing, Same
// Performance", 2006), with the same hash; it counts nothing, is for one thread only while it is
// built, and lies on 4 KiB pages, too.
//
// Keys that are asked for lie one behind the other in memory; half of them were added, in random
// order, so no answer can be guessed. `single`: one call after the other, as a cache makes them
// whose misses do not depend on each other. `chained`: which key comes next depends on the answer,
// so nothing overlaps. `many`: may_contain_many of 256. In each of the rounds each contestant has
// its turn; the medians count.

#include <cstddef>
#include <cstdint>

namespace tiercel::bench {

struct BloomSettings {
  int rounds = 7;
  std::size_t probes = 4'000'000;  // Of a run; less for what fits into the caches.
  std::uint64_t absent = 20'000'000;
  std::uint64_t keys_max = 100'000'000;  // Larger filters are left out.

  // A smoke test: times are too short to mean anything.
  [[nodiscard]] static BloomSettings quick() {
    return {.rounds = 1, .probes = 100'000, .absent = 200'000, .keys_max = 1'000'000};
  }
};

struct BloomCost {
  double probe_ns = 0;             // `single` of `in cache`.
  double false_positive_rate = 0;  // Of a filter of 1M keys.
};

// Prints its table.
BloomCost run_bloom(const BloomSettings& settings);

}  // namespace tiercel::bench
