#pragma once

// Everything that can be set on a Cache. A plain aggregate: name the fields that differ from the
// default.
//
//   CacheOptions{.name_space = "game", .redis_url = "redis://127.0.0.1:6379", .lease = 200ms}

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "tiercel/base/clock.h"
#include "tiercel/base/executor.h"
#include "tiercel/base/log.h"
#include "tiercel/base/result.h"
#include "tiercel/cache/circuit_breaker.h"
#include "tiercel/coherence/witness.h"
#include "tiercel/l1/lru_cache.h"
#include "tiercel/l2/options.h"

namespace tiercel {

struct CacheOptions {
  // --- what is shared
  // -------------------------------------------------------------------------------

  // Instances that share Redis and this name share their entries. 1 to 64 of A-Z a-z 0-9 . _ -
  std::string name_space = "tiercel";

  // Where L2 is, as a URL (l2/options.h) or in full; at most one of the two. Neither: the cache is
  // L1 only.
  std::string redis_url{};
  std::optional<l2::RedisOptions> redis{};

  // --- L1
  // -------------------------------------------------------------------------------------------

  // What L1 may hold, all overhead included (l1/lru_cache.h says what is charged). 64 KiB to 1 TiB.
  std::size_t l1_capacity_bytes_max = std::size_t{64} << 20;
  // Locks for changes that L1 is striped over: a power of two, 1 to 4096. One entry must fit half
  // of capacity / stripes.
  std::size_t l1_stripes = 64;
  // Which entry goes when L1 is full: see l1::Eviction.
  l1::Eviction l1_eviction = l1::Eviction::kLru;
  // 2 MiB pages for L1: faster, but all of the capacity becomes resident soon after the start.
  bool l1_huge_pages = true;

  // --- how fresh
  // ------------------------------------------------------------------------------------

  // Δ: a read answered from L1 reflects all writes acknowledged this long ago. 20 ms to 60 s. Less
  // is fresher, and costs more pings (5 each Δ) and more lapses, during which reads go to Redis.
  std::chrono::milliseconds lease{500};
  // An unanswered ping of this age gives the subscription up and drops L1. `lease` to 10 min.
  std::chrono::milliseconds stream_timeout{2000};

  // The weakest witness that the lease may rest on (coherence/witness.h); lease().witness says what
  // it rests on now. nullopt: kSentinels where there are Sentinels, else kNone. Stronger means that
  // L1 falls silent sooner when replicas or Sentinels are away.
  std::optional<coherence::WitnessMode> witness_min{};
  // Also observe those who write the namespace's values without Tiercel: redis-cli, a service in
  // another language, eviction, FLUSHALL. Costs the server a message to each instance for each
  // write; every new epoch begins with an empty L1; an own write is read back before L1 has it.
  // Needs Redis 6 and the permission for CLIENT TRACKING. Not seen: SWAPDB.
  bool foreign_writers = false;
  // False: writes leave no history and have no version, which is cheaper for the server
  // where they come one by one (sets with history leave together where they come in numbers). Every
  // new epoch then begins with an empty L1, and Freshness::at_least, if_version, tags and
  // value_push_bytes_max cannot be used. Must be the same on all instances.
  bool history = true;
  // A value of up to this size travels with its invalidation, so that instances which have the key
  // in L1 are given the new value and do not ask for it. 0 (never) to 64 KiB. Worth it for small
  // values that are read everywhere; each instance receives each of them.
  std::size_t value_push_bytes_max = 0;
  // Keys and tags whose invalidation could not be sent, and is when Redis is back, before L1
  // answers again. Past it they become one clear(). 0 (none is kept) to 1 M.
  std::size_t invalidations_queued_max = 10000;

  // Of the answers of L1 under its lease one in so many, drawn at random, is compared with the
  // master afterwards; CacheStats::audit has what came of it, and a violation is logged. 1 to 1e9;
  // nullopt: none. Only with Redis. Costs a hit about a nanosecond, the server a small question
  // every Δ/5 (1 s at most) and one for each sample: at most 1,000 a second, 16 at a time, the
  // samples beyond are dropped. docs/design/coherence.md, "The auditor".
  std::optional<std::size_t> audit_one_in = 100'000;

  // --- how long
  // -------------------------------------------------------------------------------------

  // Life of an entry that was written or loaded without a TTL of its own. 1 ms to 10 years;
  // nullopt: until it is evicted or invalidated.
  std::optional<std::chrono::milliseconds> ttl = std::chrono::hours{1};
  // That life is shortened by a random part of up to this fraction, so that what was loaded
  // together does not expire together. 0 to 0.9. A TTL given with a write or by a loader is taken
  // as it is.
  double ttl_jitter = 0.1;
  // For how long "the loader found nothing" is kept. 1 ms to 10 years; nullopt: not at all.
  std::optional<std::chrono::milliseconds> negative_ttl = std::chrono::seconds{5};

  // --- how patient
  // ----------------------------------------------------------------------------------

  // Limits of one call where it does not give its own. 1 ms to 1 h.
  std::chrono::milliseconds read_timeout{1000};
  std::chrono::milliseconds write_timeout{1000};
  // A read that has a loader waits this long for Redis before it loads without it. 1 ms to 1 h.
  std::chrono::milliseconds read_timeout_before_load{250};
  // Stops asking a Redis that keeps failing for what a loader can bring: reads with a loader load
  // at once then, and what they bring is not stored. Reads without one have nothing better to do
  // than to wait. It is forgotten when the connection is up again. nullopt: it is always asked.
  std::optional<BreakerOptions> l2_breaker = BreakerOptions{};
  // One process may load a key for this long before another may, too. 10 ms to 10 min. It should
  // exceed what the loader takes: what comes later is handed to its callers but not stored.
  std::chrono::milliseconds fill_lease{5000};

  // --- bounds
  // ---------------------------------------------------------------------------------------

  // Reads that may wait for L2 or a loader at a time; one more is answered kOverloaded. 1 to 16 M.
  // Each takes up to two of the queue_commands_max of l2/options.h, which is a bound as well; it
  // bounds the writes that are not answered yet, too.
  std::size_t reads_waiting_max = 65536;
  // A larger value is refused with kInvalidArgument. 1 byte to 512 MiB (Redis' own limit, less the
  // header). Above queue_bytes_max of l2/options.h (64 MiB) a value cannot be sent. One that does
  // not fit L1 (half of l1_capacity_bytes_max / l1_stripes) stays in Redis alone.
  std::size_t value_bytes_max = std::size_t{8} << 20;
  // Entries kept in the history stream in Redis, about. 16 to 100 M. Must be the same on all
  // instances.
  std::size_t history_entries = 10000;

  // The keys that L1 is asked for most are kept in Redis, so many, for those who start later:
  // Cache::warm_up. 0 (they are not) to 100,000. Keys of more than 256 bytes are left out.
  std::size_t hot_keys_max = 0;
  // How often they are told. 100 ms to 1 h.
  std::chrono::milliseconds hot_keys_every{30'000};

  // --- surroundings
  // ---------------------------------------------------------------------------------

  // Where loaders run. nullptr: a ThreadPool of the cache's own with `loaders`. Must outlive the
  // cache and run every task that it accepted.
  Executor* executor = nullptr;
  ThreadPoolOptions loaders{};
  const Clock* clock = &Clock::system();
  LogSink log{};
  // For jitter, backoff and hashing; 0: from entropy.
  std::uint64_t seed = 0;
};

inline constexpr std::size_t kKeyBytesMax = 65536;
inline constexpr std::chrono::milliseconds kTimeoutMax = std::chrono::hours{1};
inline constexpr std::chrono::milliseconds kTtlMax = std::chrono::hours{24 * 365 * 10};

// Errors: kInvalidArgument naming the field, what was given and its range.
Result<void> validate(const CacheOptions& options);

}  // namespace tiercel
