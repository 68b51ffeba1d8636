#include "tiercel/cache/cache.h"

#include <utility>

#include "blocking_call.h"
#include "core.h"

// The skins. Each blocking call waits for the callback of the asynchronous one, each awaitable
// starts it.

namespace tiercel {
namespace {

std::vector<std::string> copied(std::span<const std::string_view> keys) {
  return {keys.begin(), keys.end()};
}

std::vector<std::string_view> viewed(const std::vector<std::string>& keys) {
  return {keys.begin(), keys.end()};
}

}  // namespace

std::string_view to_string(Tier tier) noexcept {
  switch (tier) {
    case Tier::kL1: return "l1";
    case Tier::kL2: return "l2";
    case Tier::kLoader: return "loader";
  }
  return "unknown";
}

std::string_view to_string(LeaseMode mode) noexcept {
  return mode == LeaseMode::kLocal ? "local" : "redis";
}

Result<std::unique_ptr<Cache>> Cache::open(CacheOptions options) {
  auto core = Core::create(std::move(options));
  if (!core) return core.error();
  return std::unique_ptr<Cache>{new Cache{std::move(*core)}};
}

Cache::Cache(std::shared_ptr<Core> core) : core_(std::move(core)) {}
Cache::~Cache() { core_->close(); }

Result<void> Cache::wait_until_ready(std::chrono::milliseconds timeout) {
  if (core_->on_loop_thread()) return on_loop_error();
  return core_->wait_until_ready(timeout);
}

std::optional<Value> Cache::try_get(std::string_view key, Freshness freshness) {
  return core_->try_get(key, freshness, nullptr);
}

ReadResult Cache::get(std::string_view key, ReadOptions options) {
  if (core_->on_loop_thread()) return on_loop_error();
  return wait_for<ReadResult>(
      [&](ReadCallback callback) { core_->get(key, options, std::move(callback)); });
}

void Cache::get_async(std::string_view key, ReadOptions options,
                      UniqueFunction<void(ReadResult)> callback) {
  core_->get(key, options, std::move(callback));
}

Awaitable<ReadResult> Cache::co_get(std::string_view key, ReadOptions options) {
  return Awaitable<ReadResult>{[core = core_.get(), key = std::string{key},
                                options = std::move(options)](ReadCallback callback) {
    core->get(key, options, std::move(callback));
  }};
}

std::vector<ReadResult> Cache::get_many(std::span<const std::string_view> keys,
                                        ReadOptions options) {
  if (core_->on_loop_thread()) {
    std::vector<ReadResult> refused;
    for (std::size_t i = 0; i < keys.size(); ++i) refused.emplace_back(on_loop_error());
    return refused;
  }
  return wait_for<std::vector<ReadResult>>(
      [&](UniqueFunction<void(std::vector<ReadResult>)> callback) {
        core_->get_many(keys, options, std::move(callback));
      });
}

void Cache::get_many_async(std::span<const std::string_view> keys, ReadOptions options,
                           UniqueFunction<void(std::vector<ReadResult>)> callback) {
  core_->get_many(keys, options, std::move(callback));
}

Awaitable<std::vector<ReadResult>> Cache::co_get_many(std::span<const std::string_view> keys,
                                                      ReadOptions options) {
  return Awaitable<std::vector<ReadResult>>{
      [core = core_.get(), keys = copied(keys),
       options = std::move(options)](UniqueFunction<void(std::vector<ReadResult>)> callback) {
        core->get_many(viewed(keys), options, std::move(callback));
      }};
}

WriteResult Cache::set(std::string_view key, std::string_view value, WriteOptions options) {
  if (core_->on_loop_thread()) return on_loop_error();
  return wait_for<WriteResult>(
      [&](WriteCallback callback) { core_->set(key, value, options, std::move(callback)); });
}

void Cache::set_async(std::string_view key, std::string_view value, WriteOptions options,
                      UniqueFunction<void(WriteResult)> callback) {
  core_->set(key, value, options, std::move(callback));
}

Awaitable<WriteResult> Cache::co_set(std::string_view key, std::string_view value,
                                     WriteOptions options) {
  return Awaitable<WriteResult>{
      [core = core_.get(), key = std::string{key}, value = std::string{value},
       options](WriteCallback callback) { core->set(key, value, options, std::move(callback)); }};
}

WriteResult Cache::invalidate(std::string_view key, WriteOptions options) {
  if (core_->on_loop_thread()) return on_loop_error();
  return wait_for<WriteResult>(
      [&](WriteCallback callback) { core_->invalidate(key, options, std::move(callback)); });
}

void Cache::invalidate_async(std::string_view key, WriteOptions options,
                             UniqueFunction<void(WriteResult)> callback) {
  core_->invalidate(key, options, std::move(callback));
}

Awaitable<WriteResult> Cache::co_invalidate(std::string_view key, WriteOptions options) {
  return Awaitable<WriteResult>{
      [core = core_.get(), key = std::string{key}, options](WriteCallback callback) {
        core->invalidate(key, options, std::move(callback));
      }};
}

WriteResult Cache::invalidate_many(std::span<const std::string_view> keys, WriteOptions options) {
  if (core_->on_loop_thread()) return on_loop_error();
  return wait_for<WriteResult>(
      [&](WriteCallback callback) { core_->invalidate_many(keys, options, std::move(callback)); });
}

void Cache::invalidate_many_async(std::span<const std::string_view> keys, WriteOptions options,
                                  UniqueFunction<void(WriteResult)> callback) {
  core_->invalidate_many(keys, options, std::move(callback));
}

WriteResult Cache::invalidate_tag(std::string_view tag, WriteOptions options) {
  if (core_->on_loop_thread()) return on_loop_error();
  return wait_for<WriteResult>(
      [&](WriteCallback callback) { core_->invalidate_tag(tag, options, std::move(callback)); });
}

void Cache::invalidate_tag_async(std::string_view tag, WriteOptions options,
                                 UniqueFunction<void(WriteResult)> callback) {
  core_->invalidate_tag(tag, options, std::move(callback));
}

WriteResult Cache::clear(WriteOptions options) {
  if (core_->on_loop_thread()) return on_loop_error();
  return wait_for<WriteResult>(
      [&](WriteCallback callback) { core_->clear(options, std::move(callback)); });
}

void Cache::clear_async(WriteOptions options, UniqueFunction<void(WriteResult)> callback) {
  core_->clear(options, std::move(callback));
}

Result<void> Cache::preload(std::vector<std::string> keys, const PreloadOptions& options,
                            PreloadCallback done) {
  return core_->preload(std::move(keys), options, {}, std::move(done));
}

Result<void> Cache::warm_up(const PreloadOptions& options, PreloadCallback done) {
  return core_->warm_up(options, std::move(done));
}

LeaseInfo Cache::lease() const { return core_->lease(); }
CacheStats Cache::stats() const { return core_->stats(); }

}  // namespace tiercel
