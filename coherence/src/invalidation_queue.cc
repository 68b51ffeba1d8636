// Invariants, while the mutex is free:
// - counters_.entries and .bytes are those of keys_, tags_ and the batches under way, and within
// the
//   options.
// - While a clear waits, nothing else does: it covers what was queued before it, and what comes
//   after it until it is sent.

#include "tiercel/coherence/invalidation_queue.h"

#include <utility>

#include "tiercel/base/check.h"

namespace tiercel::coherence {
namespace {

Result<void> check_range(const char* field, std::size_t value, std::size_t low, std::size_t high) {
  if (value >= low && value <= high) return {};
  return invalid_argument(std::string{field} + " is " + std::to_string(value) + "; it must be " +
                          std::to_string(low) + " to " + std::to_string(high));
}

}  // namespace

Result<void> validate(const InvalidationQueueOptions& options) {
  if (auto valid = check_range("entries_max", options.entries_max, 1, std::size_t{16} << 20);
      !valid) {
    return valid;
  }
  return check_range("bytes_max", options.bytes_max, 1024, std::size_t{16} << 30);
}

InvalidationQueue::InvalidationQueue(InvalidationQueueOptions options) : options_(options) {
  TIERCEL_CHECK(validate(options));
}

InvalidationQueue::Added InvalidationQueue::add(InvalidationKind kind, std::string_view name) {
  MutexLock lock{mutex_};
  const Added added = insert(kind, name);
  if (added == Added::kQueued) ++counters_.queued;
  if (added == Added::kCoalesced) ++counters_.coalesced;
  return added;
}

InvalidationQueue::Added InvalidationQueue::insert(InvalidationKind kind, std::string_view name) {
  if (clear_waits_) return Added::kCoalesced;
  if (kind == InvalidationKind::kClear) {
    forget(keys_);
    forget(tags_);
    keys_.clear();
    tags_.clear();
    clear_waits_ = true;
    return Added::kQueued;
  }
  Names& names = names_of(kind);
  if (names.contains(name)) return Added::kCoalesced;
  if (counters_.entries == options_.entries_max ||
      charge(name) > options_.bytes_max - counters_.bytes) {
    collapse();
    return Added::kCollapsed;
  }
  names.emplace(name);
  ++counters_.entries;
  counters_.bytes += charge(name);
  return Added::kQueued;
}

void InvalidationQueue::collapse() {
  insert(InvalidationKind::kClear, {});
  ++counters_.collapsed;
}

void InvalidationQueue::forget(const Names& names) {
  counters_.entries -= names.size();
  for (const std::string& name : names) counters_.bytes -= charge(name);
}

std::optional<InvalidationQueue::Batch> InvalidationQueue::take(std::size_t names_max,
                                                                std::size_t bytes_max) {
  TIERCEL_CHECK(names_max > 0);
  MutexLock lock{mutex_};
  const auto kind = keys_.empty() ? InvalidationKind::kTag : InvalidationKind::kKey;
  Names& names = names_of(kind);
  Batch batch{.kind = kind};
  if (!clear_waits_) {
    if (names.empty()) return std::nullopt;
    std::size_t bytes = 0;
    while (!names.empty() && batch.names.size() < names_max &&
           names.begin()->size() <= bytes_max - bytes) {
      bytes += names.begin()->size();
      batch.names.push_back(std::move(names.extract(names.begin()).value()));
    }
    if (batch.names.empty()) collapse();
  }
  if (clear_waits_) {
    batch.kind = InvalidationKind::kClear;
    clear_waits_ = false;
  }
  batch.id = ++last_id_;
  under_way_.insert(batch.id);
  return batch;
}

// False where it was ended before.
bool InvalidationQueue::end(const Batch& batch) {
  if (under_way_.erase(batch.id) == 0) return false;
  counters_.entries -= batch.names.size();
  for (const std::string& name : batch.names) counters_.bytes -= charge(name);
  return true;
}

void InvalidationQueue::acknowledge(const Batch& batch) {
  MutexLock lock{mutex_};
  if (!end(batch)) return;
  counters_.acknowledged += batch.kind == InvalidationKind::kClear ? 1 : batch.names.size();
}

void InvalidationQueue::put_back(const Batch& batch) {
  MutexLock lock{mutex_};
  if (!end(batch)) return;
  counters_.put_back += batch.kind == InvalidationKind::kClear ? 1 : batch.names.size();
  if (batch.kind == InvalidationKind::kClear) insert(InvalidationKind::kClear, {});
  for (const std::string& name : batch.names) insert(batch.kind, name);
}

bool InvalidationQueue::empty() const {
  MutexLock lock{mutex_};
  return !clear_waits_ && keys_.empty() && tags_.empty() && under_way_.empty();
}

InvalidationQueue::Counters InvalidationQueue::counters() const {
  MutexLock lock{mutex_};
  return counters_;
}

}  // namespace tiercel::coherence
