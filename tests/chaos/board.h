#pragma once

// Board: the memory that the coordinator of a chaos run and its instance processes share: how each
// instance is set up, what it is told to do, what it counts and says of itself, and every write
// with its outcome, for the oracle.
//
// As the failover demo's: an unnamed file (memfd) that each instance gets as its standard input, so
// that nothing is left behind, whoever dies how. One board for one fault. All processes are of one
// build, so the layout needs no versions.
//
// Threads. setup() of an instance is constant once that instance runs. All else is lock-free
// atomics.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "fleet/write_log.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::chaos {

inline constexpr const char* kNamespace = "chaos";
inline constexpr std::uint32_t kInstancesMax = 8;
inline constexpr std::uint32_t kKeysMax = 16384;

// ε, how much later than the lease allows a read may be before it is wrong. The oracle's clock is
// read before a read begins and after a write has returned, on one timeline, so exact clocks would
// need none; 5 ms cover one tick of the kernel's coarse clock (4 ms at 250 Hz), which the library
// may read at a hit.
inline constexpr Duration kTolerance = std::chrono::milliseconds{5};

struct BoardConfig {
  std::uint32_t key_count = 64;
  std::uint32_t log_capacity = 400'000;
  std::int64_t lease_ms = 500;
  std::uint64_t seed = 0;
  // Key k belongs to slot k % slots. The first slots are those of the instances that write, the
  // last `foreign_slots` those of the scenario itself, which may put anything there.
  std::uint32_t slots = 1;  // Set when the load starts.
  std::uint32_t foreign_slots = 0;

  [[nodiscard]] bool is_foreign(std::uint32_t key) const {
    return key % slots >= slots - foreign_slots;
  }
  [[nodiscard]] Duration lease() const { return std::chrono::milliseconds{lease_ms}; }
  [[nodiscard]] Duration staleness_max() const { return lease() + kTolerance; }
};

// What one instance is to be. Plain bytes: no pointers.
struct InstanceSetup {
  std::array<char, 512> url{};    // Zero-terminated, like the next.
  std::array<char, 128> hooks{};  // For the library's test hooks: see cache/src/chaos_hooks.h.
  std::int64_t stream_timeout_ms = 2000;
  std::uint64_t l1_bytes = std::uint64_t{64} << 20;
  bool writes = false;  // The keys of its slot.
  std::uint32_t writer_slot = 0;
  std::uint32_t reader_threads = 1;  // try_get only: hits of L1.
  std::uint32_t filler_threads = 1;  // get: brings into L1 what is missing.
  double reads_per_s = 50'000;       // Of one thread; likewise the next.
  double fills_per_s = 2'000;
  double writes_per_s = 300;
  // Where the library can do it: see capabilities.h.
  std::uint32_t replicas = 0;  // Copies that a write waits for.
  bool foreign_writers = false;
  bool loader = false;  // Reads bring a loader, which answers "loaded by N".
};

struct InstanceBoard {
  InstanceSetup setup;

  // --- what it is told
  std::atomic<std::uint32_t> may_read;
  std::atomic<std::uint32_t> may_fill;
  std::atomic<std::uint32_t> may_write;
  std::atomic<std::uint32_t> stop;
  // Raised: compare L1 with what was asked for; dump_done follows with the same number.
  std::atomic<std::uint32_t> dump_wanted;
  std::atomic<std::int64_t> dump_after;  // With a proof that was begun after this.

  // --- what it says
  std::atomic<std::uint32_t> ready;
  std::atomic<std::uint32_t> writing;  // 0: no write is under way, and none will be begun.
  std::atomic<std::uint32_t> dump_done;
  std::atomic<std::uint32_t> dump_vouched;                // The lease held, by such a proof.
  std::array<std::atomic<std::uint32_t>, kKeysMax> dump;  // Sequence in L1; 0: not there.

  std::atomic<std::uint32_t> lease_held;
  std::atomic<std::uint32_t> master_port;  // As it believes; 0: it knows none.
  std::atomic<std::uint64_t> said_at;      // When it last wrote this down, in ns.
  // Text of LeaseInfo: what the lease rests on.
  std::array<std::atomic<char>, 16> witness;
  // Of CacheStats.
  std::atomic<std::uint64_t> epochs;
  std::atomic<std::uint64_t> epochs_warm;
  std::atomic<std::uint64_t> l1_drops;
  std::atomic<std::uint64_t> l1_entries;
  std::atomic<std::uint64_t> l1_bytes;
  std::atomic<std::uint64_t> fills;
  std::atomic<std::uint64_t> fills_dropped;
  std::atomic<std::uint64_t> lease_refusals;
  std::atomic<std::uint64_t> messages;
  std::atomic<std::uint64_t> messages_unreadable;
  std::atomic<std::uint64_t> values_corrupt;
  std::atomic<std::uint64_t> values_foreign;
  std::atomic<std::uint64_t> loads;
  std::atomic<std::uint64_t> resident_bytes;

  // --- what it counts
  std::atomic<std::uint64_t> hits;    // Answered by L1,
  std::atomic<std::uint64_t> misses;  // not answered by L1 (a get then went on),
  std::atomic<std::uint64_t> reads_l2;
  std::atomic<std::uint64_t> reads_loader;
  std::atomic<std::uint64_t> reads_absent;
  std::atomic<std::uint64_t> reads_failed;
  std::atomic<std::uint64_t> reads_slowest_ns;  // Of the gets.
  std::atomic<std::uint64_t> values_wrong;      // Not what any writer wrote under that key.
  std::atomic<std::uint64_t> stale_l2;          // Gets from Redis that were behind by more than Δ.
  std::atomic<std::uint64_t> writes_acked;
  std::atomic<std::uint64_t> writes_unknown;
  std::atomic<std::uint64_t> writes_failed;

  // --- after the fault began
  std::atomic<std::int64_t> last_hit_at;     // 0: none at all.
  std::atomic<std::int64_t> dark_from;       // The longest time without a hit that has ended:
  std::atomic<std::int64_t> dark_until;      // the hit before and the hit after it.
  std::atomic<std::int64_t> first_write_at;  // First acknowledged write begun after it.
};

struct BoardState {
  std::uint64_t magic;
  BoardConfig config;
  std::atomic<std::int64_t> fault_at;  // When the fault began; 0: not yet.
  std::array<InstanceBoard, kInstancesMax> instances;
};

class Board {
 public:
  // Errors: kUnavailable when the machine has not the memory.
  static Result<Board> create(const BoardConfig& config);
  // Takes a board that another process has created. Errors: kInvalidArgument when it is none.
  static Result<Board> attach(int fd);
  Board(Board&& other) noexcept;
  Board& operator=(Board&&) = delete;
  ~Board();

  // To hand it on; stays the board's. -1 for an attached one.
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] const BoardConfig& config() const noexcept { return state_->config; }
  // Before the first instance is started.
  void set_slots(std::uint32_t slots) noexcept { state_->config.slots = slots; }
  [[nodiscard]] BoardState& state() noexcept { return *state_; }
  [[nodiscard]] const BoardState& state() const noexcept { return *state_; }
  [[nodiscard]] InstanceBoard& instance(std::uint32_t number) noexcept {
    return state_->instances[number];
  }
  [[nodiscard]] fleet::WriteLog& log() noexcept { return log_; }

 private:
  Board(int fd, void* memory, std::size_t bytes) noexcept;

  int fd_;
  void* memory_;
  std::size_t bytes_;
  BoardState* state_;
  fleet::WriteLog log_;
};

inline std::int64_t ticks(TimePoint time) { return time.time_since_epoch().count(); }
inline std::int64_t ticks_now() { return ticks(Clock::system().now()); }

// False when it does not fit.
template <std::size_t size>
bool copy_text(std::array<char, size>& to, const std::string& text) {
  if (text.size() >= size) return false;
  to.fill('\0');
  std::copy(text.begin(), text.end(), to.begin());
  return true;
}

}  // namespace tiercel::chaos
