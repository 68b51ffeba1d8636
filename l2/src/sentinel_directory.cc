#include "sentinel_directory.h"

#include <algorithm>

namespace tiercel::l2 {

SentinelDirectory::SentinelDirectory(std::span<const Endpoint> configured, TimePoint now) {
  for (const Endpoint& endpoint : configured) add(endpoint, {}, true, now);
}

std::size_t SentinelDirectory::index_of(Id id) const noexcept {
  const auto at = std::find_if(sentinels_.begin(), sentinels_.end(),
                               [id](const Sentinel& sentinel) { return sentinel.id == id; });
  return static_cast<std::size_t>(at - sentinels_.begin());
}

const SentinelDirectory::Sentinel* SentinelDirectory::find(Id id) const noexcept {
  const std::size_t index = index_of(id);
  return index < sentinels_.size() ? &sentinels_[index] : nullptr;
}

std::size_t SentinelDirectory::voters() const noexcept {
  return static_cast<std::size_t>(std::count_if(
      sentinels_.begin(), sentinels_.end(),
      [](const Sentinel& sentinel) { return sentinel.is_configured || sentinel.has_spoken; }));
}

void SentinelDirectory::add(const Endpoint& endpoint, const std::string& run_id, bool is_configured,
                            TimePoint now) {
  sentinels_.push_back({.id = ++id_last_,
                        .endpoint = endpoint,
                        .is_configured = is_configured,
                        .run_id = run_id,
                        .heard_at = now});
  MutexLock lock{statuses_mutex_};
  statuses_.push_back({.endpoint = endpoint,
                       .is_configured = is_configured,
                       .is_subscribed = false,
                       .trouble = unavailable("not asked yet", endpoint.to_string())});
}

void SentinelDirectory::remove(std::size_t index) {
  sentinels_.erase(sentinels_.begin() + static_cast<std::ptrdiff_t>(index));
  MutexLock lock{statuses_mutex_};
  statuses_.erase(statuses_.begin() + static_cast<std::ptrdiff_t>(index));
}

void SentinelDirectory::learn(const Endpoint& endpoint, const std::string& run_id, TimePoint now) {
  if (sentinels_.size() >= kSentinelsMax) return;
  const bool is_known =
      std::any_of(sentinels_.begin(), sentinels_.end(), [&](const Sentinel& sentinel) {
        return sentinel.endpoint == endpoint || (!run_id.empty() && sentinel.run_id == run_id);
      });
  if (!is_known) add(endpoint, run_id, false, now);
}

void SentinelDirectory::answered(Id id, const std::string& run_id, TimePoint now) {
  const std::size_t index = index_of(id);
  if (index == sentinels_.size()) return;
  Sentinel& sentinel = sentinels_[index];
  sentinel.has_spoken = true;
  sentinel.heard_at = now;
  sentinel.is_silent = false;
  {
    MutexLock lock{statuses_mutex_};
    statuses_[index].trouble.reset();
  }
  if (run_id.empty()) return;
  sentinel.run_id = run_id;
  for (std::size_t i = sentinels_.size(); i-- > 0;) {
    const Sentinel& other = sentinels_[i];
    if (other.id != id && other.run_id == run_id && !other.is_configured) {
      remove(i);
    } else if (other.id != id && other.run_id == run_id && !find(id)->is_configured) {
      return remove(index_of(id));
    }
  }
}

void SentinelDirectory::failed(Id id, const Error& reason) {
  const std::size_t index = index_of(id);
  if (index == sentinels_.size()) return;
  sentinels_[index].is_silent = true;
  MutexLock lock{statuses_mutex_};
  statuses_[index].trouble = reason;
}

void SentinelDirectory::subscribed(Id id, bool is_subscribed) {
  const std::size_t index = index_of(id);
  if (index == sentinels_.size()) return;
  if (is_subscribed) sentinels_[index].has_spoken = true;
  MutexLock lock{statuses_mutex_};
  statuses_[index].is_subscribed = is_subscribed;
}

void SentinelDirectory::forget_silent(TimePoint now) {
  const auto is_heard = [now](const Sentinel& sentinel) {
    return !sentinel.is_silent && sentinel.has_spoken && now - sentinel.heard_at < kForgetAfter;
  };
  if (std::none_of(sentinels_.begin(), sentinels_.end(), is_heard)) return;
  for (std::size_t i = sentinels_.size(); i-- > 0;) {
    const Sentinel& sentinel = sentinels_[i];
    if (!sentinel.is_configured && sentinel.is_silent && now - sentinel.heard_at >= kForgetAfter) {
      remove(i);
    }
  }
}

std::vector<SentinelStatus> SentinelDirectory::statuses() const {
  MutexLock lock{statuses_mutex_};
  return statuses_;
}

}  // namespace tiercel::l2
