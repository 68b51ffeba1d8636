#pragma once

// PrometheusCollector: the stats of caches and keyspaces as Prometheus metrics, for an Exposer (or
// a gateway) of prometheus-cpp. Nothing is kept or counted here: each collection asks for the
// stats, and so costs what they cost, some microseconds for a cache.
//
// Names begin with tiercel_, those of keyspaces with tiercel_keyspace_; counters end in _total,
// times are in seconds, sizes in bytes. Labels: cache, the name it was added by, and keyspace.
// docs/metrics.md lists them. The audit's staleness histogram has no sum (the cache keeps none):
// its _sum is NaN.
//
// Link tiercel::prometheus, which is built where prometheus-cpp is installed (Debian:
// prometheus-cpp-dev). The only public header that includes prometheus-cpp.
//
// Any thread. Collect() may run while others add, remove, read and write. Nothing is thrown but
// std::bad_alloc.
//
//   const auto collector = std::make_shared<PrometheusCollector>();
//   collector->add("game", *cache);
//   collector->add("game", players);                  // A Keyspace of that cache.
//   (compiled in tests/cache/prometheus_test.cc)
//
// then `exposer.RegisterCollectable(collector)`, with a prometheus::Exposer that keeps a weak_ptr.

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/mutex.h"
#include "tiercel/base/result.h"
#include "tiercel/cache/cache.h"
#include "tiercel/cache/keyspace.h"

namespace tiercel {

class PrometheusCollector final : public ::prometheus::Collectable {
 public:
  // Until it is removed by that name, which must be before it is closed, it or one of its
  // keyspaces. Errors: kInvalidArgument where the name is taken, or empty.
  Result<void> add(std::string name, const Cache& cache) TIERCEL_EXCLUDES(mutex_);

  // A keyspace of the cache of that name, which need not have been added, by its own name. Errors:
  // likewise.
  template <serialization::Codec C>
  Result<void> add(std::string cache_name, const Keyspace<C>& keyspace) {
    return add_keyspace(std::move(cache_name), std::string{keyspace.name()},
                        [keyspace] { return keyspace.stats(); });
  }

  // The cache of that name, if there is one, and its keyspaces. Waits for a collection that runs.
  void remove(std::string_view name) TIERCEL_EXCLUDES(mutex_);

  [[nodiscard]] std::vector<::prometheus::MetricFamily> Collect() const override
      TIERCEL_EXCLUDES(mutex_);

 private:
  struct NamedCache {
    std::string name;
    const Cache* cache;
  };
  struct NamedKeyspace {
    std::string cache;
    std::string name;
    std::function<KeyspaceStats()> stats;
  };
  Result<void> add_keyspace(std::string cache_name, std::string name,
                            std::function<KeyspaceStats()> stats) TIERCEL_EXCLUDES(mutex_);

  // Held while stats are asked for, so that nothing is removed meanwhile. They call nobody back.
  mutable Mutex mutex_;
  std::vector<NamedCache> caches_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<NamedKeyspace> keyspaces_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel
