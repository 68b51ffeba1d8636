#include "l1_keys.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "tiercel/base/random.h"

namespace tiercel::bench {
namespace {

constexpr double kZipfExponent = 0.99;

// The weight of all ranks up to and including each.
std::vector<double> cumulated_zipf(std::size_t universe) {
  std::vector<double> cumulated(universe);
  double sum = 0;
  for (std::size_t rank = 0; rank < universe; ++rank) {
    cumulated[rank] = sum += 1 / std::pow(static_cast<double>(rank + 1), kZipfExponent);
  }
  return cumulated;
}

}  // namespace

Key make_key(std::uint64_t number) {
  Key key{"bench:key:00000000000000"};
  for (std::size_t i = kKeyBytes; number > 0; number /= 10) {
    key.bytes[--i] = static_cast<char>('0' + number % 10);
  }
  return key;
}

Value make_value(const Key& key) {
  Value value;
  value.fill('v');
  std::ranges::copy(key.bytes, value.begin());
  return value;
}

std::vector<std::uint32_t> shuffled_numbers(std::size_t count) {
  std::vector<std::uint32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0u);
  Random random{count};
  for (std::size_t i = count; i > 1; --i) std::swap(numbers[i - 1], numbers[random.below(i)]);
  return numbers;
}

KeySequence::KeySequence(Distribution distribution, std::size_t universe, std::uint64_t seed)
    : KeySequence() {
  Random random{seed};
  if (distribution == Distribution::kUniform) {
    std::ranges::generate(keys_, [&] { return make_key(random.below(universe)); });
    return;
  }
  const auto cumulated = cumulated_zipf(universe);
  std::ranges::generate(keys_, [&] {
    const auto rank = std::ranges::lower_bound(cumulated, random.unit() * cumulated.back());
    return make_key(static_cast<std::uint64_t>(rank - cumulated.begin()));
  });
}

KeySequence KeySequence::ascending(std::uint64_t first) {
  KeySequence sequence;
  std::ranges::generate(sequence.keys_, [&] { return make_key(first++); });
  return sequence;
}

}  // namespace tiercel::bench
