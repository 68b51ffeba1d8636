#include "tiercel/cache/keyspace.h"

#include <algorithm>

#include "core.h"
#include "fill_source.h"
#include "key_guard.h"

namespace tiercel {
namespace {

constexpr std::size_t kNameBytesMax = 64;

bool is_name_byte(char letter) {
  return (letter >= 'A' && letter <= 'Z') || (letter >= 'a' && letter <= 'z') ||
         (letter >= '0' && letter <= '9') || letter == '.' || letter == '_' || letter == '-';
}

}  // namespace

Result<KeyspaceCore> KeyspaceCore::open(Cache& cache, Options options) {
  const bool is_name = !options.name.empty() && options.name.size() <= kNameBytesMax &&
                       std::all_of(options.name.begin(), options.name.end(), is_name_byte);
  if (!is_name) {
    return invalid_argument("the keyspace's name is '" + options.name.substr(0, kNameBytesMax) +
                            "'; it must be 1 to 64 of A-Z a-z 0-9 . _ -");
  }
  if (auto valid = validate(options.policy); !valid) {
    Error error = valid.error();
    error.message = "keyspace '" + options.name + "': " + error.message;
    return error;
  }
  std::shared_ptr<KeyGuard> guard;
  if (options.guard) {
    if (!options.guard->enumerate && (options.loader || options.batch_loader)) {
      return invalid_argument("keyspace '" + options.name +
                              "': guard.enumerate is missing: Redis does not know all keys of a "
                              "keyspace that has a loader");
    }
    auto opened = cache.core_->open_guard(options.name, std::move(*options.guard));
    if (!opened) {
      Error error = std::move(opened).error();
      error.message = "keyspace '" + options.name + "': " + error.message;
      return error;
    }
    guard = std::move(*opened);
  }
  std::string prefix = options.name + ':';
  auto source = std::make_shared<FillSource>(
      std::move(options.name), options.policy, std::move(options.loader),
      std::move(options.batch_loader), CodecCheck{options.codec_id, std::move(options.accepts)},
      std::move(options.observer));
  source->guard = std::move(guard);
  if (auto added = cache.core_->add_source(source); !added) return added.error();
  return KeyspaceCore{cache, std::move(prefix), std::move(source)};
}

ReadOptions KeyspaceCore::of(ReadOptions options) const {
  options.loader = {};
  options.source = source_;
  return options;
}

WriteOptions KeyspaceCore::of(WriteOptions options) const {
  options.source = source_;
  return options;
}

std::optional<Value> KeyspaceCore::try_get(std::string_view key, Freshness freshness) const {
  auto value = cache_->core_->try_get(key, freshness, source_);
  auto& counters = source_->counters;
  (value ? counters.hits_l1 : counters.misses).add();
  // Only counted: an observer is not called on a tick thread.
  if (value && value->is_stale()) counters.stale_served.fetch_add(1, std::memory_order_relaxed);
  return value;
}

Result<void> KeyspaceCore::preload(std::vector<std::string> keys, const PreloadOptions& options,
                                   PreloadCallback done) const {
  return cache_->core_->preload(std::move(keys), options, of(ReadOptions{}), std::move(done));
}

Result<void> KeyspaceCore::rebuild_guard() const {
  if (!source_->guard) return invalid_argument("the keyspace has no guard");
  source_->guard->request_rebuild();
  return {};
}

void KeyspaceCore::note_default_served() const noexcept {
  source_->counters.defaults_served.fetch_add(1, std::memory_order_relaxed);
}

KeyspaceStats KeyspaceCore::stats() const { return source_->stats(cache_->core_->clock().now()); }

}  // namespace tiercel
