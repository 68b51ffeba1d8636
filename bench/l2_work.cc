#include "l2_work.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <latch>
#include <limits>
#include <numeric>
#include <thread>
#include <utility>

namespace tiercel::bench {
namespace {

constexpr std::size_t kShownBytesMax = 60;

Duration cpu_of_this_process() {
  rusage usage{};
  (void)::getrusage(RUSAGE_SELF, &usage);
  const auto duration = [](const timeval& time) {
    return std::chrono::seconds{time.tv_sec} + std::chrono::microseconds{time.tv_usec};
  };
  return duration(usage.ru_utime) + duration(usage.ru_stime);
}

double percentile_us(std::vector<std::uint32_t>& nanoseconds, double part) {
  const auto rank = static_cast<std::ptrdiff_t>(part * static_cast<double>(nanoseconds.size() - 1));
  std::ranges::nth_element(nanoseconds, nanoseconds.begin() + rank);
  return nanoseconds[static_cast<std::size_t>(rank)] / 1e3;
}

// One of two contestants: what it has done in its turns until now.
class Contestant {
 public:
  Contestant(const DataSet& data, const Read& read) : data_(data), read_(read) {}

  bool take_turn(std::size_t block, Mistake& mistake) {
    const Stopwatch watch;
    for (std::size_t i = 0; i < block; ++i) {
      const TimePoint begin = Clock::system().now();
      if (!read_(key_, mistake)) return false;
      const Duration took = Clock::system().now() - begin;
      nanoseconds_.push_back(static_cast<std::uint32_t>(
          std::min<Duration::rep>(took.count(), std::numeric_limits<std::uint32_t>::max())));
      key_ = (key_ + 1) % data_.hot_keys;
    }
    const Measurement turn = watch.stop(block);
    elapsed_ += turn.elapsed;
    cpu_ += *turn.cpu;
    return true;
  }

  [[nodiscard]] Duration elapsed() const noexcept { return elapsed_; }
  [[nodiscard]] Measurement measurement() const {
    return {.operations = static_cast<double>(nanoseconds_.size()),
            .elapsed = elapsed_,
            .cpu = cpu_,
            .latency = latency_of(nanoseconds_)};
  }

 private:
  const DataSet& data_;
  const Read& read_;
  std::size_t key_ = 0;
  Duration elapsed_{};
  Duration cpu_{};
  std::vector<std::uint32_t> nanoseconds_;
};

}  // namespace

// As redis-benchmark names them: "key:" and twelve characters.
DataSet make_data_set(std::uint32_t database, std::size_t keys, std::size_t hot_keys,
                      std::size_t value_bytes) {
  DataSet data{database, value_bytes, hot_keys, {}, {}};
  for (std::size_t key = 0; key < keys; ++key) {
    std::string digits = std::to_string(key);
    digits.insert(0, 12 - digits.size(), '0');
    std::string value = digits;
    for (std::size_t at = value.size(); at < value_bytes; ++at) {
      value += static_cast<char>('a' + (at * (key + 1)) % 26);
    }
    data.keys.push_back("key:" + digits);
    data.values.push_back(std::move(value));
  }
  return data;
}

Latency latency_of(std::vector<std::uint32_t> nanoseconds) {
  return {.p50_us = percentile_us(nanoseconds, 0.50), .p99_us = percentile_us(nanoseconds, 0.99)};
}

double Measurement::operations_per_second() const {
  return operations / std::chrono::duration<double>(elapsed).count();
}

std::optional<double> Measurement::cpu_ns_per_operation() const {
  if (!cpu) return std::nullopt;
  return static_cast<double>(cpu->count()) / operations;
}

Stopwatch::Stopwatch() : begin_(Clock::system().now()), cpu_begin_(cpu_of_this_process()) {}

Measurement Stopwatch::stop(std::uint64_t operations) const {
  return {.operations = static_cast<double>(operations),
          .elapsed = Clock::system().now() - begin_,
          .cpu = cpu_of_this_process() - cpu_begin_,
          .latency = std::nullopt};
}

bool Mistake::check(const DataSet& data, std::size_t key, std::string_view value) {
  if (value == data.values[key]) return true;
  note(data.keys[key] + " was answered with " + std::to_string(value.size()) + " bytes: '" +
       std::string{value.substr(0, kShownBytesMax)} + "'");
  return false;
}

void Mistake::note(std::string what) {
  MutexLock lock{mutex_};
  if (!was_made_.exchange(true)) first_ = std::move(what);
}

Result<Measurement> Mistake::unless_made(Measurement measurement) {
  MutexLock lock{mutex_};
  if (was_made_.load()) return internal("a wrong reply: " + first_);
  return measurement;
}

Result<std::vector<Measurement>> take_turns(const DataSet& data, const Read& one, const Read& other,
                                            std::size_t block, Duration duration) {
  Mistake mistake;
  std::array<Contestant, 2> contestants{Contestant{data, one}, Contestant{data, other}};
  while (contestants[0].elapsed() + contestants[1].elapsed() < 2 * duration) {
    for (Contestant& each : contestants) {
      if (!each.take_turn(block, mistake)) return mistake.unless_made({}).error();
    }
  }
  return std::vector<Measurement>{contestants[0].measurement(), contestants[1].measurement()};
}

Result<Measurement> read_by_threads(const DataSet& data, const std::vector<Read>& reads,
                                    Duration duration) {
  Mistake mistake;
  std::atomic<bool> stop{false};
  std::latch may_start{1};
  std::vector<std::uint64_t> answered(reads.size());
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < reads.size(); ++i) {
    threads.emplace_back([&, i] {
      may_start.wait();
      std::size_t key = i % data.hot_keys;
      std::uint64_t count = 0;
      while (!stop.load(std::memory_order_relaxed) && reads[i](key, mistake)) {
        ++count;
        key = (key + 1) % data.hot_keys;
      }
      answered[i] = count;
    });
  }
  const Stopwatch watch;
  may_start.count_down();
  std::this_thread::sleep_for(duration);
  stop.store(true);
  threads.clear();  // Joins them.
  return mistake.unless_made(
      watch.stop(std::accumulate(answered.begin(), answered.end(), std::uint64_t{0})));
}

}  // namespace tiercel::bench
