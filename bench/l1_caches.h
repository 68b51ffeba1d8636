#pragma once

// Our cache and its peers behind the same few calls, found by templates so that nothing is added to
// what they cost:
//
//   Cache(entries)                capacity in entries; whoever counts bytes gets it in bytes
//   bool get(key, out)            copies the value's 100 bytes to `out`; false: a miss
//   bool put(key, value)          in place of what is there; false: refused
//   bool add(key, value)          only where it is cheaper than put: of a key that is not there
//   void erase(key)
//   kName, kBounded, kReplaces (put never lets a reader see the key absent)
//
// Peers run at their best: 64 shards wherever the number can be chosen, lookups without building a
// key on the heap, charges that ask for no more than counting.

#ifndef TBB_PREVIEW_CONCURRENT_LRU_CACHE
#define TBB_PREVIEW_CONCURRENT_LRU_CACHE 1
#endif

#define XXH_INLINE_ALL
#include <leveldb/cache.h>
#include <oneapi/tbb/concurrent_hash_map.h>
#include <oneapi/tbb/concurrent_lru_cache.h>
#include <rocksdb/cache.h>
#include <xxhash.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "l1_keys.h"
#include "l1_memory.h"
#include "tiercel/l1/lru_cache.h"

namespace tiercel::bench {

inline constexpr int kShardBits = 6;
inline constexpr std::size_t kShards = std::size_t{1} << kShardBits;
inline constexpr std::size_t kCharge = kKeyBytes + kValueBytes;

inline void copy_value(const char* value, char* out) noexcept {
  std::memcpy(out, value, kValueBytes);
}

// Entries that a cache would not take. Said at the end, if there were any.
inline std::atomic<std::uint64_t> refusals{0};

// Like get, and puts the value in after a miss.
template <typename Cache>
bool get_or_put(Cache& cache, std::string_view key, std::string_view value, char* out) {
  if (cache.get(key, out)) return true;
  bool is_taken = false;
  if constexpr (requires { cache.add(key, value); }) {
    is_taken = cache.add(key, value);
  } else {
    is_taken = cache.put(key, value);
  }
  if (!is_taken) refusals.fetch_add(1, std::memory_order_relaxed);
  return false;
}

// ---------------------------------------------------------------- Tiercel

class TiercelCache {
 public:
  static constexpr const char* kName = "tiercel";
  static constexpr bool kBounded = true;
  static constexpr bool kReplaces = true;

  explicit TiercelCache(std::size_t entries)
      : cache_(*l1::LruCache::create({.capacity_bytes_max = tiercel_capacity_bytes(entries, {})})) {
  }

  bool get(std::string_view key, char* out) noexcept {
    return cache_->try_get(key, {out, kValueBytes}).has_value();
  }
  bool put(std::string_view key, std::string_view value) {
    return cache_->insert(key, value).has_value();
  }
  void erase(std::string_view key) { cache_->erase(key); }

  [[nodiscard]] l1::LruCache& cache() noexcept { return *cache_; }

 private:
  std::unique_ptr<l1::LruCache> cache_;
};

// ---------------------------------------------------------------- std::unordered_map + list

// Least recently used out first in each of 64 stripes under a std::mutex, by number of entries:
// what one writes who has an afternoon. One hash (XXH3) serves for the stripe and for the map.
template <typename Stored>
class StripedLru {
 public:
  explicit StripedLru(std::size_t entries) {
    const std::size_t share = (entries + kShards - 1) / kShards;
    for (auto& stripe : stripes_) {
      stripe.entries_max = share;
      stripe.index.reserve(share);
    }
  }

  // Calls use(const Stored&) under the lock.
  template <typename Use>
  bool find(std::string_view text, Use&& use) {
    const HashedKey key{text};
    Stripe& stripe = stripe_of(key);
    const std::lock_guard lock{stripe.mutex};
    const auto found = stripe.index.find(key);
    if (found == stripe.index.end()) return false;
    stripe.order.splice(stripe.order.begin(), stripe.order, found->second);
    use(std::as_const(found->second->second));
    return true;
  }

  void insert(std::string_view text, Stored stored) {
    const HashedKey key{text};
    Stripe& stripe = stripe_of(key);
    const std::lock_guard lock{stripe.mutex};
    if (const auto found = stripe.index.find(key); found != stripe.index.end()) {
      found->second->second = std::move(stored);
      stripe.order.splice(stripe.order.begin(), stripe.order, found->second);
      return;
    }
    if (stripe.index.size() >= stripe.entries_max) {
      stripe.index.erase(HashedKey{stripe.order.back().first});
      stripe.order.pop_back();
    }
    stripe.order.emplace_front(text, std::move(stored));
    stripe.index.emplace(HashedKey{stripe.order.front().first, key.hash}, stripe.order.begin());
  }

  void erase(std::string_view text) {
    const HashedKey key{text};
    Stripe& stripe = stripe_of(key);
    const std::lock_guard lock{stripe.mutex};
    const auto found = stripe.index.find(key);
    if (found == stripe.index.end()) return;
    const auto entry = found->second;
    stripe.index.erase(found);
    stripe.order.erase(entry);
  }

 private:
  struct HashedKey {
    explicit HashedKey(std::string_view key) noexcept
        : HashedKey(key, XXH3_64bits(key.data(), key.size())) {}
    HashedKey(std::string_view key, std::uint64_t key_hash) noexcept : text(key), hash(key_hash) {}
    bool operator==(const HashedKey& other) const noexcept { return text == other.text; }

    std::string_view text;
    std::uint64_t hash;
  };
  struct TakeHash {
    std::size_t operator()(const HashedKey& key) const noexcept { return key.hash; }
  };
  using Order = std::list<std::pair<std::string, Stored>>;  // The most recently used first.

  struct alignas(64) Stripe {
    std::mutex mutex;
    Order order;
    std::unordered_map<HashedKey, typename Order::iterator, TakeHash> index;  // Keys of `order`.
    std::size_t entries_max = 0;
  };

  Stripe& stripe_of(const HashedKey& key) noexcept {
    return stripes_[key.hash >> (64 - kShardBits)];
  }

  std::array<Stripe, kShards> stripes_;
};

class MutexLruCache {
 public:
  static constexpr const char* kName = "mutex_lru";
  static constexpr bool kBounded = true;
  static constexpr bool kReplaces = true;

  explicit MutexLruCache(std::size_t entries) : cache_(entries) {}

  bool get(std::string_view key, char* out) {
    return cache_.find(key, [out](const std::string& value) { copy_value(value.data(), out); });
  }
  bool put(std::string_view key, std::string_view value) {
    cache_.insert(key, std::string{value});
    return true;
  }
  void erase(std::string_view key) { cache_.erase(key); }

 private:
  StripedLru<std::string> cache_;
};

// The same with values that are shared instead of copied: the peer of `pin`.
class SharedPtrLruCache {
 public:
  explicit SharedPtrLruCache(std::size_t entries) : cache_(entries) {}

  std::shared_ptr<const std::string> get(std::string_view key) {
    std::shared_ptr<const std::string> shared;
    cache_.find(key, [&shared](const auto& value) { shared = value; });
    return shared;
  }
  bool put(std::string_view key, std::string_view value) {
    cache_.insert(key, std::make_shared<const std::string>(value));
    return true;
  }

 private:
  StripedLru<std::shared_ptr<const std::string>> cache_;
};

// ---------------------------------------------------------------- LevelDB and RocksDB

// RocksDB's LRU cache descends from LevelDB's, and their interfaces differ in little more than in
// name; in what they do, a Library.
template <typename Library>
class HandleLruCache {
 public:
  static constexpr const char* kName = Library::kName;
  static constexpr bool kBounded = true;
  static constexpr bool kReplaces = true;

  explicit HandleLruCache(std::size_t entries) : cache_(Library::make(entries * kCharge)) {}

  bool get(std::string_view key, char* out) {
    auto* handle = cache_->Lookup(slice(key));
    if (handle == nullptr) return false;
    copy_value(static_cast<const char*>(cache_->Value(handle)), out);
    cache_->Release(handle);
    return true;
  }
  bool put(std::string_view key, std::string_view value) {
    char* block = new char[kValueBytes];
    copy_value(value.data(), block);
    return Library::insert(*cache_, slice(key), block, &drop);
  }
  void erase(std::string_view key) { cache_->Erase(slice(key)); }

 private:
  using Slice = typename Library::Slice;

  static Slice slice(std::string_view key) noexcept { return {key.data(), key.size()}; }
  static void drop(const Slice&, void* block) { delete[] static_cast<char*>(block); }

  typename Library::CachePtr cache_;
};

struct LevelDb {
  static constexpr const char* kName = "leveldb";
  using Slice = leveldb::Slice;
  using CachePtr = std::unique_ptr<leveldb::Cache>;
  using Drop = void (*)(const Slice&, void*);

  static CachePtr make(std::size_t capacity) { return CachePtr{leveldb::NewLRUCache(capacity)}; }
  static bool insert(leveldb::Cache& cache, const Slice& key, char* block, Drop drop) {
    cache.Release(cache.Insert(key, block, kCharge, drop));
    return true;
  }
};
using LevelDbCache = HandleLruCache<LevelDb>;

struct RocksDbLru {
  static constexpr const char* kName = "rocksdb_lru";
  using Slice = rocksdb::Slice;
  using CachePtr = std::shared_ptr<rocksdb::Cache>;
  using Drop = void (*)(const Slice&, void*);

  static CachePtr make(std::size_t capacity) {
    rocksdb::LRUCacheOptions options;
    options.capacity = capacity;
    options.num_shard_bits = kShardBits;
    options.metadata_charge_policy = rocksdb::kDontChargeCacheMetadata;
    return rocksdb::NewLRUCache(options);
  }
  static bool insert(rocksdb::Cache& cache, const Slice& key, char* block, Drop drop) {
    return cache.Insert(key, block, kCharge, drop).ok();
  }
};
using RocksDbLruCache = HandleLruCache<RocksDbLru>;

// HyperClockCache knows keys of 16 bytes and no others. So it gets the key's 128-bit hash, and the
// key itself stands before the value and is compared, as it must be by anyone who cannot afford to
// take one key for another.
class RocksDbClockCache {
 public:
  static constexpr const char* kName = "rocksdb_clock";
  static constexpr bool kBounded = true;
  static constexpr bool kReplaces = false;

  explicit RocksDbClockCache(std::size_t entries)
      : cache_(rocksdb::HyperClockCacheOptions{entries * kCharge, kCharge, kShardBits, false,
                                               nullptr, rocksdb::kDontChargeCacheMetadata}
                   .MakeSharedCache()) {}

  bool get(std::string_view key, char* out) {
    rocksdb::Cache::Handle* handle = cache_->Lookup(HashedKey{key}.slice());
    if (handle == nullptr) return false;
    const Block& block = *static_cast<const Block*>(cache_->Value(handle));
    const bool same = block.key.text() == key;
    if (same) copy_value(block.value.data(), out);
    cache_->Release(handle);
    return same;
  }
  // Insert leaves an entry that is there as it is, so to replace it takes two calls.
  bool put(std::string_view key, std::string_view value) {
    const HashedKey hashed{key};
    cache_->Erase(hashed.slice());
    return insert(hashed, key, value);
  }
  bool add(std::string_view key, std::string_view value) {
    return insert(HashedKey{key}, key, value);
  }
  void erase(std::string_view key) { cache_->Erase(HashedKey{key}.slice()); }

 private:
  struct HashedKey {
    explicit HashedKey(std::string_view key) noexcept
        : hash(XXH3_128bits(key.data(), key.size())) {}
    [[nodiscard]] rocksdb::Slice slice() const noexcept {
      return {reinterpret_cast<const char*>(&hash), sizeof hash};
    }
    XXH128_hash_t hash;
  };
  struct Block {
    Key key;
    Value value;
  };

  bool insert(const HashedKey& hashed, std::string_view key, std::string_view value) {
    auto* block = new Block;
    block->key = Key{key};
    copy_value(value.data(), block->value.data());
    return cache_->Insert(hashed.slice(), block, kCharge, &drop).ok();
  }
  static void drop(const rocksdb::Slice&, void* block) { delete static_cast<Block*>(block); }

  std::shared_ptr<rocksdb::Cache> cache_;
};

// ---------------------------------------------------------------- oneTBB

// Its values come out of a function of the key, whose calls are the misses. There is no put that
// replaces and no erase. A std::map inside, behind one combining queue.
class TbbLruCache {
 public:
  static constexpr const char* kName = "tbb_lru";
  static constexpr bool kBounded = true;
  static constexpr bool kReplaces = false;

  explicit TbbLruCache(std::size_t entries) : cache_(&make, entries) {}

  bool get(std::string_view key, char* out) {
    made_ = false;
    auto handle = cache_[Key{key}];
    copy_value(handle.value().data(), out);
    return !made_;
  }
  // For filling.
  bool put(std::string_view key, std::string_view) {
    Value out;
    get(key, out.data());
    return true;
  }

 private:
  static Value make(Key key) {
    made_ = true;
    return make_value(key);
  }
  static inline thread_local bool made_ = false;

  tbb::concurrent_lru_cache<Key, Value> cache_;
};

// Its get has put it in already.
inline bool get_or_put(TbbLruCache& cache, std::string_view key, std::string_view, char* out) {
  return cache.get(key, out);
}

// Not a cache: it has no bound and no order of use. For a sense of what those cost.
class TbbHashMap {
 public:
  static constexpr const char* kName = "tbb_map*";
  static constexpr bool kBounded = false;
  static constexpr bool kReplaces = true;

  explicit TbbHashMap(std::size_t entries) : map_(entries) {}

  bool get(std::string_view key, char* out) {
    Map::const_accessor found;
    if (!map_.find(found, Key{key})) return false;
    copy_value(found->second.data(), out);
    return true;
  }
  bool put(std::string_view key, std::string_view value) {
    Map::accessor place;
    map_.insert(place, Key{key});
    copy_value(value.data(), place->second.data());
    return true;
  }

 private:
  struct HashCompare {
    static std::size_t hash(const Key& key) noexcept {
      return XXH3_64bits(key.bytes.data(), key.bytes.size());
    }
    static bool equal(const Key& one, const Key& other) noexcept { return one == other; }
  };
  using Map = tbb::concurrent_hash_map<Key, Value, HashCompare>;

  Map map_;
};

}  // namespace tiercel::bench
