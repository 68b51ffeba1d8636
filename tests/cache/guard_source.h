#pragma once

// What the tests of guards share: a source of items, as a database would be one, and keyspaces over
// it.

#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cache_fixture.h"
#include "support/gate.h"
#include "tiercel/base/mutex.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::testing {

using Items = Keyspace<serialization::BytesCodec>;

// Any thread. Outlives the caches that were given its functions.
class Source {
 public:
  Source() = default;
  explicit Source(std::set<std::string> keys) : keys_(std::move(keys)) {}

  void create(const std::string& key) {
    MutexLock lock{mutex_};
    keys_.insert(key);
  }
  void remove(const std::string& key) {
    MutexLock lock{mutex_};
    keys_.erase(key);
  }
  void enumerate_behind(const Gate& gate) {
    MutexLock lock{mutex_};
    gate_ = gate;
  }
  void enumerate_endlessly() { is_endless_.store(true); }
  void fail_enumerations(int count) { failures_.store(count); }

  [[nodiscard]] std::size_t asked_for(const std::string& key) {
    MutexLock lock{mutex_};
    return asked_[key];
  }
  [[nodiscard]] std::size_t enumerations() const { return enumerations_.load(); }

  [[nodiscard]] std::function<Items::Loaded(std::string_view, const Items::Old&)> loader() {
    return [this](std::string_view key, const Items::Old&) -> Items::Loaded {
      MutexLock lock{mutex_};
      ++asked_[std::string{key}];
      if (!keys_.contains(std::string{key})) return std::optional<Items::Load>{};
      return std::optional<Items::Load>{Items::Load{"item " + std::string{key}}};
    };
  }
  [[nodiscard]] std::function<Result<void>(const BloomGuardOptions::Found&)> enumerator() {
    return [this](const BloomGuardOptions::Found& found) -> Result<void> {
      enumerations_.fetch_add(1);
      if (const auto gate = this->gate()) gate->pass();
      if (failures_.fetch_sub(1) > 0) return unavailable("the database is away");
      // Page by page, as of a database that goes on changing.
      std::string after;
      for (bool is_first = true;; is_first = false) {
        std::vector<std::string> page;
        {
          MutexLock lock{mutex_};
          for (auto at = is_first ? keys_.begin() : keys_.upper_bound(after);
               at != keys_.end() && page.size() < 100; ++at) {
            page.push_back(*at);
          }
        }
        for (const std::string& key : page) {
          if (!found(key)) return {};
        }
        if (is_endless_.load()) {
          if (!found("again and again")) return {};
          std::this_thread::yield();
          continue;
        }
        if (page.empty()) return {};
        after = page.back();
      }
    };
  }
  [[nodiscard]] BloomGuardOptions options(BloomGuardOptions options) {
    if (options.keys_expected == 0) options.keys_expected = 1000;
    options.enumerate = enumerator();
    return options;
  }

 private:
  std::optional<Gate> gate() {
    MutexLock lock{mutex_};
    return gate_;
  }

  Mutex mutex_;
  std::set<std::string> keys_ TIERCEL_GUARDED_BY(mutex_);
  std::map<std::string, std::size_t> asked_ TIERCEL_GUARDED_BY(mutex_);
  std::optional<Gate> gate_ TIERCEL_GUARDED_BY(mutex_);
  std::atomic<bool> is_endless_{false};
  std::atomic<int> failures_{0};
  std::atomic<std::size_t> enumerations_{0};
};

// Absent keys are not kept, so that each read of one is the guard's or the loader's to answer.
inline Items open_guarded(Cache& cache, Source& source, BloomGuardOptions options = {}) {
  auto items = Items::open(cache, {.name = "item",
                                   .policy = {.negative_ttl = std::nullopt},
                                   .loader = source.loader(),
                                   .guard = source.options(std::move(options))});
  EXPECT_TRUE(items) << items.error().to_string();
  return std::move(items).value();
}

inline bool answers(const Items& items) {
  const bool does =
      poll_until([&] { return items.stats().guard.state == GuardState::kAnswering; }, kPatience);
  if (!does) ADD_FAILURE() << items.stats().guard.last_failure;
  return does;
}

inline bool stored(const Items& items) {
  const bool is = poll_until([&] { return items.stats().guard.stored > 0; }, kPatience);
  if (!is) ADD_FAILURE() << items.stats().guard.last_failure;
  return is;
}

inline std::string read(const Items& items, int key) {
  const auto found = items.get(key, {.timeout = kPatience});
  if (!found) return found.error().to_string();
  return *found ? std::string{(*found)->view()} : "(absent)";
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream{text};
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

// NS/bloom:KEYSPACE:GENERATION:NUMBER
inline std::string only_chunk(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    if (key.ends_with(":0")) return key;
  }
  ADD_FAILURE() << "there is no chunk";
  return {};
}

}  // namespace tiercel::testing
