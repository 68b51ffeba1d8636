#include "chaos/load.h"

#include <algorithm>
#include <thread>

#include "fleet/pacer.h"
#include "fleet/payload.h"

namespace tiercel::chaos {
namespace {

using namespace std::chrono_literals;
using fleet::Outcome;
using fleet::Seen;

void count(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
  counter.fetch_add(by, std::memory_order_relaxed);
}

TimePoint now() { return Clock::system().now(); }

std::uint32_t draw_key(const Surroundings& surroundings, Random& random) {
  return static_cast<std::uint32_t>(random.below(surroundings.keys.size()));
}

bool stopped(const Surroundings& surroundings) {
  return surroundings.mine().stop.load(std::memory_order_acquire) != 0;
}

// When L1 answered, and the longest time in which it did not. One thread of an instance has it.
class HitWatch {
 public:
  explicit HitWatch(const Surroundings& surroundings)
      : mine_(surroundings.mine()), fault_at_(surroundings.board.state().fault_at) {}

  void hit(TimePoint at) {
    const std::int64_t fault_at = fault_at_.load(std::memory_order_relaxed);
    const std::int64_t hit_at = ticks(at);
    if (fault_at != 0 && hit_at > fault_at) {
      const std::int64_t before = std::max(last_, fault_at);
      if (hit_at - before > longest_) {
        longest_ = hit_at - before;
        mine_.dark_from.store(before, std::memory_order_relaxed);
        mine_.dark_until.store(hit_at, std::memory_order_relaxed);
      }
    }
    last_ = hit_at;
  }
  void publish() { mine_.last_hit_at.store(last_, std::memory_order_relaxed); }

 private:
  InstanceBoard& mine_;
  const std::atomic<std::int64_t>& fault_at_;
  std::int64_t last_ = 0;
  std::int64_t longest_ = 0;
};

}  // namespace

void OrderWatch::begin_burst() {
  std::string epoch = surroundings_.cache.lease().epoch;
  if (epoch == epoch_) return;
  epoch_ = std::move(epoch);
  std::ranges::fill(seen_, Seen{});
}

void OrderWatch::note(std::uint32_t key, Seen seen) {
  Seen& newest = seen_[key];
  if (seen.sequence < newest.sequence) {
    found_.push_back({.key = key, .before = newest, .seen = seen});
  } else {
    newest = seen;
  }
}

void OrderWatch::end_burst() {
  if (!epoch_.empty() && surroundings_.cache.lease().epoch == epoch_) {
    for (const Backwards& found : found_) {
      oracle_.judge_order(found.key, found.before, found.seen);
    }
  } else {
    epoch_.clear();
    std::ranges::fill(seen_, Seen{});
  }
  found_.clear();
}

std::optional<Seen> look_at(const Surroundings& surroundings, std::uint32_t key,
                            const Value& value) {
  const auto payload = fleet::decode_payload(value.bytes());
  if (!payload || payload->key_id != key || payload->sequence == 0) {
    if (!surroundings.board.config().is_foreign(key)) count(surroundings.mine().values_wrong);
    return std::nullopt;
  }
  return Seen{.sequence = payload->sequence, .version = value.version()};
}

void run_reader(const Surroundings& surroundings, std::uint64_t seed) {
  InstanceBoard& mine = surroundings.mine();
  fleet::Oracle oracle{surroundings.board.log()};
  OrderWatch order{surroundings, oracle};
  HitWatch hits{surroundings};
  Random random{seed};
  fleet::Pacer pacer{mine.setup.reads_per_s};
  while (!stopped(surroundings)) {
    const int due = pacer.wait();
    if (mine.may_read.load(std::memory_order_acquire) == 0) continue;
    order.begin_burst();
    std::uint64_t found_count = 0;
    for (int i = 0; i < due; ++i) {
      const std::uint32_t key = draw_key(surroundings, random);
      const TimePoint began_at = now();
      const auto value = surroundings.cache.try_get(surroundings.keys[key]);
      if (!value) continue;
      ++found_count;
      const auto seen = look_at(surroundings, key, *value);
      if (!seen) continue;
      oracle.judge_read(key, *seen, began_at, /*from_l1=*/true);
      order.note(key, *seen);
      hits.hit(began_at);
    }
    order.end_burst();
    hits.publish();
    count(mine.hits, found_count);
    count(mine.misses, static_cast<std::uint64_t>(due) - found_count);
  }
}

namespace {

class Filler {
 public:
  Filler(const Surroundings& surroundings, fleet::Oracle& oracle, OrderWatch& order)
      : surroundings_(surroundings), oracle_(oracle), order_(order) {
    if (!surroundings.mine().setup.loader) return;
    options_.loader = [](std::string_view) { return Loaded{"loaded"}; };
  }

  void read(std::uint32_t key) {
    InstanceBoard& mine = surroundings_.mine();
    const TimePoint began_at = now();
    const auto found = surroundings_.cache.get(surroundings_.keys[key], options_);
    const auto took = static_cast<std::uint64_t>((now() - began_at).count());
    if (took > mine.reads_slowest_ns.load(std::memory_order_relaxed)) mine.reads_slowest_ns = took;
    if (!found) return count(mine.reads_failed);
    if (!*found) return count(mine.reads_absent);
    const Value& value = **found;
    if (value.tier() == Tier::kLoader) return count(mine.reads_loader);
    const bool from_l1 = value.tier() == Tier::kL1;
    count(from_l1 ? mine.hits : mine.reads_l2);
    const auto seen = look_at(surroundings_, key, value);
    if (!seen) return;
    if (from_l1) {
      oracle_.judge_read(key, *seen, began_at, true);
    } else {
      count_if_stale(key, *seen, began_at);
    }
    order_.note(key, *seen);
  }

 private:
  // Redis itself may be behind: an old master that still answers. That breaks no promise.
  void count_if_stale(std::uint32_t key, Seen seen, TimePoint began_at) {
    fleet::WriteLog& log = surroundings_.board.log();
    const std::uint32_t head = log.newest(key).load(std::memory_order_acquire);
    if (head == fleet::kNoRecord) return;
    const fleet::WriteRecord& newest = log.record(head);
    if (newest.sequence > seen.sequence && newest.outcome == Outcome::kAcked &&
        newest.settled_at < ticks(began_at - surroundings_.board.config().staleness_max())) {
      count(surroundings_.mine().stale_l2);
    }
  }

  const Surroundings& surroundings_;
  fleet::Oracle& oracle_;
  OrderWatch& order_;
  ReadOptions options_;
};

}  // namespace

void run_filler(const Surroundings& surroundings, std::uint64_t seed) {
  InstanceBoard& mine = surroundings.mine();
  fleet::Oracle oracle{surroundings.board.log()};
  OrderWatch order{surroundings, oracle};
  Filler filler{surroundings, oracle, order};
  Random random{seed};
  fleet::Pacer pacer{mine.setup.fills_per_s};
  while (!stopped(surroundings)) {
    const int due = pacer.wait();
    order.begin_burst();
    for (int i = 0; i < due && !stopped(surroundings); ++i) {
      if (mine.may_fill.load(std::memory_order_acquire) == 0) break;
      filler.read(draw_key(surroundings, random));
    }
    order.end_burst();
  }
}

namespace {

Outcome outcome_of(const WriteResult& result) {
  if (result) return Outcome::kAcked;
  return result.error().code == ErrorCode::kDeadlineExceeded ? Outcome::kUnknown : Outcome::kFailed;
}

class Writer {
 public:
  explicit Writer(const Surroundings& surroundings)
      : surroundings_(surroundings), oracle_(surroundings.board.log()) {}

  // False when the log is full.
  bool write(std::uint32_t key) {
    InstanceBoard& mine = surroundings_.mine();
    fleet::WriteLog& log = surroundings_.board.log();
    const std::uint32_t head = log.newest(key).load(std::memory_order_acquire);
    const std::uint32_t sequence = head == fleet::kNoRecord ? 1 : log.record(head).sequence + 1;
    const std::int64_t fault_at = surroundings_.board.state().fault_at.load();
    const auto result = surroundings_.cache.set(
        surroundings_.keys[key],
        fleet::encode_payload(
            {.writer = surroundings_.number, .sequence = sequence, .key_id = key}),
        write_options());
    const TimePoint settled_at = now();
    const Outcome outcome = outcome_of(result);
    if (result && fault_at != 0) {
      std::int64_t none = 0;
      mine.first_write_at.compare_exchange_strong(none, ticks(settled_at));
    }
    count(outcome == Outcome::kAcked     ? mine.writes_acked
          : outcome == Outcome::kUnknown ? mine.writes_unknown
                                         : mine.writes_failed);
    const std::uint64_t version = result ? result->version : 0;
    if (!oracle_.record_write(key, sequence, outcome, version, settled_at)) return false;
    if (result) read_own_write(key, {.sequence = sequence, .version = version});
    return true;
  }

 private:
  WriteOptions write_options() const {
    WriteOptions options;
    options.replicas = surroundings_.mine().setup.replicas;
    return options;
  }

  // An instance reads its own writes.
  void read_own_write(std::uint32_t key, Seen own) {
    const std::string epoch = surroundings_.cache.lease().epoch;
    const auto value = surroundings_.cache.try_get(surroundings_.keys[key]);
    if (!value) return;
    const auto seen = look_at(surroundings_, key, *value);
    if (!seen || seen->sequence >= own.sequence) return;
    if (epoch.empty() || epoch != surroundings_.cache.lease().epoch) return;
    oracle_.judge_order(key, own, *seen);
  }

  const Surroundings& surroundings_;
  fleet::Oracle oracle_;
};

}  // namespace

void run_writer(const Surroundings& surroundings, std::uint64_t seed) {
  InstanceBoard& mine = surroundings.mine();
  const InstanceSetup& setup = mine.setup;
  Writer writer{surroundings};
  Random random{seed};
  fleet::Pacer pacer{setup.writes_per_s};
  const std::uint32_t slots = surroundings.board.config().slots;
  const std::uint64_t owned = (surroundings.keys.size() - setup.writer_slot + slots - 1) / slots;
  std::uint64_t unwritten = 0;  // Each key once, as fast as can be, before the paced ones.
  while (!stopped(surroundings)) {
    int due = pacer.wait();
    // In this order: who sees `writing` 0 after it took may_write away knows that no write follows.
    mine.writing.store(1);
    for (; mine.may_write.load() != 0 && !stopped(surroundings); --due) {
      const bool is_first = unwritten < owned;
      if (!is_first && due <= 0) break;
      const std::uint64_t which = is_first ? unwritten++ : random.below(owned);
      const auto key = static_cast<std::uint32_t>(which * slots + setup.writer_slot);
      const bool written = surroundings.board.log().newest(key).load() != fleet::kNoRecord;
      if (is_first && written) continue;  // By the one who had the slot before.
      if (!writer.write(key)) break;
    }
    mine.writing.store(0);
  }
}

}  // namespace tiercel::chaos
