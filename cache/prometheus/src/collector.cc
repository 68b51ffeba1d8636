#include "tiercel/prometheus/collector.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "families.h"

namespace tiercel {
namespace {

Error taken(const std::string& what) {
  return invalid_argument(what + " is collected already, or has no name");
}

}  // namespace

Result<void> PrometheusCollector::add(std::string name, const Cache& cache) {
  MutexLock lock{mutex_};
  const bool is_taken =
      std::ranges::any_of(caches_, [&name](const NamedCache& other) { return other.name == name; });
  if (is_taken || name.empty()) return taken("a cache '" + name + "'");
  caches_.push_back({std::move(name), &cache});
  return {};
}

Result<void> PrometheusCollector::add_keyspace(std::string cache_name, std::string name,
                                               std::function<KeyspaceStats()> stats) {
  MutexLock lock{mutex_};
  const bool is_taken = std::ranges::any_of(keyspaces_, [&](const NamedKeyspace& other) {
    return other.cache == cache_name && other.name == name;
  });
  if (is_taken || cache_name.empty()) {
    return taken("a keyspace '" + name + "' of a cache '" + cache_name + "'");
  }
  keyspaces_.push_back({std::move(cache_name), std::move(name), std::move(stats)});
  return {};
}

void PrometheusCollector::remove(std::string_view name) {
  MutexLock lock{mutex_};
  std::erase_if(caches_, [name](const NamedCache& cache) { return cache.name == name; });
  std::erase_if(keyspaces_,
                [name](const NamedKeyspace& keyspace) { return keyspace.cache == name; });
}

MetricFamilies PrometheusCollector::Collect() const {
  std::vector<CacheSample> caches;
  std::vector<KeyspaceSample> keyspaces;
  {
    MutexLock lock{mutex_};
    for (const auto& [name, cache] : caches_) {
      caches.push_back({name, cache->stats(), cache->lease()});
    }
    for (const auto& [cache, name, stats] : keyspaces_) {
      keyspaces.push_back({cache, name, stats()});
    }
  }
  MetricFamilies families = families_of(caches);
  std::ranges::move(families_of(keyspaces), std::back_inserter(families));
  return families;
}

}  // namespace tiercel
