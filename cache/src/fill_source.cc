#include "fill_source.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <utility>

#include "key_guard.h"

namespace tiercel {
namespace {

template <typename F>
std::vector<LoadResult> call(std::size_t count, F&& loader) {
  const auto all_fail = [count](const Error& error) {
    return std::vector<LoadResult>(count, LoadResult{error});
  };
  try {
    std::vector<LoadResult> results = loader();
    if (results.size() == count) return results;
    return all_fail(internal("the batch loader answered " + std::to_string(results.size()) +
                             " results for " + std::to_string(count) + " keys"));
  } catch (const std::exception& thrown) {
    return all_fail(internal(std::string{"the loader threw: "} + thrown.what()));
  } catch (...) {
    return all_fail(internal("the loader threw something that is no std::exception"));
  }
}

}  // namespace

std::vector<LoadResult> FillSource::load(const std::vector<LoadRequest>& requests,
                                         const Clock& clock) {
  const TimePoint began_at = clock.now();
  bool may_call = true;
  BreakerTurn turn;
  {
    MutexLock lock{mutex_};
    if (breaker_) {
      may_call = breaker_->may_call(began_at);
      turn = take_turn(began_at);
    }
  }
  tell(turn);
  if (!may_call) {
    std::vector<std::string_view> keys;
    for (const LoadRequest& request : requests) keys.push_back(request.key);
    note_refused(keys, LoadRefusal::kBreaker);
    return {requests.size(),
            LoadResult{unavailable("the loader of keyspace '" + name_ +
                                   "' has failed too often: its circuit is open")}};
  }
  counters.loads.fetch_add(requests.size(), std::memory_order_relaxed);
  auto results = call(requests.size(), [&] {
    if (batch_loader_ && (requests.size() > 1 || !loader_)) return batch_loader_(requests);
    std::vector<LoadResult> each;
    for (const LoadRequest& request : requests) each.push_back(loader_(request));
    return each;
  });
  const TimePoint ended_at = clock.now();
  const Duration took = std::max(Duration{0}, ended_at - began_at);
  std::size_t failed = 0;
  for (const LoadResult& result : results) failed += result ? 0 : 1;
  counters.loads_failed.fetch_add(failed, std::memory_order_relaxed);
  counters.load_time_ns.fetch_add(static_cast<std::uint64_t>(took.count()),
                                  std::memory_order_relaxed);
  counters.load_times[LoadTimes::bucket_of(took)].fetch_add(1, std::memory_order_relaxed);
  {
    MutexLock lock{mutex_};
    if (breaker_) breaker_->report(failed < requests.size(), ended_at);
    turn = take_turn(ended_at);
  }
  for (std::size_t i = 0; i < results.size(); ++i) note_load(requests[i], results[i], took);
  tell(turn);
  return results;
}

std::string_view FillSource::own_part(std::string_view key) const noexcept {
  const bool has_name =
      key.size() > name_.size() && key[name_.size()] == ':' && key.starts_with(name_);
  return has_name ? key.substr(name_.size() + 1) : key;
}

void FillSource::note_load(const LoadRequest& request, const LoadResult& result,
                           Duration took) noexcept {
  if (observer_ == nullptr) return;
  LoadEnded event{.key = own_part(request.key), .took = took};
  if (!result) {
    event.outcome = LoadOutcome::kFailed;
    event.error = &result.error();
  } else if (!*result) {
    event.outcome = LoadOutcome::kNothing;
  } else if ((*result)->is_unchanged) {
    event.outcome = LoadOutcome::kUnchanged;
  }
  observer_->load_ended(event);
}

void FillSource::note_refused(std::span<const std::string_view> keys, LoadRefusal by) noexcept {
  auto& counter = by == LoadRefusal::kBulkhead ? counters.loads_refused_bulkhead
                                               : counters.loads_refused_breaker;
  counter.fetch_add(keys.size(), std::memory_order_relaxed);
  if (observer_ == nullptr) return;
  for (const auto key : keys) observer_->load_refused(own_part(key), by);
}

void FillSource::note_stale(std::string_view key) noexcept {
  counters.stale_served.fetch_add(1, std::memory_order_relaxed);
  if (observer_ != nullptr) observer_->stale_served(own_part(key));
}

FillSource::BreakerTurn FillSource::take_turn(TimePoint now) {
  if (!breaker_) return {};
  const BreakerState state = breaker_->state(now);
  return {std::exchange(breaker_was_, state), state};
}

void FillSource::tell(const BreakerTurn& turn) noexcept {
  if (observer_ != nullptr && turn.from != turn.to) observer_->breaker_changed(turn.from, turn.to);
}

FillSource::Entry FillSource::enter(UniqueFunction<void()> begin) {
  MutexLock lock{mutex_};
  if (running_ < policy_.loads_running_max) {
    ++running_;
    return Entry::kRuns;
  }
  if (waiting_.size() >= policy_.loads_waiting_max) return Entry::kRefused;
  waiting_.push_back(std::move(begin));
  return Entry::kWaits;
}

void FillSource::leave() {
  UniqueFunction<void()> next;
  {
    MutexLock lock{mutex_};
    if (waiting_.empty()) {
      --running_;
      return;
    }
    next = std::move(waiting_.front());
    waiting_.pop_front();
  }
  next();
}

BreakerState FillSource::breaker_state(TimePoint now) const {
  MutexLock lock{mutex_};
  return breaker_ ? breaker_->state(now) : BreakerState::kClosed;
}

KeyspaceStats FillSource::stats(TimePoint now) const {
  const auto of = [](const std::atomic<std::uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  KeyspaceStats stats;
  stats.hits_l1 = counters.hits_l1.value();
  stats.absent = counters.absent.value();
  stats.misses = counters.misses.value();
  stats.hits_l2 = of(counters.hits_l2);
  stats.joined = of(counters.joined);
  stats.waits = of(counters.waits);
  stats.loads = of(counters.loads);
  stats.loads_failed = of(counters.loads_failed);
  stats.loads_refused_bulkhead = of(counters.loads_refused_bulkhead);
  stats.loads_refused_breaker = of(counters.loads_refused_breaker);
  stats.refreshes = of(counters.refreshes);
  stats.stale_served = of(counters.stale_served);
  stats.defaults_served = of(counters.defaults_served);
  stats.codec_mismatches = of(counters.codec_mismatches);
  for (std::size_t i = 0; i < LoadTimes::kBuckets; ++i) {
    stats.load_times.counts[i] = of(counters.load_times[i]);
  }
  stats.load_times.sum = Duration{static_cast<Duration::rep>(of(counters.load_time_ns))};
  if (guard) stats.guard = guard->stats();
  MutexLock lock{mutex_};
  if (breaker_) {
    stats.breaker = breaker_->state(now);
    stats.breaker_openings = breaker_->openings();
  }
  return stats;
}

bool FillSource::claim_refresh(std::string_view key, TimePoint now) noexcept {
  constexpr std::uint32_t kClaimMs = 1000;
  const std::size_t hash = std::hash<std::string_view>{}(key);
  const auto now_ms = static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count());
  const auto tag = static_cast<std::uint32_t>(hash >> 32) | 1U;
  std::atomic<std::uint64_t>& slot = claims_[hash % kClaims];
  std::uint64_t claimed = slot.load(std::memory_order_relaxed);
  const bool is_claimed = static_cast<std::uint32_t>(claimed >> 32) == tag &&
                          now_ms - static_cast<std::uint32_t>(claimed) < kClaimMs;
  if (is_claimed) return false;
  return slot.compare_exchange_strong(claimed, std::uint64_t{tag} << 32 | now_ms,
                                      std::memory_order_relaxed);
}

}  // namespace tiercel
