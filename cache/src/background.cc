// What the cache does beside its calls: refreshes that try_get has asked for, hot keys and
// preloads. Loop thread, where nothing else is said.

#include <algorithm>
#include <array>
#include <utility>

#include "core.h"

namespace tiercel {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

namespace {

constexpr Duration kTakeWishesEvery = 20ms;
constexpr Duration kCountHotKeysEvery = 100ms;
constexpr milliseconds kHotKeysLife = 24h;
// Redis may come up after us.
constexpr Duration kWarmUpPatience = 60s;

}  // namespace

// --- keyspaces

// Any thread.
Result<void> Cache::Core::add_source(const std::shared_ptr<FillSource>& source) {
  const std::uint32_t codec_id = source->codec().codec_id;
  {
    MutexLock lock{sources_mutex_};
    const auto [entry, is_new] = sources_.try_emplace(source->name(), NamedSource{{}, codec_id});
    if (!is_new && entry->second.codec_id != codec_id) {
      return conflict("keyspace '" + source->name() + "' has been opened with codec " +
                      std::to_string(entry->second.codec_id) + " in this cache, and is now with " +
                      std::to_string(codec_id));
    }
    entry->second.source = source;
  }
  if (source->renews_beside_reads() && !taking_wishes_.exchange(true)) {
    loop_->post([this] { take_refresh_wishes(); });
  }
  return {};
}

// Any thread. Of the keyspace of that name that was opened last, if it is still there.
std::shared_ptr<FillSource> Cache::Core::source_of(std::string_view key) {
  const auto colon = key.find(':');
  if (colon == std::string_view::npos) return nullptr;
  MutexLock lock{sources_mutex_};
  const auto found = sources_.find(key.substr(0, colon));
  return found == sources_.end() ? nullptr : found->second.source.lock();
}

// Any thread; neither waits nor allocates. A key that is too long, or one too many, asks again.
void Cache::Core::wish_refresh(std::string_view key, const std::shared_ptr<FillSource>& source) {
  if (key.size() > NotedKey::kBytesMax || !source->claim_refresh(key, now())) return;
  (void)wishes_.push([&](RefreshWish& wish) {
    wish.key.assign(key);
    wish.source = source;
  });
}

void Cache::Core::take_refresh_wishes() {
  for (RefreshWish wish; wishes_.pop(wish);) begin_refresh(wish.key.text(), wish.source);
  loop_->run_after(kTakeWishesEvery, [this] { take_refresh_wishes(); });
}

// --- hot keys

// Any thread.
void Cache::Core::take_sample(std::uint64_t drawn, const l1::Handle& entry,
                              std::string_view payload, TimePoint proven_at,
                              TimePoint read_at) noexcept {
  if (auditor_ != nullptr && drawn < auditor_->draw_below()) {
    auditor_->take(entry, payload, proven_at, read_at);
  }
  if (hot_keys_ != nullptr && drawn < draw_below(HotKeys::kOneIn)) hot_keys_->note(entry.key());
}

void Cache::Core::start_sampling() {
  if (options_.hot_keys_max > 0) {
    hot_keys_ = std::make_unique<HotKeys>(options_.hot_keys_max);
    loop_->post([this] {
      count_hot_keys();
      tell_hot_keys();
    });
  }
  sample_below_ =
      std::max(auditor_ ? auditor_->draw_below() : 0, hot_keys_ ? draw_below(HotKeys::kOneIn) : 0);
}

void Cache::Core::count_hot_keys() {
  hot_keys_->count();
  loop_->run_after(kCountHotKeysEvery, [this] { count_hot_keys(); });
}

void Cache::Core::tell_hot_keys() {
  loop_->run_after(options_.hot_keys_every, [this] { tell_hot_keys(); });
  const auto keys = hot_keys_->tell();
  if (keys.empty()) return;
  const std::string packed = encode_hot_keys(keys);
  client_->submit(
      l2::Command{l2::Retry::kSafe,
                  {"SET", names_.hot_key(), packed, "PX", std::to_string(kHotKeysLife.count())}},
      now() + options_.write_timeout, [](const Result<l2::Reply>&) {});
}

// --- preloads, any thread

Result<void> Cache::Core::preload(std::vector<std::string> keys, const PreloadOptions& options,
                                  ReadOptions reads, PreloadCallback done) {
  if (auto valid = validate(options); !valid) return valid;
  for (const std::string& key : keys) {
    if (auto valid = check_read(key, reads); !valid) return valid;
  }
  preloader_->start(
      std::move(keys), options,
      [this, reads = std::move(reads)](const std::string& key, ReadCallback callback) {
        get(key, reads, std::move(callback));
      },
      std::move(done));
  return {};
}

Result<void> Cache::Core::warm_up(const PreloadOptions& options, PreloadCallback done) {
  if (auto valid = validate(options); !valid) return valid;
  if (closed_.load(std::memory_order_acquire)) return closed("the cache was closed");
  auto warm = [this, options, done = std::move(done)](std::vector<std::string> keys) mutable {
    preloader_->start(
        std::move(keys), options,
        [this](const std::string& key, ReadCallback callback) {
          get(key, {.source = source_of(key), .may_load = false}, std::move(callback));
        },
        std::move(done));
  };
  if (is_local()) {
    warm({});
    return {};
  }
  client_->submit(l2::Command{l2::Retry::kSafe, {"GET", names_.hot_key()}}, now() + kWarmUpPatience,
                  [this, warm = std::move(warm)](Result<l2::Reply> reply) mutable {
                    std::vector<std::string> keys;
                    Result<void> read;
                    if (!reply) {
                      read = reply.error();
                    } else if (reply->is_string()) {
                      auto decoded = decode_hot_keys(reply->text);
                      if (decoded) keys = std::move(*decoded);
                      if (!decoded) read = decoded.error();
                    } else if (!reply->is_nil()) {
                      read = refused_by_server(*reply);
                    }
                    if (!read && options_.log) {
                      options_.log(LogLevel::kWarning,
                                   "no warm start: " + read.error().to_string());
                    }
                    warm(std::move(keys));
                  });
  return {};
}

}  // namespace tiercel
