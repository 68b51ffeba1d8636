#pragma once

// GuardTable: the guards of a cache's keyspaces, by the keys' beginning, up to ':'. Asked for every
// key that changes, so looking up takes no lock, and nothing where there is no guard. Any thread,
// but for lost().

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "key_guard.h"
#include "tiercel/base/mutex.h"
#include "tiercel/l2/command.h"

namespace tiercel {

// What a write gives to kGuardPrologue; empty where no key is guarded.
struct GuardTail {
  std::vector<std::string> keys{};
  std::string told{};

  [[nodiscard]] bool empty() const noexcept { return keys.empty(); }
};

class GuardTable {
 public:
  // Errors: kConflict, where the keyspace has one; kClosed.
  Result<void> add(const std::string& keyspace, std::shared_ptr<KeyGuard> guard)
      TIERCEL_EXCLUDES(mutex_);
  // A change of the key: it may be a new one.
  void note(std::string_view key) {
    if (const auto found = find(key); found.guard != nullptr) found.guard->add(found.rest);
  }
  [[nodiscard]] GuardTail tail_of(const std::vector<std::string>& keys) const;
  void lost() TIERCEL_EXCLUDES(mutex_);  // Loop thread.
  // It is about to be closed: enumerations end soon.
  void stop() TIERCEL_EXCLUDES(mutex_);
  void close() TIERCEL_EXCLUDES(mutex_);

 private:
  using Guards = std::map<std::string, std::shared_ptr<KeyGuard>, std::less<>>;
  struct FoundGuard {
    KeyGuard* guard = nullptr;
    std::string_view rest{};
  };
  [[nodiscard]] FoundGuard find(std::string_view key) const;
  [[nodiscard]] Guards all() const TIERCEL_EXCLUDES(mutex_);

  // One of versions_, which all stay: a keyspace is opened seldom.
  std::atomic<const Guards*> guards_{nullptr};
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<const Guards>> versions_ TIERCEL_GUARDED_BY(mutex_);
  bool is_closed_ TIERCEL_GUARDED_BY(mutex_) = false;
};

// The script itself where the tail is empty; else, of a script that writes keys, the one with
// kGuardPrologue before it, and the tail is appended, which must outlive the views.
[[nodiscard]] const l2::Script& with_tail(const l2::Script& script, const GuardTail& tail,
                                          std::vector<std::string_view>& keys,
                                          std::vector<std::string_view>& arguments);

}  // namespace tiercel
