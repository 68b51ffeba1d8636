// What does the guard of a keyspace cost? One process with two instances of the cache, over a real
// Redis on the same machine: the first builds the filter from an enumerator that makes its keys (24
// bytes, as bloom_bench's) and puts it into Redis, the second primes from there.
//
//   build     from the enumerator's first key to the first refusal
//   store     from then on until Redis has all of it
//   prime     from the opening of the keyspace to the first refusal, without a limit on bytes a
//   second
//             but 100 GiB, and with the default one
//   memory    of the filter; what the process has grown by; what Redis says that it uses for it
//   refusal   a blocking read of a key that cannot exist, by one thread
//   write     invalidations of one instance, 64 in flight: with a guard and without
//
// Options: --keys=N (100,000,000), --quick (a smoke test).

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "figures.h"
#include "l1_keys.h"
#include "support/gate.h"
#include "support/redis_server.h"
#include "support/resident_memory.h"
#include "tiercel/base/check.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;
using Clocked = std::chrono::steady_clock;
using Items = Keyspace<serialization::BytesCodec>;

constexpr double kBitsPerKey = 10;

double seconds_since(Clocked::time_point start) {
  return std::chrono::duration<double>(Clocked::now() - start).count();
}

std::unique_ptr<Cache> open_cache(const testing::RedisServer& server) {
  auto cache = Cache::open({.redis_url = server.url(),
                            .l1_capacity_bytes_max = std::size_t{8} << 20,
                            .l1_huge_pages = false});
  TIERCEL_CHECK(cache);
  TIERCEL_CHECK((*cache)->wait_until_ready(30s));
  return std::move(*cache);
}

struct Enumerated {
  std::uint64_t keys = 0;
  std::atomic<std::int64_t> began_ns{0};
};

Items open_items(Cache& cache, Enumerated& source, std::size_t bytes_per_second) {
  auto items = Items::open(
      cache, {.name = "item",
              .loader = [](std::string_view, const Items::Old&) -> Items::Loaded {
                return std::optional<Items::Load>{};
              },
              .guard = BloomGuardOptions{
                  .keys_expected = source.keys,
                  .bits_per_key = kBitsPerKey,
                  .enumerate = [&source](const BloomGuardOptions::Found& found) -> Result<void> {
                    source.began_ns = Clocked::now().time_since_epoch().count();
                    for (std::uint64_t number = 0; number < source.keys; ++number) {
                      if (!found(make_key(number).text())) break;
                    }
                    return {};
                  },
                  .bytes_per_second_max = bytes_per_second}});
  TIERCEL_CHECK(items);
  return std::move(*items);
}

template <typename Condition>
void wait_until(Condition&& condition) {
  while (!condition()) std::this_thread::sleep_for(1ms);
}

void wait_until_answering(const Items& items) {
  wait_until([&] { return items.stats().guard.state == GuardState::kAnswering; });
}

double megabytes(double bytes) { return bytes / 1e6; }

double redis_used(testing::RedisServer& server) {
  const std::string info = server.command({"INFO", "memory"});
  return std::stod(info.substr(info.find("used_memory:") + 12));
}

// Invalidations a second, 64 in flight.
double invalidations(Cache& cache, const std::string& prefix, std::uint64_t count) {
  constexpr std::uint64_t kInFlight = 64;
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> ended{0};
  std::function<void()> next = [&] {
    const std::uint64_t number = begun.fetch_add(1);
    if (number >= count) return;
    cache.invalidate_async(prefix + std::string{make_key(number).text()}, {},
                           [&](const WriteResult& written) {
                             TIERCEL_CHECK(written);
                             ended.fetch_add(1);
                             next();
                           });
  };
  const auto start = Clocked::now();
  for (std::uint64_t i = 0; i < kInFlight; ++i) next();
  wait_until([&] { return ended.load() == count; });
  return static_cast<double>(count) / seconds_since(start);
}

double measure_prime(testing::RedisServer& server, Enumerated& source, std::size_t rate,
                     const char* name) {
  const auto cache = open_cache(server);
  const auto start = Clocked::now();
  const Items items = open_items(*cache, source, rate);
  wait_until_answering(items);
  const double seconds = seconds_since(start);
  TIERCEL_CHECK(items.stats().guard.primed == 1);
  std::printf("prime    %.3f s (%s)\n", seconds, name);
  return seconds;
}

void run(std::uint64_t keys, std::uint64_t writes) {
  const auto server = testing::RedisServer::start();
  const double redis_before = redis_used(*server);
  Enumerated source{.keys = keys};
  const auto first = open_cache(*server);
  const std::size_t resident_before = testing::resident_bytes();
  const Items items = open_items(*first, source, std::size_t{100} << 30);
  wait_until_answering(items);
  const Clocked::time_point began{Clocked::duration{source.began_ns.load()}};
  const double built = seconds_since(began);
  const auto answering = Clocked::now();
  wait_until([&] { return items.stats().guard.stored == 1; });
  const double stored = seconds_since(answering);
  const GuardStats stats = items.stats().guard;
  const double grown = static_cast<double>(testing::resident_bytes() - resident_before);
  std::printf("%llu keys, %.0f bits each: %.1f MB, expected to pass %.5f\n",
              static_cast<unsigned long long>(keys), kBitsPerKey,
              megabytes(static_cast<double>(stats.bytes)), stats.false_positive_rate);
  std::printf("build    %.3f s (one thread, making the keys included)\n", built);
  std::printf("store    %.3f s\n", stored);
  std::printf("memory   process %.1f MB, Redis %.1f MB\n", megabytes(grown),
              megabytes(redis_used(*server) - redis_before));
  const double primed = measure_prime(*server, source, std::size_t{100} << 30, "no limit");
  measure_prime(*server, source, BloomGuardOptions{}.bytes_per_second_max, "64 MiB a second");

  constexpr int kReads = 1'000'000;
  const auto start = Clocked::now();
  for (int i = 0; i < kReads; ++i) {
    static_cast<void>(items.get(std::string_view{"cannot exist"}));
  }
  std::printf("refusal  %.0f ns\n", seconds_since(start) * 1e9 / kReads);
  TIERCEL_CHECK(items.stats().guard.refused > 0);
  const double plain = invalidations(*first, "other:", writes);
  const double guarded = invalidations(*first, "item:", writes);
  std::printf("write    %.0f a second without a guard, %.0f with\n", plain, guarded);
  print_figure("guard_prime_s", primed);
  print_figure("guard_write_vs_plain", guarded / plain);
}

}  // namespace
}  // namespace tiercel::bench

int main(int argc, char** argv) {
  CLI::App app{"What the guard of a keyspace costs"};
  std::uint64_t keys = 100'000'000;
  bool quick = false;
  app.add_flag("--quick", quick, "A smoke test: times are too short to mean anything");
  app.add_option("--keys", keys, "How many");
  CLI11_PARSE(app, argc, argv);
  if (quick) keys = std::min<std::uint64_t>(keys, 100'000);
  tiercel::bench::run(keys, quick ? 1000 : 200'000);
  return 0;
}
