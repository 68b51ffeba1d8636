#include "bloom_cost.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "figures.h"
#include "l1_keys.h"
#include "tiercel/base/check.h"
#include "tiercel/base/random.h"
#include "tiercel/cache/bloom_filter.h"

namespace tiercel::bench {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr double kBitsPerKey = 10;
constexpr std::uint64_t kInCache = 200'000;
constexpr std::size_t kBatch = 256;
constexpr std::size_t kBuildBatch = 4096;

double nanoseconds_each(Seconds seconds, std::size_t operations) {
  return seconds.count() * 1e9 / static_cast<double>(operations);
}

template <typename Operation>
Seconds time_of(Operation&& operation) {
  const auto start = std::chrono::steady_clock::now();
  operation();
  return std::chrono::steady_clock::now() - start;
}

template <typename Value>
void keep(const Value& value) {
  asm volatile("" : : "r"(value) : "memory");
}

// ---------------------------------------------------------------- the contestants

template <bool kHugePages>
class Blocked {
 public:
  static constexpr const char* kName = kHugePages ? "tiercel" : "4K pages";

  explicit Blocked(std::uint64_t keys)
      : filter_(BloomFilter::create(
                    {.keys_expected = keys, .bits_per_key = kBitsPerKey, .huge_pages = kHugePages})
                    .value()) {}

  void add_many(std::span<const std::string_view> keys) { filter_->add_many(keys); }
  [[nodiscard]] bool may_contain(std::string_view key) const { return filter_->may_contain(key); }
  void may_contain_many(std::span<const std::string_view> keys, std::span<bool> may) const {
    filter_->may_contain_many(keys, may);
  }
  [[nodiscard]] double megabytes() const { return static_cast<double>(filter_->bytes()) / 1e6; }
  [[nodiscard]] const BloomFilter& filter() const { return *filter_; }

 private:
  std::unique_ptr<BloomFilter> filter_;
};

using Ours = Blocked<true>;
using OnSmallPages = Blocked<false>;

class Textbook {
 public:
  static constexpr const char* kName = "textbook";

  explicit Textbook(std::uint64_t keys)
      : bits_(static_cast<std::size_t>(static_cast<double>(keys) * kBitsPerKey)) {}

  void add_many(std::span<const std::string_view> keys) {
    for (const std::string_view key : keys) {
      each_bit(key, [this](std::size_t bit) {
        bits_[bit] = true;
        return true;
      });
    }
  }
  [[nodiscard]] __attribute__((noinline)) bool may_contain(std::string_view key) const {
    return each_bit(key, [this](std::size_t bit) -> bool { return bits_[bit]; });
  }
  void may_contain_many(std::span<const std::string_view> keys, std::span<bool> may) const {
    for (std::size_t i = 0; i < keys.size(); ++i) may[i] = may_contain(keys[i]);
  }
  [[nodiscard]] double megabytes() const { return static_cast<double>(bits_.size()) / 8e6; }

 private:
  static constexpr int kProbes = 7;

  template <typename Visit>
  bool each_bit(std::string_view key, Visit&& visit) const {
    std::uint64_t hash = BloomFilter::hash_of(key).bits;
    const std::uint64_t step = std::rotr(hash, 32) | 1;
    for (int i = 0; i < kProbes; ++i, hash += step) {
      __extension__ using Wide = unsigned __int128;
      if (!visit(static_cast<std::size_t>((Wide{hash} * bits_.size()) >> 64))) return false;
    }
    return true;
  }

  std::vector<bool> bits_;
};

// ---------------------------------------------------------------- keys

// Of the numbers below `keys`, which are in the filters, and as many above; in random order.
std::vector<Key> mixed_keys(std::uint64_t keys, std::size_t count) {
  Random random{keys};
  std::vector<Key> mixed;
  mixed.reserve(count);
  for (std::size_t i = 0; i < count; ++i) mixed.push_back(make_key(random.below(2 * keys)));
  return mixed;
}

std::vector<std::string_view> views_of(const std::vector<Key>& keys) {
  std::vector<std::string_view> views;
  for (const Key& key : keys) views.push_back(key.text());
  return views;
}

// Making the keys is not counted.
template <typename Filter>
Seconds build(Filter& filter, std::uint64_t keys) {
  Seconds sum{0};
  std::vector<Key> made(kBuildBatch);
  std::vector<std::string_view> views = views_of(made);
  for (std::uint64_t first = 0; first < keys; first += kBuildBatch) {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kBuildBatch, keys - first));
    for (std::size_t i = 0; i < count; ++i) made[i] = make_key(first + i);
    sum += time_of([&] { filter.add_many(std::span{views}.first(count)); });
  }
  return sum;
}

// ---------------------------------------------------------------- what is measured

struct Samples {
  std::vector<double> single_absent, single_present, single_mixed, chained, many;
};

template <typename Filter>
double time_single(const Filter& filter, std::span<const std::string_view> keys,
                   std::size_t probes) {
  std::size_t passed = 0;
  const Seconds seconds = time_of([&] {
    for (std::size_t done = 0; done < probes; done += keys.size()) {
      for (const std::string_view key : keys) passed += filter.may_contain(key) ? 1u : 0u;
    }
  });
  keep(passed);
  return nanoseconds_each(seconds, (probes + keys.size() - 1) / keys.size() * keys.size());
}

template <typename Filter>
double time_chained(const Filter& filter, std::span<const std::string_view> keys,
                    std::size_t probes) {
  std::size_t at = 0;
  const Seconds seconds = time_of([&] {
    for (std::size_t i = 0; i < probes; ++i) {
      const std::size_t step = filter.may_contain(keys[at]) ? 2u : 1u;
      at += step;
      at = at < keys.size() ? at : 0;
    }
  });
  keep(at);
  return nanoseconds_each(seconds, probes);
}

template <typename Filter>
double time_many(const Filter& filter, std::span<const std::string_view> keys, std::size_t probes) {
  std::array<bool, kBatch> may{};
  std::size_t passed = 0;
  std::size_t made = 0;
  const Seconds seconds = time_of([&] {
    while (made < probes) {
      for (std::size_t first = 0; first + kBatch <= keys.size(); first += kBatch) {
        filter.may_contain_many(keys.subspan(first, kBatch), may);
        passed += may[0] ? 1u : 0u;
        made += kBatch;
      }
    }
  });
  keep(passed);
  return nanoseconds_each(seconds, made);
}

// Keys that are asked for, once sorted by the filters' contents and once not.
struct Questions {
  std::vector<Key> keys;
  std::vector<std::string_view> mixed, present, absent;

  Questions(std::uint64_t universe, std::size_t count) : keys(mixed_keys(universe, count)) {
    const Key first_absent = make_key(universe);
    for (const Key& key : keys) {
      mixed.push_back(key.text());
      (key < first_absent ? present : absent).push_back(key.text());
    }
  }
};

template <typename Filter>
void measure(const Filter& filter, const Questions& asked, std::size_t probes, Samples& samples) {
  samples.single_mixed.push_back(time_single(filter, asked.mixed, probes));
  samples.single_present.push_back(time_single(filter, asked.present, probes));
  samples.single_absent.push_back(time_single(filter, asked.absent, probes));
  samples.chained.push_back(time_chained(filter, asked.mixed, probes / 2));
  samples.many.push_back(time_many(filter, asked.mixed, probes));
}

// ---------------------------------------------------------------- what is printed

void print_head() {
  std::printf("%-9s %-9s %9s %9s %9s", "keys", "", "MB", "build s", "ns/key");
  for (const char* column : {"single", "present", "absent", "chained", "many", "spread %"}) {
    std::printf(" %9s", column);
  }
  std::printf("\n");
}

void print_row(const char* keys, const char* name, double megabytes, Seconds built,
               std::uint64_t count, const Samples& samples) {
  std::printf("%-9s %-9s %9.2f %9.3f %9.1f", keys, name, megabytes, built.count(),
              nanoseconds_each(built, count));
  double spread = 0;
  for (const auto* column : {&samples.single_mixed, &samples.single_present, &samples.single_absent,
                             &samples.chained, &samples.many}) {
    std::printf(" %9.2f", median(*column));
    spread = std::max(spread, spread_percent(*column));
  }
  std::printf(" %9.0f\n", spread);
}

// What an instance does that takes a filter over: the chunks are copied and merged.
void print_priming(const char* keys, const BloomFilter& filter) {
  const auto copy = BloomFilter::create(filter.header(), std::size_t{1} << 30).value();
  const Seconds seconds = time_of([&] {
    for (std::size_t chunk = 0; chunk < filter.chunks(); ++chunk) {
      TIERCEL_CHECK(copy->merge_chunk(chunk, filter.copy_chunk(chunk)));
    }
  });
  TIERCEL_CHECK(copy->bits_set() == filter.bits_set());
  BloomSurvey survey;
  const Seconds surveyed = time_of([&] { survey = filter.survey(); });
  std::printf("%-9s %zu chunks copied and merged in %.3f s; survey %.3f s; expected to pass %.5f\n",
              keys, filter.chunks(), seconds.count(), surveyed.count(), survey.false_positive_rate);
}

struct Line {
  const char* label;
  std::uint64_t keys;
  std::size_t asked;  // So many different keys.
};

template <typename Filter>
struct Contestant {
  explicit Contestant(std::uint64_t keys) : filter(keys), built(build(filter, keys)) {}

  Filter filter;
  Seconds built;
  Samples samples{};
};

// The median of `single`.
double run_line(const Line& line, const BloomSettings& settings, std::size_t probes) {
  Contestant<Ours> ours{line.keys};
  Contestant<OnSmallPages> on_small_pages{line.keys};
  Contestant<Textbook> textbook{line.keys};
  const Questions asked{line.keys, line.asked};
  TIERCEL_CHECK(std::ranges::all_of(
      asked.present, [&](std::string_view key) { return ours.filter.may_contain(key); }));
  const auto turn = [&](auto& contestant) {
    measure(contestant.filter, asked, probes, contestant.samples);
  };
  for (int round = 0; round < settings.rounds; ++round) {
    // Who is first changes.
    if (round % 2 == 0) turn(ours);
    turn(textbook);
    turn(on_small_pages);
    if (round % 2 == 1) turn(ours);
  }
  const auto print = [&]<typename Filter>(const Contestant<Filter>& it) {
    print_row(line.label, Filter::kName, it.filter.megabytes(), it.built, line.keys, it.samples);
  };
  print(ours);
  print(on_small_pages);
  print(textbook);
  print_priming(line.label, ours.filter.filter());
  return median(ours.samples.single_mixed);
}

template <typename Filter>
double share_that_passes(std::uint64_t keys, std::uint64_t absent) {
  Filter filter{keys};
  static_cast<void>(build(filter, keys));
  std::uint64_t passed = 0;
  for (std::uint64_t number = 0; number < absent; ++number) {
    passed += filter.may_contain(make_key(keys + number).text()) ? 1u : 0u;
  }
  return static_cast<double>(passed) / static_cast<double>(absent);
}

}  // namespace

BloomCost run_bloom(const BloomSettings& settings) {
  print_head();
  // Keys and filter fit into 1 MiB of L2 together.
  const double probe_ns =
      run_line({"in cache", kInCache, std::size_t{1} << 13}, settings, settings.probes);
  for (const Line& line :
       {Line{"1M", 1'000'000, std::size_t{1} << 20}, Line{"10M", 10'000'000, std::size_t{1} << 20},
        Line{"100M", 100'000'000, std::size_t{1} << 20}}) {
    if (line.keys <= settings.keys_max) run_line(line, settings, settings.probes / 2);
  }
  const double ours = share_that_passes<Ours>(1'000'000, settings.absent);
  const double textbook = share_that_passes<Textbook>(1'000'000, settings.absent);
  std::printf("1M keys, 10 bits each: of absent keys %.5f pass ours, %.5f the textbook's\n", ours,
              textbook);
  return {.probe_ns = probe_ns, .false_positive_rate = ours};
}

}  // namespace tiercel::bench
