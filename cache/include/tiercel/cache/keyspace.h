#pragma once

// Keyspace<C>: values of one type, by a codec, under a name, with a policy and a loader: give it
// the loader, and read. All instances that share Redis, the cache's namespace and the keyspace's
// name share its entries, so they must agree on the codec; what another codec stored is a miss and
// is counted. Keys in the cache are "NAME:KEY"; keep other users of the cache away from them.
//
// Any thread; the loader runs on the cache's executor. It must not outlive the cache. Blocking
// calls answer kInvalidArgument on the cache's loop thread. A caller that gives up does not cancel
// a load: what it brings is kept.
//
//   auto players = Keyspace<PlayerCodec>::open(cache, {.name = "player", .policy = {.ttl = 10min,
//       .refresh_ahead = 0.2, .stale_max = 1h}, .loader = [&](std::string_view id) { … }});
//   auto found = players->get(7);                      // Result<std::optional<Found<PlayerCodec>>>
//   if (found && *found) use((*found)->view());
//   if (auto hit = players->try_get(7)) use(hit->view());   // L1 only, on a tick thread
//   (compiled in tests/cache/keyspace_test.cc)

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tiercel/base/result.h"
#include "tiercel/cache/bloom_guard.h"
#include "tiercel/cache/cache.h"
#include "tiercel/cache/circuit_breaker.h"
#include "tiercel/cache/fill_policy.h"
#include "tiercel/cache/key_format.h"
#include "tiercel/cache/keyspace_stats.h"
#include "tiercel/cache/observer.h"
#include "tiercel/cache/options.h"
#include "tiercel/serialization/codec.h"

namespace tiercel {

// Without types; what Keyspace is made of.
class KeyspaceCore {
 public:
  struct Options {
    std::string name;
    FillPolicy policy;
    RequestLoader loader;
    BatchLoader batch_loader;
    std::uint32_t codec_id;
    std::function<bool(std::string_view)> accepts;
    std::shared_ptr<KeyspaceObserver> observer;
    std::optional<BloomGuardOptions> guard{};
  };
  static Result<KeyspaceCore> open(Cache& cache, Options options);

  [[nodiscard]] Cache& cache() const noexcept { return *cache_; }
  [[nodiscard]] const std::string& prefix() const noexcept { return prefix_; }
  [[nodiscard]] std::string_view name() const noexcept {
    return std::string_view{prefix_}.substr(0, prefix_.size() - 1);
  }
  // The options with what makes them this keyspace's.
  [[nodiscard]] ReadOptions of(ReadOptions options) const;
  [[nodiscard]] WriteOptions of(WriteOptions options) const;
  [[nodiscard]] std::optional<Value> try_get(std::string_view key, Freshness freshness) const;
  Result<void> preload(std::vector<std::string> keys, const PreloadOptions& options,
                       PreloadCallback done) const;
  [[nodiscard]] KeyspaceStats stats() const;
  void note_default_served() const noexcept;
  Result<void> rebuild_guard() const;

 private:
  KeyspaceCore(Cache& cache, std::string prefix, std::shared_ptr<FillSource> source)
      : cache_(&cache), prefix_(std::move(prefix)), source_(std::move(source)) {}

  Cache* cache_;
  std::string prefix_;
  std::shared_ptr<FillSource> source_;
};

// A value that was found, and the view onto its bytes, which it keeps. Move-only.
template <serialization::Codec C>
class FoundIn {
 public:
  // As long as this object.
  [[nodiscard]] const typename C::View& view() const noexcept { return view_; }
  // Tier, version, age_bound, is_stale, bytes.
  [[nodiscard]] const Value& value() const noexcept { return value_; }

  // Makes one of `value`, in its place, which is empty: neither the view nor the pin is moved
  // about. Errors: kCorrupt, where the bytes came by no keyspace and are not of this codec; then
  // there is none.
  static Result<void> make(std::optional<FoundIn>& found, const C& codec, Value&& value) {
    if (value.is_checked() && serialization::is_codec_aligned(value.bytes())) [[likely]] {
      found.emplace(Made{}, codec, std::move(value));
      return {};
    }
    auto aligned = serialization::AlignedBytes::of(value.bytes());
    if (!aligned) return std::move(aligned).error();
    auto view = codec.decode(aligned->bytes());
    if (!view) return std::move(view).error();
    found.emplace(Made{}, std::move(value), std::move(*aligned), std::move(*view));
    return {};
  }

 private:
  struct Made {  // Nobody else's to construct.
    explicit Made() = default;
  };

 public:
  FoundIn(Made, const C& codec, Value&& value)
      : value_(std::move(value)), view_(serialization::view_of_checked(codec, value_.bytes())) {}
  FoundIn(Made, Value&& value, serialization::AlignedBytes copy, typename C::View view)
      : value_(std::move(value)), copy_(std::move(copy)), view_(std::move(view)) {}

 private:
  Value value_;
  serialization::AlignedBytes copy_;
  typename C::View view_;
};

template <serialization::Codec C>
class Keyspace {
 public:
  using Found = FoundIn<C>;
  using FindResult = Result<std::optional<Found>>;

  // What a loader brings. A value converts to it.
  struct Load {
    Load(typename C::Value given)
        : value(std::move(given)) {}  // NOLINT(google-explicit-constructor)
    static Load unchanged() {
      Load load;
      return load;
    }

    std::optional<typename C::Value> value{};  // Nothing: what there was is unchanged.
    // nullopt: the policy's. 1 ms to 10 years.
    std::optional<std::chrono::milliseconds> ttl{};
    std::vector<std::string> tags{};

   private:
    Load() = default;
  };
  using Loaded = Result<std::optional<Load>>;  // nullopt: there is nothing.
  // What is there still (fill_policy.h); `view` is empty where nothing is.
  struct Old {
    std::optional<typename C::View> view{};
    std::uint64_t version = 0;
  };

  struct Options {
    // 1 to 64 of A-Z a-z 0-9 . _ -
    std::string name;
    FillPolicy policy{};
    C codec{};
    // The key without the keyspace's name, as format_key wrote it. At most one of the two, or one
    // for one key and one for many.
    std::function<Loaded(std::string_view key, const Old& old)> loader{};
    std::function<std::vector<Loaded>(std::span<const std::string_view> keys)> batch_loader{};
    // The last resort of a read that fails: this, with Tier::kLoader and version 0.
    std::optional<typename C::Value> default_value{};
    // Is told of loads, refusals, stale answers and the breaker; nullptr: nobody is.
    std::shared_ptr<KeyspaceObserver> observer{};
    // Refuses what cannot exist: bloom_guard.h. Opened with one once in each cache, and by every
    // instance that writes. Not with CacheOptions::foreign_writers.
    std::optional<BloomGuardOptions> guard{};
  };

  // Errors: kInvalidArgument naming the option, or two that contradict each other.
  static Result<Keyspace> open(Cache& cache, Options options) {
    const C codec = options.codec;
    KeyspaceCore::Options core{
        .name = options.name,
        .policy = options.policy,
        .loader = {},
        .batch_loader = {},
        .codec_id = codec.codec_id(),
        .accepts =
            [codec](std::string_view bytes) {
              return serialization::decode_anywhere(codec, bytes).has_value();
            },
        .observer = std::move(options.observer),
        .guard = std::move(options.guard)};
    const std::size_t prefix = options.name.size() + 1;
    if (options.loader) {
      core.loader = [codec, prefix,
                     loader = std::move(options.loader)](const LoadRequest& request) -> LoadResult {
        Old old{.version = request.old_version};
        if (request.old_value) {
          if (auto view = codec.decode(*request.old_value)) old.view.emplace(std::move(*view));
        }
        return encoded(codec, loader(request.key.substr(prefix), old));
      };
    }
    if (options.batch_loader) {
      core.batch_loader = [codec, prefix, loader = std::move(options.batch_loader)](
                              std::span<const LoadRequest> requests) {
        std::vector<std::string_view> keys;
        for (const LoadRequest& request : requests) keys.push_back(request.key.substr(prefix));
        std::vector<LoadResult> results;
        for (auto& loaded : loader(keys)) results.push_back(encoded(codec, std::move(loaded)));
        return results;
      };
    }
    std::shared_ptr<const std::string> last_resort;
    if (options.default_value) {
      auto bytes = codec.encode(*options.default_value);
      if (!bytes) return std::move(bytes).error();
      last_resort = std::make_shared<const std::string>(std::move(*bytes));
    }
    auto made = KeyspaceCore::open(cache, std::move(core));
    if (!made) return std::move(made).error();
    return Keyspace{State{std::move(*made), codec, std::move(last_resort)}};
  }

  // L1 only: no lock, no allocation (but of the error of a key that is too long), no system call,
  // no wait. nullopt: not there, or stale (unless soft_deadline is 0), or L1 may not answer now. A
  // hit that refresh_ahead finds due has it renewed, in the background.
  template <KeyFormattable Id>
  [[nodiscard]] std::optional<Found> try_get(const Id& id, Freshness freshness = {}) const {
    std::array<char, kKeyBufferBytes> buffer;
    std::optional<Found> found;
    const auto key = format_key(buffer, core().prefix(), id);
    if (!key) return found;
    auto value = core().try_get(*key, freshness);
    if (value) (void)Found::make(found, state_->codec, std::move(*value));
    return found;
  }

  // L1, then Redis, then the loader. Options: those of a read of the cache, without a loader.
  template <KeyFormattable Id>
  FindResult get(const Id& id, ReadOptions options = {}) const {
    return with_key(id, [&](std::string_view key) {
      return typed(core().cache().get(key, core().of(std::move(options))));
    });
  }
  template <KeyFormattable Id>
  void get_async(const Id& id, ReadOptions options,
                 UniqueFunction<void(FindResult)> callback) const {
    KeyBuffer buffer;
    const auto key = buffer.format(core().prefix(), id);
    if (!key) return callback(key.error());
    find(*key, std::move(options), std::move(callback));
  }
  template <KeyFormattable Id>
  Awaitable<FindResult> co_get(const Id& id, ReadOptions options = {}) const {
    return Awaitable<FindResult>{[self = *this, key = make_key(id), options = std::move(options)](
                                     UniqueFunction<void(FindResult)> callback) mutable {
      if (!key) return callback(key.error());
      self.find(*key, std::move(options), std::move(callback));
    }};
  }
  // One pass over L1, one pipeline to Redis, one call of the batch loader for all that is missing.
  // One result for each id, in order; each fails or succeeds on its own.
  template <KeyFormattable Id>
  std::vector<FindResult> get_many(std::span<const Id> ids, ReadOptions options = {}) const {
    std::vector<std::string> keys;
    std::vector<std::optional<Error>> refused(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (auto key = make_key(ids[i])) {
        keys.push_back(std::move(*key));
      } else {
        refused[i] = key.error();
      }
    }
    const std::vector<std::string_view> views{keys.begin(), keys.end()};
    auto reads = core().cache().get_many(views, core().of(std::move(options)));
    std::vector<FindResult> found;
    auto read = reads.begin();
    for (auto& error : refused) {
      found.push_back(error ? FindResult{std::move(*error)} : typed(std::move(*read++)));
    }
    return found;
  }

  template <KeyFormattable Id>
  WriteResult set(const Id& id, const typename C::Value& value, WriteOptions options = {}) const {
    auto bytes = state_->codec.encode(value);
    if (!bytes) return std::move(bytes).error();
    return with_key(id, [&](std::string_view key) {
      return core().cache().set(key, *bytes, core().of(std::move(options)));
    });
  }
  template <KeyFormattable Id>
  void set_async(const Id& id, const typename C::Value& value, WriteOptions options,
                 UniqueFunction<void(WriteResult)> callback) const {
    auto bytes = state_->codec.encode(value);
    if (!bytes) return callback(std::move(bytes).error());
    auto key = make_key(id);
    if (!key) return callback(std::move(key).error());
    core().cache().set_async(*key, *bytes, core().of(std::move(options)), std::move(callback));
  }
  template <KeyFormattable Id>
  WriteResult invalidate(const Id& id, WriteOptions options = {}) const {
    return with_key(id, [&](std::string_view key) {
      return core().cache().invalidate(key, std::move(options));
    });
  }
  template <KeyFormattable Id>
  void invalidate_async(const Id& id, WriteOptions options,
                        UniqueFunction<void(WriteResult)> callback) const {
    auto key = make_key(id);
    if (!key) return callback(std::move(key).error());
    core().cache().invalidate_async(*key, std::move(options), std::move(callback));
  }

  // Brings these into L1, in the background, as soon as L1 may be filled: what Redis does not have
  // is loaded. `done` runs on any thread, at the cache's close at the latest; it may be empty.
  // Errors: kInvalidArgument, and then `done` does not run.
  template <KeyFormattable Id>
  Result<void> preload(std::span<const Id> ids, const PreloadOptions& options = {},
                       PreloadCallback done = {}) const {
    std::vector<std::string> keys;
    for (const Id& id : ids) {
      auto key = make_key(id);
      if (!key) return std::move(key).error();
      keys.push_back(std::move(*key));
    }
    return core().preload(std::move(keys), options, std::move(done));
  }

  // As long as this object.
  [[nodiscard]] std::string_view name() const noexcept { return core().name(); }
  // Any thread, at any rate: it takes some 30 loads and a short lock.
  [[nodiscard]] KeyspaceStats stats() const { return core().stats(); }
  // Has the guard's filter made anew from its source, soon, so that it forgets what was deleted;
  // the one that there is answers until then. stats().guard.generation rises when it answers.
  // Errors: kInvalidArgument, where there is no guard.
  Result<void> rebuild_guard() const { return core().rebuild_guard(); }

 private:
  // Of try_get, which does not find longer keys.
  static constexpr std::size_t kKeyBufferBytes = 512;

  // What its copies share, and the reads that are under way.
  struct State {
    KeyspaceCore core;
    C codec;
    std::shared_ptr<const std::string> last_resort;
  };
  explicit Keyspace(State state) : state_(std::make_shared<const State>(std::move(state))) {}
  [[nodiscard]] const KeyspaceCore& core() const noexcept { return state_->core; }

  static LoadResult encoded(const C& codec, Loaded loaded) {
    if (!loaded) return std::move(loaded).error();
    if (!*loaded) return std::optional<tiercel::Loaded>{};
    Load& load = **loaded;
    if (!load.value) return std::optional{tiercel::Loaded::unchanged()};
    auto bytes = codec.encode(*load.value);
    if (!bytes) return std::move(bytes).error();
    tiercel::Loaded brought{std::move(*bytes)};
    brought.ttl = load.ttl;
    brought.tags = std::move(load.tags);
    return std::optional{std::move(brought)};
  }

  template <typename Id>
  Result<std::string> make_key(const Id& id) const {
    KeyBuffer buffer;
    const auto key = buffer.format(core().prefix(), id);
    if (!key) return key.error();
    return std::string{*key};
  }
  template <typename Id, typename F>
  auto with_key(const Id& id, F&& use) const -> decltype(use(std::string_view{})) {
    KeyBuffer buffer;
    const auto key = buffer.format(core().prefix(), id);
    if (!key) return key.error();
    return use(*key);
  }

  void find(std::string_view key, ReadOptions options,
            UniqueFunction<void(FindResult)> callback) const {
    core().cache().get_async(
        key, core().of(std::move(options)),
        [self = *this, callback = std::move(callback)](ReadResult read) mutable {
          callback(self.typed(std::move(read)));
        });
  }

  FindResult typed(ReadResult read) const {
    if (!read && state_->last_resort) {
      core().note_default_served();
      read =
          std::optional<Value>{std::in_place, state_->last_resort, Tier::kLoader, 0, Duration{0}};
    }
    if (!read) return std::move(read).error();
    FindResult found{std::optional<Found>{}};
    if (!*read) return found;
    if (auto made = Found::make(*found, state_->codec, std::move(**read)); !made)
      found = made.error();
    return found;
  }

  std::shared_ptr<const State> state_;
};

}  // namespace tiercel
