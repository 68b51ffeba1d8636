#pragma once

// Board: the memory that the coordinator and its instances share: the settings of the run, what
// each instance counts, and every write with its outcome, for the oracle (oracle.h).
//
// The coordinator creates it as an unnamed file (memfd) and hands it to each instance as standard
// input, so there is nothing to clean up, whoever dies how. All processes are the same binary, so
// the layout needs no versions. Pages that nobody touches cost nothing.
//
// Threads. config() is constant once the first instance runs. All else is lock-free atomics, or is
// published by one.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "failover/options.h"
#include "fleet/histogram.h"
#include "fleet/write_log.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::failover {

// The oracle and what it judges by are shared with the chaos runs.
using namespace fleet;

inline constexpr const char* kNamespace = "demo";
// How much later than the lease allows a read may be before it is wrong: for clocks that are read
// before and after the fact.
inline constexpr Duration kTolerance = std::chrono::milliseconds{50};

// How the run is set up. Plain bytes: no pointers.
struct BoardConfig {
  std::uint64_t key_count = 1;
  std::uint32_t instances = 1;
  std::uint32_t log_capacity = 1;  // Writes that can be recorded.
  std::int64_t lease_ms = 500;
  double zipf = 0;
  double writes_per_s = 0;  // Of one instance.
  double reads_per_s = 0;   // Of one reader thread.
  std::uint64_t history_entries = 10000;
  std::uint64_t seed = 0;
  std::uint64_t trace_bytes = 0;  // 0: no trace.
  bool verbose = false;
  bool stale_reader = false;
  std::array<char, 512> redis_url{};  // Zero-terminated, like the next.
  std::array<char, 4096> trace_path{};

  [[nodiscard]] Duration staleness_max() const {
    return std::chrono::milliseconds{lease_ms} + kTolerance;
  }
};

enum class Phase : std::uint32_t {
  kStarting,  // Instances connect and write each key once.
  kRunning,
  kQuiet,    // Writers stop, readers go on.
  kStopped,  // Instances end.
};

// What one instance counts and says of itself.
struct InstanceBoard {
  std::atomic<std::uint32_t> ready;          // 1 when connected and all its keys are written,
  std::atomic<std::uint32_t> writers_ended;  // 1 when it writes no more.
  std::atomic<std::uint32_t> lease_held;
  std::atomic<std::uint32_t> master_port;  // As the instance believes; 0: it knows none.

  std::atomic<std::uint64_t> reads_l1;
  std::atomic<std::uint64_t> reads_l2;
  std::atomic<std::uint64_t> reads_absent;
  std::atomic<std::uint64_t> reads_failed;
  std::atomic<std::uint64_t> values_wrong;  // Not what any writer wrote under that key.
  std::atomic<std::uint64_t> writes_acked;
  std::atomic<std::uint64_t> writes_unknown;
  std::atomic<std::uint64_t> writes_failed;
  Histogram read_latency;
};

struct BoardState {
  std::uint64_t magic;
  BoardConfig config;

  std::atomic<Phase> phase;
  // On Clock::system(); 0: not yet.
  std::atomic<std::int64_t> kill_begun_at;    // Before SIGKILL was sent to the master,
  std::atomic<std::int64_t> kill_done_at;     // and when it was certainly dead.
  std::atomic<std::int64_t> first_write_at;   // First acknowledged write begun after that.
  std::atomic<std::int64_t> first_l1_hit_at;  // First L1 hit in an epoch begun after that.

  std::array<InstanceBoard, kInstancesMax> instances;
};

class Board {
 public:
  // `ids`: the id of each key, rising, for a trace; empty: a key is its own id. Errors:
  // kUnavailable when the machine has not the memory.
  static Result<Board> create(const BoardConfig& config, std::span<const std::uint64_t> ids);
  // Takes a board that another process has created. Errors: kInvalidArgument when it is none.
  static Result<Board> attach(int fd);
  Board(Board&& other) noexcept;
  Board& operator=(Board&&) = delete;
  ~Board();

  // To hand it on; stays the board's. -1 for an attached one.
  [[nodiscard]] int fd() const noexcept { return fd_; }

  [[nodiscard]] const BoardConfig& config() const noexcept { return state_->config; }
  [[nodiscard]] BoardState& state() noexcept { return *state_; }
  [[nodiscard]] const BoardState& state() const noexcept { return *state_; }
  [[nodiscard]] Phase phase() const noexcept {
    return state_->phase.load(std::memory_order_acquire);
  }

  [[nodiscard]] std::uint64_t id_of_key(std::uint32_t key) const noexcept {
    return ids_.empty() ? key : ids_[key];
  }
  [[nodiscard]] std::optional<std::uint32_t> key_of_id(std::uint64_t id) const noexcept;

  // Every write of the run with its outcome.
  [[nodiscard]] WriteLog& log() noexcept { return log_; }
  [[nodiscard]] const WriteLog& log() const noexcept { return log_; }

 private:
  Board(int fd, void* memory, std::size_t bytes) noexcept;

  int fd_;
  void* memory_;
  std::size_t bytes_;
  BoardState* state_;
  WriteLog log_;
  std::span<std::uint64_t> ids_;
};

}  // namespace tiercel::failover
