#pragma once

// Cache: what an application includes. An in-process cache (L1) in front of Redis (L2), kept
// coherent over all instances that share a namespace.
//
// The guarantee. A read answered from L1 reflects every write (set or invalidate, of any instance)
// that was acknowledged longer than the lease Δ before, whatever the network does to the connection
// to the master; else L1 does not answer and the read goes to Redis. An instance reads its own
// writes. A value that was loaded or fetched while its key changed is not cached.
//
// Not guaranteed: asynchronous replication can lose an acknowledged write at a failover
// (WriteOptions::replicas narrows that); writes of programs that do not use Tiercel are not seen
// until the TTL ends (unless CacheOptions::foreign_writers); a read from L1 is not linearizable.
// README has the whole list, docs/design/coherence.md the proof and what it assumes.
//
// Threads. All methods may be called from any thread, except that the blocking ones answer
// kInvalidArgument on the cache's own loop thread (inside a callback), where they could never
// return. A callback runs exactly once: on the calling thread where the answer is there at once,
// else on the loop thread or on an executor's thread; it must not block. Loaders run on the
// executor, at most one for a key at a time in this process.
//
// Failure. Reads: kUnavailable when Redis cannot be reached within the deadline; kOverloaded past a
// bound; kInvalidArgument for an argument out of its range (a key over 64 KiB, a timeout or TTL, a
// value over value_bytes_max) or a refused password; kClosed; a loader's own error as it is.
// Writes: the same, without Redis also kInvalidArgument for a value that no stripe of L1 can hold,
// and kDeadlineExceeded when the outcome is unknown (then L1 does not answer for the key until
// Redis has been asked). A miss is not an error. Nothing is thrown.
//
//   auto cache = Cache::open({.redis_url = "redis://127.0.0.1:6379"});
//   if (!cache) return fail(cache.error().to_string());
//   (void)(*cache)->set("player:7", "Ann");
//   auto found = (*cache)->get("player:7");   // Result<std::optional<Value>>
//   if (found && *found) use((*found)->bytes());

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/cache/awaitable.h"
#include "tiercel/cache/freshness.h"
#include "tiercel/cache/lock.h"
#include "tiercel/cache/options.h"
#include "tiercel/cache/preload.h"
#include "tiercel/cache/stats.h"
#include "tiercel/cache/value.h"

namespace tiercel {

// What a loader found. A std::string converts to it.
struct Loaded {
  Loaded(std::string value) : bytes(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Loaded(std::string value, std::chrono::milliseconds life) : bytes(std::move(value)), ttl(life) {}

  std::string bytes;
  // nullopt: the options' ttl, with jitter. 1 ms to 10 years.
  std::optional<std::chrono::milliseconds> ttl;
  // Up to 16. See invalidate_tag.
  std::vector<std::string> tags{};
  // What a RequestLoader answers that finds what it was told of unchanged: that is kept, for a life
  // anew. `bytes` are not looked at.
  bool is_unchanged = false;
  [[nodiscard]] static Loaded unchanged() {
    Loaded loaded{std::string{}};
    loaded.is_unchanged = true;
    return loaded;
  }
};

// Gets the value of a key from where it really lives. nullopt: there is nothing (kept for
// negative_ttl). An exception counts as kInternal. It must end by itself: nothing can stop it, and
// ~Cache waits for it.
using Loader = std::function<Result<std::optional<Loaded>>(std::string_view key)>;

// The loaders of a keyspace (keyspace.h). One that is told what there was can ask its source for
// changes only. Views are valid during the call.
struct LoadRequest {
  std::string_view key;
  // What is there still, though its life has ended or is about to; nullopt: nothing.
  std::optional<std::string_view> old_value{};
  std::uint64_t old_version = 0;
};
using LoadResult = Result<std::optional<Loaded>>;
using RequestLoader = std::function<LoadResult(const LoadRequest&)>;
// As many results, in that order; each succeeds or fails on its own.
using BatchLoader = std::function<std::vector<LoadResult>(std::span<const LoadRequest>)>;

class FillSource;

struct ReadOptions {
  // nullopt: the options' read_timeout. 1 ms to 1 h.
  std::optional<std::chrono::milliseconds> timeout{};
  // Empty: a miss in Redis is the answer.
  Loader loader{};
  Freshness freshness{};
  WithoutLease without_lease{};
  // Of a Keyspace's reads.
  std::shared_ptr<FillSource> source{};
  // False: what neither L1 nor Redis has is not there, though there is a loader.
  bool may_load = true;
};

struct WriteOptions {
  // nullopt: the options' ttl, with jitter. 1 ms to 10 years.
  std::optional<std::chrono::milliseconds> ttl{};
  // nullopt: the options' write_timeout. 1 ms to 1 h.
  std::optional<std::chrono::milliseconds> timeout{};
  // Up to 16. See invalidate_tag. Of a set only.
  std::vector<std::string> tags{};
  // Done only if the key has this version now (as Value::version() says), or, for kAbsent, if it
  // has no value. Else kConflict, and nothing is changed. Of a set only.
  std::optional<std::uint64_t> if_version{};
  static constexpr std::uint64_t kAbsent = 0;
  // Acknowledged when so many replicas have it, too. With fewer in time: kDeadlineExceeded, the
  // write stands on the master and may be lost by a failover. Such writes have a connection of
  // their own and follow one another there. 0 to 64.
  std::uint32_t replicas = 0;
  // Acknowledged when no instance can serve what was there before any more: after the longest lease
  // in the fleet, in addition to `timeout`.
  bool fence = false;
  // Of a Keyspace's writes.
  std::shared_ptr<FillSource> source{};
};

// A write that was acknowledged.
struct Written {
  // Rises with each write of a key. Writes of different keys may share one.
  std::uint64_t version = 0;
  // That have it for certain; 0 where it was not asked for.
  std::uint32_t replicas = 0;
};

using ReadResult = Result<std::optional<Value>>;  // nullopt: there is no such entry.
using WriteResult = Result<Written>;

class Cache {
 public:
  // Checks the options and starts to connect; does not wait for Redis, which may come up later.
  // Errors: kInvalidArgument, naming the option.
  static Result<std::unique_ptr<Cache>> open(CacheOptions options);

  // Answers what still waits with kClosed, waits for running loaders, closes the connections. No
  // other call may be under way; not from a callback. Values outlive it.
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  // Blocking. Waits until L1 may answer (both links up and the lease held; at once without Redis).
  // Errors: kUnavailable at the timeout, or kInvalidArgument as soon as the server refuses us, with
  // the reason.
  Result<void> wait_until_ready(std::chrono::milliseconds timeout);

  // L1 only, never waits, no system call. nullopt: not there, or L1 may not answer now; always for
  // Freshness::latest().
  [[nodiscard]] std::optional<Value> try_get(std::string_view key, Freshness freshness = {});

  // L1, then Redis, then the loader if there is one. Reads of one key that miss at the same time
  // share one.
  ReadResult get(std::string_view key, ReadOptions options = {});
  void get_async(std::string_view key, ReadOptions options,
                 UniqueFunction<void(ReadResult)> callback);
  Awaitable<ReadResult> co_get(std::string_view key, ReadOptions options = {});

  // The same for many keys: one pass over L1, one pipeline to Redis. One result for each key, in
  // order; each fails or succeeds on its own.
  std::vector<ReadResult> get_many(std::span<const std::string_view> keys,
                                   ReadOptions options = {});
  void get_many_async(std::span<const std::string_view> keys, ReadOptions options,
                      UniqueFunction<void(std::vector<ReadResult>)> callback);
  Awaitable<std::vector<ReadResult>> co_get_many(std::span<const std::string_view> keys,
                                                 ReadOptions options = {});

  // Stores the value in Redis and tells all instances. Acknowledged by the master only. Sets of
  // different keys that wait at the same moment leave together, at most 16: they have the same
  // version, and what the server refuses for one (an ACL, say) it refuses for all of them. Writes
  // that one thread starts are sent in that order (but for `replicas`, see there).
  WriteResult set(std::string_view key, std::string_view value, WriteOptions options = {});
  void set_async(std::string_view key, std::string_view value, WriteOptions options,
                 UniqueFunction<void(WriteResult)> callback);
  Awaitable<WriteResult> co_set(std::string_view key, std::string_view value,
                                WriteOptions options = {});

  // Removes the entry everywhere; a load of the key that is under way will not be stored.
  WriteResult invalidate(std::string_view key, WriteOptions options = {});
  void invalidate_async(std::string_view key, WriteOptions options,
                        UniqueFunction<void(WriteResult)> callback);
  Awaitable<WriteResult> co_invalidate(std::string_view key, WriteOptions options = {});

  // Many keys in one step for the others: one message. At most 1,024 keys, 64 KiB together.
  WriteResult invalidate_many(std::span<const std::string_view> keys, WriteOptions options = {});
  void invalidate_many_async(std::span<const std::string_view> keys, WriteOptions options,
                             UniqueFunction<void(WriteResult)> callback);

  // Every entry that was written or loaded with this tag is invalid, everywhere, and so is a load
  // that began before. O(1), also for the reads that follow: nothing is searched. (A tag can take
  // an unrelated one with it, one in 65,536.)
  WriteResult invalidate_tag(std::string_view tag, WriteOptions options = {});
  void invalidate_tag_async(std::string_view tag, WriteOptions options,
                            UniqueFunction<void(WriteResult)> callback);
  // Every entry of the namespace, likewise; but for what foreign writers stored.
  WriteResult clear(WriteOptions options = {});
  void clear_async(WriteOptions options, UniqueFunction<void(WriteResult)> callback);

  // A lock among all instances and their threads: see lock.h, also for what it cannot promise.
  // Waits for it, up to options.wait. Errors: kConflict, it was held by others all the time;
  // kUnavailable, Redis could not be asked, or too few replicas have it; kDeadlineExceeded, a reply
  // was lost: it is not held by the caller, and nobody else may get it until its ttl ends;
  // kOverloaded past kLocksHeldMax or kLocksWaitingMax; kInvalidArgument; kClosed. Without Redis:
  // among the threads of this cache.
  Result<Lock> lock(std::string_view name, LockOptions options = {});
  void lock_async(std::string_view name, LockOptions options,
                  UniqueFunction<void(Result<Lock>)> callback);
  Awaitable<Result<Lock>> co_lock(std::string_view name, LockOptions options = {});
  // Blocking, but for one reply of Redis only. nullopt: someone else holds it. Errors: as above.
  Result<std::optional<Lock>> try_lock(std::string_view name, LockOptions options = {});

  // Brings what Redis has of these keys into L1, in the background, as soon as L1 may be filled. At
  // most one copy of a key need be given. `done` runs on any thread, at the close at the latest; it
  // may be empty. (Keyspace::preload also loads.)
  // Errors: kInvalidArgument, and then `done` does not run.
  Result<void> preload(std::vector<std::string> keys, const PreloadOptions& options = {},
                       PreloadCallback done = {});
  // Likewise, the keys that were hot on another instance lately (CacheOptions::hot_keys_max). Those
  // of a keyspace only if it has been opened before.
  Result<void> warm_up(const PreloadOptions& options = {}, PreloadCallback done = {});

  [[nodiscard]] LeaseInfo lease() const;
  [[nodiscard]] CacheStats stats() const;

 private:
  friend class KeyspaceCore;
  class Core;
  explicit Cache(std::shared_ptr<Core> core);
  std::shared_ptr<Core> core_;
};

}  // namespace tiercel
