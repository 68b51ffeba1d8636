#pragma once

// What all contestants of the L2 bench share: the same data, the same watch, and one rule for wrong
// replies: the first one fails the bench.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

// Keys and values of one database of the server. Every value is another, so a reply that belongs to
// another command is noticed.
struct DataSet {
  std::uint32_t database = 0;
  std::size_t value_bytes = 0;
  // Single reads go round the first `hot_keys` keys. A prime, so that a stream that is out of step
  // by a pipeline's length is noticed; few, since redis-benchmark reads but one.
  std::size_t hot_keys = 0;
  std::vector<std::string> keys;
  std::vector<std::string> values;
};

[[nodiscard]] DataSet make_data_set(std::uint32_t database, std::size_t keys, std::size_t hot_keys,
                                    std::size_t value_bytes);

struct Latency {
  double p50_us = 0;
  double p99_us = 0;
};

// Of at least one sample.
[[nodiscard]] Latency latency_of(std::vector<std::uint32_t> nanoseconds);

struct Measurement {
  double operations = 0;
  Duration elapsed{};
  // Of this process with all its threads, user and system: making commands, checking replies and
  // whatever the client does. Nothing for other processes.
  std::optional<Duration> cpu;
  std::optional<Latency> latency;

  [[nodiscard]] double operations_per_second() const;
  [[nodiscard]] std::optional<double> cpu_ns_per_operation() const;
};

// Runs from its construction.
class Stopwatch {
 public:
  Stopwatch();
  [[nodiscard]] Measurement stop(std::uint64_t operations) const;

 private:
  TimePoint begin_;
  Duration cpu_begin_;
};

// The first wrong reply of a measurement, and the signal to end it early. Any thread.
class Mistake {
 public:
  // True if the value is that of the key; else notes what came.
  bool check(const DataSet& data, std::size_t key, std::string_view value);
  void note(std::string what) TIERCEL_EXCLUDES(mutex_);

  [[nodiscard]] bool was_made() const noexcept { return was_made_.load(std::memory_order_relaxed); }
  // Errors: kInternal with the first mistake.
  [[nodiscard]] Result<Measurement> unless_made(Measurement measurement) TIERCEL_EXCLUDES(mutex_);

 private:
  std::atomic<bool> was_made_{false};
  Mutex mutex_;
  std::string first_ TIERCEL_GUARDED_BY(mutex_);
};

// One blocking read: of a single key, or of whatever the contestant reads at once. False after a
// mistake.
using Read = std::function<bool(std::size_t key, Mistake& mistake)>;

// One contestant's and the other's measurement, with latencies: they take turns on this thread,
// `block` reads each, until both together have had twice the duration.
Result<std::vector<Measurement>> take_turns(const DataSet& data, const Read& one, const Read& other,
                                            std::size_t block, Duration duration);

// So many threads, one read after the other in each; `reads` has one for each thread.
Result<Measurement> read_by_threads(const DataSet& data, const std::vector<Read>& reads,
                                    Duration duration);

}  // namespace tiercel::bench
