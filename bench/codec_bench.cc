// What a typed look at cached bytes costs beyond a look at the bytes themselves: strings, trivially
// copyable structs, Cap'n Proto structs without and with pointers (named), 104 bytes and three
// fields read of each; beside what Cap'n Proto's own reader would cost. The bytes lie in L1 and are
// found by `visit`, or are at hand. docs/bench/codec.md.

#include <capnp/message.h>
#include <time.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "figures.h"
#include "quote.capnp.h"
#include "support/allocations.h"
#include "tiercel/base/clock.h"
#include "tiercel/l1/lru_cache.h"
#include "tiercel/serialization/capnp_codec.h"
#include "tiercel/serialization/trivial_codec.h"

namespace tiercel::bench {
namespace {

using namespace serialization;

constexpr std::size_t kValues = 1024;  // In the processor's caches: what is left is the work.
constexpr int kRounds = 21;
constexpr int kPasses = 200;  // Over all values, in a round.

struct Quote {
  std::uint64_t instrument;
  double bid, ask;
  std::uint64_t bid_size, ask_size;
  double high, low, open, close;
  std::uint64_t volume, trades;
  std::int64_t at_ns;
  std::uint32_t venue, flags;
};
static_assert(sizeof(Quote) == 104);

const TrivialCodec<Quote> kTrivial{"bench.quote.1"};
const CapnpCodec<wire::Quote> kCapnp;
const CapnpCodec<wire::NamedQuote> kNamed;

template <typename T>
T or_exit(Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "codec_bench: %s\n", result.error().to_string().c_str());
  std::exit(1);
}

std::string make_trivial(std::uint64_t number) {
  Quote quote{};
  quote.instrument = number;
  quote.bid = static_cast<double>(number);
  quote.at_ns = static_cast<std::int64_t>(number);
  return or_exit(kTrivial.encode(quote));
}

template <typename Builder>
void fill(Builder quote, std::uint64_t number) {
  quote.setInstrument(number);
  quote.setBid(static_cast<double>(number));
  quote.setAtNs(static_cast<std::int64_t>(number));
}

std::string make_capnp(std::uint64_t number) {
  CapnpValue<wire::Quote> value;
  fill(value.init(), number);
  return or_exit(kCapnp.encode(value));
}

std::string make_named(std::uint64_t number) {
  CapnpValue<wire::NamedQuote> value;
  fill(value.init(), number);
  value.get().setName("a name");
  return or_exit(kNamed.encode(value));
}

// Three fields of 104 bytes, by hand.
std::uint64_t sum_raw(std::string_view bytes) {
  std::array<std::uint64_t, 3> words{};
  std::memcpy(words.data(), bytes.data() + 8, 8);
  std::memcpy(words.data() + 1, bytes.data() + 16, 8);
  std::memcpy(words.data() + 2, bytes.data() + 96, 8);
  return words[0] + words[1] + words[2];
}

std::uint64_t sum(const Quote& quote) {
  return quote.instrument + std::bit_cast<std::uint64_t>(quote.bid) +
         static_cast<std::uint64_t>(quote.at_ns);
}

template <typename Reader>
std::uint64_t sum_capnp(Reader quote) {
  return quote.getInstrument() + std::bit_cast<std::uint64_t>(quote.getBid()) +
         static_cast<std::uint64_t>(quote.getAtNs());
}

// What a codec without check-once would do: Cap'n Proto's own reader, made for each look.
std::uint64_t sum_by_own_reader(std::string_view bytes) {
  const kj::ArrayPtr<const capnp::word> segment{
      reinterpret_cast<const capnp::word*>(bytes.data() + kCapnpTableBytes),
      (bytes.size() - kCapnpTableBytes) / sizeof(capnp::word)};
  capnp::SegmentArrayMessageReader reader{kj::arrayPtr(&segment, 1)};
  return sum_capnp(reader.getRoot<wire::Quote>());
}

struct Row {
  const char* name;
  std::uint64_t (*look)(std::string_view);
  std::string (*make)(std::uint64_t);
};

const Row kRows[] = {
    {"raw", sum_raw, make_trivial},
    {"bytes", [](std::string_view bytes) { return sum_raw(*BytesCodec{}.decode(bytes)); },
     make_trivial},
    {"trivial", [](std::string_view bytes) { return sum(**kTrivial.decode(bytes)); }, make_trivial},
    {"trivial_view", [](std::string_view bytes) { return sum(*kTrivial.view(bytes)); },
     make_trivial},
    {"capnp_view", [](std::string_view bytes) { return sum_capnp(kCapnp.view(bytes)); },
     make_capnp},
    {"capnp_decode", [](std::string_view bytes) { return sum_capnp(*kCapnp.decode(bytes)); },
     make_capnp},
    {"named_view", [](std::string_view bytes) { return sum_capnp(kNamed.view(bytes)); },
     make_named},
    {"named_decode", [](std::string_view bytes) { return sum_capnp(*kNamed.decode(bytes)); },
     make_named},
    {"capnp_own_reader", sum_by_own_reader, make_capnp},
};
constexpr std::size_t kRowCount = std::size(kRows);

// One row's values: at hand, and in L1.
struct Store {
  std::vector<std::string> values;
  std::vector<std::string> keys;
  std::unique_ptr<l1::LruCache> cache;
};

Store make_store(const Row& row) {
  Store store;
  store.cache = or_exit(l1::LruCache::create({.capacity_bytes_max = std::size_t{16} << 20}));
  for (std::uint64_t i = 0; i < kValues; ++i) {
    store.values.push_back(row.make(i));
    store.keys.push_back("quote:" + std::to_string(i));
    if (const auto done = store.cache->insert(store.keys.back(), store.values.back()); !done) {
      std::exit(1);
    }
  }
  return store;
}

Duration now() {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return std::chrono::seconds{spent.tv_sec} + std::chrono::nanoseconds{spent.tv_nsec};
}

volatile std::uint64_t sink;

template <typename Pass>
double time_passes(const Pass& pass) {
  const Duration began = now();
  std::uint64_t total = 0;
  for (int i = 0; i < kPasses; ++i) total += pass();
  sink = total;
  return static_cast<double>((now() - began).count()) / (kPasses * static_cast<double>(kValues));
}

double time_at_hand(const Row& row, const Store& store) {
  return time_passes([&] {
    std::uint64_t total = 0;
    for (const std::string& value : store.values) total += row.look(value);
    return total;
  });
}

double time_in_l1(const Row& row, const Store& store) {
  return time_passes([&] {
    std::uint64_t total = 0;
    for (const std::string& key : store.keys) {
      store.cache->visit(key,
                         [&](const l1::EntryView& entry) { total += row.look(entry.value()); });
    }
    return total;
  });
}

int run() {
  std::vector<Store> stores;
  for (const Row& row : kRows) stores.push_back(make_store(row));
  std::array<std::vector<double>, kRowCount> at_hand;
  std::array<std::vector<double>, kRowCount> in_l1;
  for (auto& samples : at_hand) samples.reserve(kRounds);
  for (auto& samples : in_l1) samples.reserve(kRounds);
  const std::uint64_t allocations = tiercel::testing::allocations();
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < kRowCount; ++i) {
      at_hand[i].push_back(time_at_hand(kRows[i], stores[i]));
      in_l1[i].push_back(time_in_l1(kRows[i], stores[i]));
    }
  }
  if (tiercel::testing::allocations() != allocations) {
    std::fprintf(stderr, "codec_bench: a look allocated memory\n");
    return 1;
  }
  std::printf("Nanoseconds a look, three fields of 104 bytes read; medians of %d rounds\n\n",
              kRounds);
  std::printf("%-18s %10s %14s %12s\n", "", "at hand", "found in L1", "over raw");
  const double raw = median(in_l1[0]);
  for (std::size_t i = 0; i < kRowCount; ++i) {
    const double found = median(in_l1[i]);
    std::printf("%-18s %10.1f %14.1f %12.2f\n", kRows[i].name, median(at_hand[i]), found,
                found / raw);
  }
  std::printf("\n");
  print_figure("codec_trivial_vs_raw", ratio(median(in_l1[2]), raw));
  print_figure("codec_capnp_view_vs_raw", ratio(median(in_l1[4]), raw));
  print_figure("codec_capnp_decode_ns", median(at_hand[5]));
  print_figure("codec_named_view_vs_raw", ratio(median(in_l1[6]), raw));
  return 0;
}

}  // namespace
}  // namespace tiercel::bench

int main() { return tiercel::bench::run(); }
