// Invariants: while TickThread runs, what a phase says of calls and ticks is its own; what it says
// of the storm is the director's, who also says which phase it is. All is read when both have
// ended.

#include "fill_tick.h"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>

#include "coherence_load.h"
#include "quote.capnp.h"
#include "support/allocations.h"
#include "support/locks.h"
#include "support/poll_until.h"
#include "support/redis_server.h"
#include "tiercel/base/random.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/capnp_codec.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;

using Quotes = serialization::CapnpCodec<wire::Quote>;
using Space = Keyspace<Quotes>;

constexpr std::uint64_t kHot = 2000;
constexpr std::uint64_t kAbsentEvery = 10;  // One call in so many asks for what does not exist.
constexpr std::uint64_t kAbsentFirst = std::uint64_t{1} << 40;
constexpr std::uint64_t kNewFirst = std::uint64_t{1} << 50;
constexpr std::size_t kMissThreads = 2;
constexpr std::size_t kMissBatch = 128;
constexpr std::size_t kWriters = 2;
constexpr std::size_t kRefillBatch = 100;
constexpr std::size_t kL1Bytes = std::size_t{32} << 20;  // What is loaded evicts.
constexpr Duration kTick = std::chrono::nanoseconds{1'000'000'000 / 60};
constexpr Duration kPause = 1ms;  // Of a storm's thread while it is off, or got an error.
constexpr std::chrono::milliseconds kRest = 1000ms;  // After L1 has come back.
constexpr std::chrono::milliseconds kBackMax = 60s;
constexpr int kControlSteps = 60;
constexpr int kCalibrations = 20'000;
constexpr std::size_t kTicksMax = 1200;  // Room for the samples of so many in a phase.

TimePoint now() { return Clock::system().now(); }

Duration read_clock(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
}

std::uint64_t preemptions() {
  rusage usage{};
  (void)getrusage(RUSAGE_THREAD, &usage);
  return static_cast<std::uint64_t>(usage.ru_nivcsw);
}

std::uint32_t in_ns(Duration duration) {
  return static_cast<std::uint32_t>(
      std::clamp<Duration::rep>(duration.count(), 0, std::numeric_limits<std::uint32_t>::max()));
}

struct Timed {
  Duration wall;
  Duration cpu;
};

template <typename Operation>
Timed time_of(Operation&& operation) {
  const Duration cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);
  const Duration wall = read_clock(CLOCK_MONOTONIC);
  operation();
  const Duration wall_end = read_clock(CLOCK_MONOTONIC);
  return {wall_end - wall, read_clock(CLOCK_THREAD_CPUTIME_ID) - cpu};
}

volatile std::uint64_t sink;

// Each step needs the one before.
void control() {
  std::uint64_t value = sink;
  for (int i = 0; i < kControlSteps; ++i) value = value * 6364136223846793005u + 1;
  sink = value;
}

Space::Loaded load(std::string_view key) {
  std::uint64_t id = 0;
  std::from_chars(key.data(), key.data() + key.size(), id);
  Quotes::Value quote;
  quote.init().setInstrument(id);
  return Space::Load{std::move(quote)};
}

class TickThread {
 public:
  TickThread(const Space& space, std::vector<TickPhase>& phases, std::size_t calls)
      : space_(space), phases_(phases), calls_(calls) {}

  void start() {
    thread_ = std::jthread{[this] { run(); }};
  }
  void enter(std::size_t phase) { phase_.store(phase); }
  void stop() {
    stop_.store(true);
    thread_.join();
  }

 private:
  void run() {
    (void)space_.try_get(std::uint64_t{0});  // The first call of a thread registers it.
    std::array<Duration, kCalibrations> overheads{};
    for (Duration& overhead : overheads) overhead = time_of([] {}).cpu;
    std::ranges::nth_element(overheads, overheads.begin() + kCalibrations / 2);
    cpu_overhead_ = overheads[kCalibrations / 2];
    for (TimePoint next = now(); !stop_.load(); next = std::max(next + kTick, now())) {
      sleep_until(next);
      TickPhase& phase = phases_[phase_.load()];
      const std::uint64_t preempted = preemptions();
      tick(phase);
      phase.preemptions += preemptions() - preempted;
    }
  }

  void tick(TickPhase& phase) {
    if (phase.wall_ns.size() + calls_ > phase.wall_ns.capacity()) return;
    const std::uint64_t allocations = testing::allocations();
    const std::uint64_t locks = testing::locks();
    for (std::size_t i = 0; i < calls_; ++i) {
      const std::uint64_t id = i % kAbsentEvery == 0 ? kAbsentFirst + i : random_.below(kHot);
      bool is_hit = false;
      const Timed timed = time_of([&] {
        const auto found = space_.try_get(id);
        is_hit = found.has_value();
        if (found) sink = found->view().getInstrument();
      });
      if (is_hit) ++phase.hits;
      phase.wall_ns.push_back(in_ns(timed.wall));
      phase.cpu_ns.push_back(in_ns(timed.cpu - cpu_overhead_));
    }
    for (std::size_t i = 0; i < calls_; ++i) {
      phase.control_ns.push_back(in_ns(time_of(control).wall));
    }
    phase.allocations += testing::allocations() - allocations;
    phase.locks += testing::locks() - locks;
    ++phase.ticks;
  }

  const Space& space_;
  std::vector<TickPhase>& phases_;
  const std::size_t calls_;
  Duration cpu_overhead_{0};
  Random random_{1};
  std::atomic<std::size_t> phase_{0};
  std::atomic<bool> stop_{false};
  std::jthread thread_;
};

// What goes on around it. Errors are expected while there is no master.
class Storm {
 public:
  Storm(const Space& space, std::vector<Space>& writers) : space_(space) {
    for (std::size_t i = 0; i < kMissThreads; ++i) {
      threads_.emplace_back([this] { loop(misses, [this] { return miss(); }); });
    }
    for (Space& writer : writers) {
      threads_.emplace_back([this, &writer, random = Random{threads_.size()}]() mutable {
        loop(invalidations, [&] { return write(writer, random); });
      });
    }
    threads_.emplace_back([this, random = Random{threads_.size()}]() mutable {
      loop(invalidations, [&] { return refill(random); });
    });
  }
  ~Storm() { stop_.store(true); }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;

  std::atomic<bool> misses{false};
  std::atomic<bool> invalidations{false};
  std::atomic<std::uint64_t> loaded{0};
  std::atomic<std::uint64_t> invalidated{0};

 private:
  template <typename Step>
  void loop(const std::atomic<bool>& is_on, Step&& step) {
    while (!stop_.load()) {
      if (!is_on.load() || !step()) std::this_thread::sleep_for(kPause);
    }
  }

  bool miss() {
    std::array<std::uint64_t, kMissBatch> ids{};
    for (std::uint64_t& id : ids) id = kNewFirst + next_.fetch_add(1);
    const auto found = space_.get_many(std::span<const std::uint64_t>{ids});
    const auto good = std::ranges::count_if(found, [](const auto& each) { return each && *each; });
    loaded.fetch_add(static_cast<std::uint64_t>(good));
    return good > 0;
  }
  bool write(const Space& writer, Random& random) {
    const std::uint64_t id = random.below(kHot);
    Quotes::Value quote;
    quote.init().setInstrument(id);
    if (!writer.set(id, quote)) return false;
    invalidated.fetch_add(1);
    return true;
  }
  bool refill(Random& random) {
    std::array<std::uint64_t, kRefillBatch> ids{};
    for (std::uint64_t& id : ids) id = random.below(kHot);
    const auto found = space_.get_many(std::span<const std::uint64_t>{ids});
    return std::ranges::any_of(found, [](const auto& each) { return each && *each; });
  }

  const Space& space_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::jthread> threads_;
};

class Run {
 public:
  explicit Run(const TickSettings& settings) : settings_(settings) {
    for (const char* name : {"quiet", "misses", "invalidations", "failover"}) {
      TickPhase& phase = phases_.emplace_back();
      phase.name = name;
      phase.is_storm = phases_.size() > 1;
      for (auto* samples : {&phase.wall_ns, &phase.cpu_ns, &phase.control_ns}) {
        // Touched now, so that no page is new to the thread.
        samples->resize(kTicksMax * settings.calls);
        samples->clear();
      }
    }
  }

  Result<std::vector<TickPhase>> run() {
    if (auto opened = open(); !opened) return opened.error();
    TickThread ticks{*space_, phases_, settings_.calls};
    ticks.start();
    bool is_back = false;
    {
      Storm storm{*space_, writers_};
      const auto spend = [&](std::size_t phase, auto wait) {
        const TimePoint began_at = now();
        const std::uint64_t loaded = storm.loaded.load();
        const std::uint64_t invalidated = storm.invalidated.load();
        ticks.enter(phase);
        wait();
        phases_[phase].elapsed = now() - began_at;
        phases_[phase].loads = storm.loaded.load() - loaded;
        phases_[phase].invalidations = storm.invalidated.load() - invalidated;
      };
      const auto a_while = [&] { std::this_thread::sleep_for(settings_.phase); };
      spend(0, a_while);
      storm.misses.store(true);
      spend(1, a_while);
      storm.misses.store(false);
      storm.invalidations.store(true);
      spend(2, a_while);
      storm.misses.store(true);
      spend(3, [&] { is_back = fail_over(); });
    }
    ticks.stop();
    if (!is_back) return internal("L1 does not answer again after a failover");
    return std::move(phases_);
  }

 private:
  Result<void> open() {
    const CacheOptions options{
        .name_space = kNamespace, .redis_url = servers_->url(), .l1_capacity_bytes_max = kL1Bytes};
    auto caches = open_caches(1 + kWriters, options);
    if (!caches) return caches.error();
    caches_ = *std::move(caches);
    std::vector<Space> spaces;
    for (const auto& cache : caches_) {
      auto space = Space::open(
          *cache,
          {.name = "quote", .loader = [](std::string_view key, const auto&) { return load(key); }});
      if (!space) return space.error();
      spaces.push_back(*std::move(space));
    }
    space_.emplace(std::move(spaces.front()));
    for (std::size_t i = 1; i < spaces.size(); ++i) writers_.push_back(std::move(spaces[i]));
    std::vector<std::uint64_t> ids(kHot);
    for (std::uint64_t id = 0; id < kHot; ++id) ids[id] = id;
    for (const auto& found : space_->get_many(std::span<const std::uint64_t>{ids})) {
      if (!found) return found.error();
    }
    return {};
  }

  // False when L1 does not come back.
  bool fail_over() {
    testing::RedisServer& master = servers_->server(0);
    const std::string old_master = master.endpoint();
    master.kill();
    const bool is_back = testing::poll_until(
        [&] {
          const LeaseInfo lease = caches_.front()->lease();
          return lease.held && lease.master != old_master;
        },
        kBackMax, kPause);
    if (is_back) std::this_thread::sleep_for(kRest);
    return is_back;
  }

  const TickSettings& settings_;
  const std::unique_ptr<testing::SentinelSetup> servers_ = testing::SentinelSetup::start(
      {.replicas = 1, .down_after = 1000ms, .failover_timeout = 3000ms});
  Caches caches_;
  std::optional<Space> space_;
  std::vector<Space> writers_;
  std::vector<TickPhase> phases_;
};

}  // namespace

Result<std::vector<TickPhase>> run_tick(const TickSettings& settings) {
  return Run{settings}.run();
}

}  // namespace tiercel::bench
