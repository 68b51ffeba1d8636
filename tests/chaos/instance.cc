#include "chaos/instance.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "chaos/board.h"
#include "chaos/capabilities.h"
#include "chaos/load.h"
#include "fleet/payload.h"
#include "support/resident_memory.h"
#include "tiercel/base/bytes.h"
#include "tiercel/cache/cache.h"

namespace tiercel::chaos {
namespace {

using namespace std::chrono_literals;

constexpr auto kLook = 10ms;
// A server that must answer would not wait for a second.
constexpr auto kReadTimeout = 250ms;
// For a proof that was begun after the last write. Only a lease that is lost takes so long.
constexpr Duration kDumpMax = 4s;

int complain(std::uint32_t number, const Error& error) {
  std::fprintf(stderr, "instance %u: %s\n", number, error.to_string().c_str());
  return 1;
}

CacheOptions cache_options(const Board& board, const InstanceSetup& setup) {
  const BoardConfig& config = board.config();
  const std::chrono::milliseconds lease{config.lease_ms};
  CacheOptions options{
      .name_space = kNamespace,
      .redis_url = setup.url.data(),
      .l1_capacity_bytes_max = setup.l1_bytes,
      .l1_huge_pages = false,
      .lease = lease,
      .stream_timeout = std::max(std::chrono::milliseconds{setup.stream_timeout_ms}, lease),
      .ttl = std::nullopt,  // An expired entry would look like a lost one.
      .negative_ttl = std::nullopt,
      .read_timeout = kReadTimeout,
      // The whole run must stay in the history, for the judge.
      .history_entries = config.log_capacity};
  options.foreign_writers = setup.foreign_writers;
  return options;
}

// "127.0.0.1:7001" → 7001
std::uint32_t port_of(const std::string& endpoint) {
  const auto port = parse_u64(std::string_view{endpoint}.substr(endpoint.rfind(':') + 1));
  return port ? static_cast<std::uint32_t>(*port) : 0;
}

std::string witness_of(const LeaseInfo& lease) { return std::string{to_string(lease.witness)}; }

class Instance {
 public:
  Instance(Board& board, Cache& cache, const std::vector<std::string>& keys, std::uint32_t number)
      : surroundings_{board, cache, keys, number} {}

  int run() {
    const InstanceSetup& setup = mine().setup;
    std::uint64_t seed = surroundings_.board.config().seed + 1000 * (surroundings_.number + 1);
    std::vector<std::jthread> threads;
    for (std::uint32_t i = 0; i < setup.reader_threads; ++i) {
      threads.emplace_back([this, s = ++seed] { run_reader(surroundings_, s); });
    }
    for (std::uint32_t i = 0; i < setup.filler_threads; ++i) {
      threads.emplace_back([this, s = ++seed] { run_filler(surroundings_, s); });
    }
    if (setup.writes) {
      threads.emplace_back([this, s = ++seed] { run_writer(surroundings_, s); });
    }
    mine().ready = 1;
    while (mine().stop.load(std::memory_order_acquire) == 0) {
      say();
      dump_if_wanted();
      std::this_thread::sleep_for(kLook);
    }
    say();
    return 0;
  }

 private:
  [[nodiscard]] InstanceBoard& mine() const { return surroundings_.mine(); }

  void say() {
    const LeaseInfo lease = surroundings_.cache.lease();
    mine().lease_held = lease.held ? 1 : 0;
    mine().master_port = port_of(lease.master);
    const std::string witness = witness_of(lease);
    for (std::size_t i = 0; i < mine().witness.size(); ++i) {
      mine().witness[i] = i < witness.size() && i + 1 < mine().witness.size() ? witness[i] : '\0';
    }
    const CacheStats stats = surroundings_.cache.stats();
    mine().epochs = stats.epochs;
    mine().epochs_warm = stats.epochs_warm;
    mine().l1_drops = stats.l1_drops;
    mine().l1_entries = stats.l1.entries;
    mine().l1_bytes = stats.l1.bytes_charged;
    mine().fills = stats.fills;
    mine().fills_dropped = stats.fills_dropped;
    mine().lease_refusals = stats.lease_refusals;
    mine().messages = stats.messages;
    mine().messages_unreadable = stats.messages_unreadable;
    mine().values_corrupt = stats.values_corrupt;
    mine().values_foreign = stats.values_foreign;
    mine().loads = stats.loads;
    mine().resident_bytes = testing::resident_bytes();
    mine().said_at = static_cast<std::uint64_t>(ticks_now());
  }

  // True when the lease rests on proofs that were all begun after `after`: then L1 reflects all
  // that was acknowledged before it.
  [[nodiscard]] bool vouched_since(std::int64_t after) const {
    const TimePoint now = Clock::system().now();
    const LeaseInfo lease = surroundings_.cache.lease();
    return lease.held &&
           ticks(now + lease.remaining - surroundings_.board.config().lease()) > after;
  }

  void dump_if_wanted() {
    const std::uint32_t wanted = mine().dump_wanted.load(std::memory_order_acquire);
    if (wanted == mine().dump_done.load(std::memory_order_relaxed)) return;
    const std::int64_t after = mine().dump_after.load(std::memory_order_acquire);
    const TimePoint deadline = Clock::system().now() + kDumpMax;
    while (!vouched_since(after) && Clock::system().now() < deadline) {
      std::this_thread::sleep_for(1ms);
    }
    mine().dump_vouched = vouched_since(after) ? 1 : 0;
    for (std::uint32_t key = 0; key < surroundings_.keys.size(); ++key) {
      const auto value = surroundings_.cache.try_get(surroundings_.keys[key]);
      const auto seen = value ? look_at(surroundings_, key, *value) : std::nullopt;
      mine().dump[key].store(seen ? seen->sequence : 0, std::memory_order_relaxed);
    }
    mine().dump_done.store(wanted, std::memory_order_release);
  }

  const Surroundings surroundings_;
};

}  // namespace

int run_instance(std::uint32_t number) {
  auto board = Board::attach(STDIN_FILENO);
  if (!board) return complain(number, board.error());
  if (number >= kInstancesMax) {
    return complain(number, invalid_argument("there is no instance of this number"));
  }
  const InstanceSetup& setup = board->instance(number).setup;
  // Read once by the library of the variant that has them; nobody else looks.
  ::setenv("TIERCEL_CHAOS_HOOKS", setup.hooks.data(), 1);
  auto cache = Cache::open(cache_options(*board, setup));
  if (!cache) return complain(number, cache.error());
  std::vector<std::string> keys;
  for (std::uint32_t key = 0; key < board->config().key_count; ++key) {
    keys.push_back(fleet::key_name(key));
  }
  Instance instance{*board, **cache, keys, number};
  return instance.run();
}

}  // namespace tiercel::chaos
