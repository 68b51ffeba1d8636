#pragma once

// Lock: one holder at a time for a name, among all instances that share a namespace and the threads
// in them. For work that should not be done twice at once: a nightly report, a migration, a slow
// rebuild. It saves work. It is not what correctness may rest on alone.
//
// What it is. A key in Redis with a token and a life (`ttl`). A watchdog renews it each ttl/3 until
// it is given back. is_held() goes by our own clock, from the moment at which the last acknowledged
// renewal was sent: a holder that was stopped, or whose Redis is away, sees that it can no longer
// be vouched for before anyone else is granted it.
//
// What it is not. A thread can be held up between is_held() and what it then does. And Redis
// replicates asynchronously: a failover, a restart without its data, an eviction or a FLUSHALL can
// lose a grant, and a master that was replaced and does not know it yet goes on to grant. Then
// there are TWO HOLDERS for a while: until the watchdog asks the new master, which it does as soon
// as it is connected to it, and at the latest when the ttl ends. So let what you write to refuse
// old holders, by the fencing number: it rises with each grant of the name. (M. Kleppmann, "How to
// do distributed locking", 2016, calls it a fencing token, and shows why no lock service can do
// without one, nor Redlock with its majority of servers, which is not used here.)
//
// The numbers through a failover. They are the server's clock, and one more than the last where
// that is higher. A number that was lost with a grant is surpassed if the new master's clock, at
// its next grant, is past the old one's at the lost grant: servers whose clocks differ by less than
// the failover took never repeat one. Two masters at a time can give numbers in either order.
//
// Not reentrant: who locks a name twice waits for itself. Waiters of one cache are served in order;
// between instances there is no order. A waiter in another instance learns of a release by asking,
// each 50 to 200 ms. docs/design/lock.md has the protocol.
//
//   auto lock = cache->lock("nightly-report", {.wait = 5s});        // Result<Lock>
//   if (!lock) return lock.error().code == ErrorCode::kConflict ? skip() : fail(lock.error());
//   for (auto& row : rows) {
//     if (!lock->is_held()) return stop();
//     db.exec("UPDATE report SET …, fence = ? WHERE fence <= ?", lock->fencing_number(), …);
//   }                                                               // Given back by ~Lock.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"

namespace tiercel {

struct LockOptions {
  // For how long it stays taken when its holder is gone without a word. 100 ms to 10 min. Less
  // frees it sooner; more outlasts longer troubles with Redis. It should exceed a failover (with
  // Sentinel's defaults some 30 s) for a lock that is to survive one, and three times the slowest
  // reply.
  std::chrono::milliseconds ttl{10'000};
  // How long lock() may take in all, waiting for others and for Redis. 1 ms to 1 h. try_lock waits
  // for Redis alone, for CacheOptions::write_timeout.
  std::chrono::milliseconds wait{10'000};
  // False: it is not renewed, and ends with its ttl, counted from when it was asked for.
  bool watchdog = true;
  // Granted, and renewed, only when so many replicas have that. 0 to 64. It narrows what a failover
  // can lose, and does not close it: another replica may be promoted. While they are fewer nothing
  // is granted and what is held is lost. Shares WriteOptions::replicas' connection.
  std::uint32_t replicas = 0;
  // Called once, on the cache's loop thread, when the lock can no longer be vouched for: is_held()
  // is false, and someone else may have it. May use the cache and the Lock, but not block nor
  // throw. Not called once it is being given back, nor at the cache's end. It can still be running
  // when ~Lock, or a release() that fails, returns: let it share ownership of what it touches.
  std::function<void()> on_lost{};
};

inline constexpr std::size_t kLockNameBytesMax = 1024;
// In one cache at a time: locks held, and calls that wait for one. Past it: kOverloaded.
inline constexpr std::size_t kLocksHeldMax = 1024;
inline constexpr std::size_t kLocksWaitingMax = 4096;

// Errors: kInvalidArgument naming the field, what was given and its range.
Result<void> validate(const LockOptions& options);

class LockService;

// A grant. Movable; empty when default-made, moved from or released, and then never held. The const
// methods may be called from any thread; the others not beside any other call. May outlive the
// cache, whose end ends it. In a child of fork() it means nothing, and gives nothing back.
class Lock {
 public:
  Lock() noexcept;
  // Gives it back without waiting. Unless Redis is away others can have it at once.
  ~Lock();
  Lock(Lock&& other) noexcept;
  Lock& operator=(Lock&& other) noexcept;  // Gives back what it held.

  // True while nobody else can have been granted it, but for what is said above. Never true again
  // once lost. Costs a look at the clock.
  [[nodiscard]] bool is_held() const noexcept;
  // How long is_held() will stay true if no renewal comes; 0 when it is false.
  [[nodiscard]] std::chrono::milliseconds remaining() const noexcept;
  // Higher than that of every grant of the name before; of any name, in fact. Below 2^63; more than
  // a double (a number in JSON) holds exactly. 0 for an empty lock. Without Redis the numbers begin
  // anew with each cache.
  [[nodiscard]] std::uint64_t fencing_number() const noexcept;
  [[nodiscard]] const std::string& name() const noexcept;

  // Gives it back, and leaves this empty. True: it was ours until now, nobody else had it. False:
  // it had been lost (or this was empty). Errors: kUnavailable, kDeadlineExceeded (it may still be
  // taken, until its ttl ends; giving it back is tried until then), kClosed. Blocking, for
  // CacheOptions::write_timeout at most; kInvalidArgument, and nothing done, on the loop thread.
  Result<bool> release();
  // The same; the callback runs once, on the loop thread or, at once, on this one.
  void release_async(UniqueFunction<void(Result<bool>)> callback);

 private:
  friend class LockService;
  struct Grant;
  explicit Lock(std::shared_ptr<Grant> grant) noexcept;

  std::shared_ptr<Grant> grant_;
};

}  // namespace tiercel
