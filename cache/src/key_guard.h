#pragma once

// KeyGuard: the guard of one keyspace in one process: BloomGenerations, and what fills them.
// cache/bloom_guard.h says what it promises, docs/design/bloom.md why it holds.
//
//   key_guard.cc        life cycle, when to do what, statistics
//   key_guard_prime.cc  from Redis
//   key_guard_build.cc  from the source, and into Redis
//
// One thing is done at a time, a job; its number makes late answers of an ended one known. A job
// lives on one branch of history: whatever its answers say, they count only while both links are on
// the server where it began.
//
// Threads: as marked. The loop's tasks hold a plain `this`: close() and the loop's end come before
// it can go.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "chunk_pump.h"
#include "guard_state.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/executor.h"
#include "tiercel/base/log.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/random.h"
#include "tiercel/cache/bloom_generations.h"
#include "tiercel/cache/bloom_guard.h"
#include "tiercel/coherence/lease.h"
#include "tiercel/l2/client.h"

namespace tiercel {

class LinkDriver;

class KeyGuard : public std::enable_shared_from_this<KeyGuard> {
 public:
  // Of the cache; all outlive close().
  struct Surroundings {
    const Clock& clock;
    l2::EventLoop& loop;
    Executor& executor;
    l2::Client* client = nullptr;  // Null without Redis; and the next.
    const LinkDriver* links = nullptr;
    const coherence::LeaseCell& lease;
    LogSink log{};
    std::string guard_key{};     // Names::guard_key.
    std::string value_prefix{};  // Of the keyspace's values in Redis.
    std::string token{};         // Names this instance.
  };

  KeyGuard(std::string name, BloomGuardOptions options, Surroundings surroundings);

  // ---- any thread

  void start();
  // Nothing is begun any more; waits until the enumerator has returned. Not on the loop thread.
  // It is about to be closed: enumerations end soon.
  void stop() noexcept { closed_.store(true); }
  void close() TIERCEL_EXCLUDES(mutex_);

  // Keys are those within the keyspace.
  void add(std::string_view key) { generations_.add(key); }
  // False: it cannot exist, if what vouches was good before this call and still is after it.
  [[nodiscard]] bool may_contain(std::string_view key) const {
    return generations_.may_contain(key);
  }
  void note_refused() noexcept { refused_.fetch_add(1, std::memory_order_relaxed); }
  void request_rebuild();
  [[nodiscard]] GuardStats stats() const TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] const std::string& guard_key() const noexcept { return around_.guard_key; }

  // ---- loop thread

  // Keys may have been missed: before the lease is valid again.
  void lost();

 private:
  static constexpr Duration kLookEvery = std::chrono::seconds{1};  // While all is well.
  static constexpr Duration kLookForBuilder = std::chrono::milliseconds{200};
  static constexpr Duration kLookForLinks = std::chrono::milliseconds{10};
  static constexpr Duration kBuilderLife = std::chrono::seconds{10};
  enum class Job : std::uint8_t { kNone, kLook, kPrime, kBuild };
  // What an enumerator on the executor and the loop thread share.
  struct Enumeration {
    std::atomic<bool> stops{false};
  };

  // --- key_guard.cc
  [[nodiscard]] bool is_local() const noexcept { return around_.client == nullptr; }
  void arm(Duration delay);
  void tick();
  void decide(Result<l2::Reply> reply);
  void begin(Job job);
  void end(Duration pause);  // Without a failure.
  void fail(const Error& error);
  void drop_job();
  // Whether answers still come from where the job began.
  [[nodiscard]] bool is_linked() const;
  [[nodiscard]] TimePoint answer_by() const;
  // A callback that does nothing once the job has ended; off its branch it ends it.
  l2::ReplyCallback in_job(std::function<void(Result<l2::Reply>)> then);
  void ask(l2::ReplyCallback callback);
  // Replaces what Redis holds of the guard.
  void change(std::string_view id, const std::string& text, l2::ReplyCallback callback);
  void condemn(const StoredGuard& stored);
  void let_go(std::shared_ptr<const BloomFilter> filter);
  [[nodiscard]] std::uint64_t known_generation() const;
  void log(LogLevel level, const std::string& message) const;
  static Error refused(const l2::Reply& reply);
  static Result<void> take_integer(std::size_t chunk, const Result<l2::Reply>& reply);
  static bool is_one(const Result<l2::Reply>& reply) {
    return reply && reply->is_integer() && reply->integer == 1;
  }
  static Error not_done(const Result<l2::Reply>& reply, const std::string& why);

  // --- key_guard_prime.cc
  void begin_priming();
  void prime(Result<l2::Reply> reply);
  Result<void> take_chunk(std::size_t chunk, Result<l2::Reply> reply);
  void primed(Result<void> result);

  // --- key_guard_build.cc
  void begin_building(bool from_source);
  void lease_answered(const Result<l2::Reply>& reply);
  void renew_lease();
  void return_lease();
  void plan(Result<l2::Reply> reply);
  Result<void> make_filter(std::uint64_t generation);
  [[nodiscard]] BloomOptions bloom_options(std::uint64_t generation) const;
  void make_chunks();
  void announce();
  void enumerate();
  void enumerate_by_user();
  void scan(const std::string& cursor);
  void scanned(Result<l2::Reply> reply);
  void enumerated(Result<void> result);
  void await_messages(TimePoint announced_at);
  void store();
  bool send_chunk(std::size_t chunk, l2::ReplyCallback callback);
  void switch_over(Result<void> result);
  void clean_up();
  void cleaned_up(Result<void> result);

  const std::string name_;
  const BloomGuardOptions options_;
  const Surroundings around_;
  BloomGenerations generations_;

  std::atomic<bool> closed_{false};
  std::atomic<bool> rebuild_requested_{false};
  std::atomic<std::uint64_t> refused_{0};

  // Loop thread only.
  Random random_;
  ChunkPump pump_;
  l2::EventLoop::TimerId timer_ = 0;
  Job job_ = Job::kNone;
  std::uint64_t job_number_ = 0;
  std::string branch_;        // Of the job.
  std::uint32_t failed_ = 0;  // In a row.
  // Of a rebuild that was asked for: it is done when Redis has a generation above this.
  bool rebuild_waits_ = false;
  std::uint64_t rebuild_above_ = 0;
  std::uint64_t published_ = 0;  // A generation that was made of the filter that answers.
  // Of a priming and of a building: what was read, and what it was replaced with.
  StoredGuard stored_;
  std::string stored_id_;  // Also of what could not be decoded.
  // Of a building.
  bool from_source_ = false;
  bool has_lease_ = false;
  BloomHeader next_header_;
  std::shared_ptr<BloomFilter> building_;        // From the source.
  std::shared_ptr<const BloomFilter> complete_;  // What is put into Redis.
  std::shared_ptr<Enumeration> enumeration_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::size_t enumerations_ TIERCEL_GUARDED_BY(mutex_) = 0;  // That have not returned.
  GuardStats counts_ TIERCEL_GUARDED_BY(mutex_);             // What is not asked of the filter.
};

}  // namespace tiercel
