#include "guard_table.h"

#include <utility>

#include "scripts.h"
#include "tiercel/base/check.h"

namespace tiercel {

Result<void> GuardTable::add(const std::string& keyspace, std::shared_ptr<KeyGuard> guard) {
  MutexLock lock{mutex_};
  if (is_closed_) return closed("the cache was closed");
  const Guards* before = guards_.load(std::memory_order_relaxed);
  auto guards = before != nullptr ? std::make_unique<Guards>(*before) : std::make_unique<Guards>();
  if (!guards->emplace(keyspace, std::move(guard)).second) {
    return conflict("keyspace '" + keyspace +
                    "' has been opened with a guard in this cache already");
  }
  guards_.store(guards.get(), std::memory_order_release);
  versions_.push_back(std::move(guards));
  return {};
}

GuardTable::FoundGuard GuardTable::find(std::string_view key) const {
  const Guards* guards = guards_.load(std::memory_order_acquire);
  if (guards == nullptr) return {};
  const auto colon = key.find(':');
  if (colon == std::string_view::npos) return {};
  const auto found = guards->find(key.substr(0, colon));
  if (found == guards->end()) return {};
  return {found->second.get(), key.substr(colon + 1)};
}

GuardTail GuardTable::tail_of(const std::vector<std::string>& keys) const {
  if (guards_.load(std::memory_order_acquire) == nullptr) return {};
  std::map<KeyGuard*, std::vector<KeyHash>> hashes;
  for (const std::string& key : keys) {
    const auto found = find(key);
    if (found.guard != nullptr) hashes[found.guard].push_back(BloomFilter::hash_of(found.rest));
  }
  GuardTail tail;
  for (const auto& [guard, its] : hashes) {
    tail.keys.insert(tail.keys.begin(), guard->guard_key());  // The script takes them from the end.
    tail.told += told_to_guard(its);
  }
  return tail;
}

GuardTable::Guards GuardTable::all() const {
  MutexLock lock{mutex_};
  const Guards* guards = guards_.load(std::memory_order_relaxed);
  return guards != nullptr ? *guards : Guards{};
}

void GuardTable::lost() {
  for (const auto& [name, guard] : all()) guard->lost();
}

void GuardTable::stop() {
  {
    MutexLock lock{mutex_};
    is_closed_ = true;
  }
  for (const auto& [name, guard] : all()) guard->stop();
}

void GuardTable::close() {
  stop();
  for (const auto& [name, guard] : all()) guard->close();
}

namespace {

struct GuardedScript {
  explicit GuardedScript(std::string_view body)
      : source(std::string{coherence::kGuardPrologue} + std::string{body}), script(source) {}
  const std::string source;
  const l2::Script script;
};

const l2::Script& guarded(const l2::Script& script) {
  static const GuardedScript write{coherence::kWriteScript};
  static const GuardedScript write_many{coherence::kWriteManyScript};
  static const GuardedScript write_if{coherence::kWriteIfScript};
  static const GuardedScript write_unversioned{coherence::kWriteUnversionedScript};
  static const GuardedScript invalidate_many{coherence::kInvalidateManyScript};
  if (&script == &write_script()) return write.script;
  if (&script == &write_many_script()) return write_many.script;
  if (&script == &write_if_script()) return write_if.script;
  if (&script == &write_unversioned_script()) return write_unversioned.script;
  TIERCEL_CHECK(&script == &invalidate_many_script());
  return invalidate_many.script;
}

}  // namespace

const l2::Script& with_tail(const l2::Script& script, const GuardTail& tail,
                            std::vector<std::string_view>& keys,
                            std::vector<std::string_view>& arguments) {
  if (tail.empty()) return script;
  keys.insert(keys.end(), tail.keys.begin(), tail.keys.end());
  arguments.push_back(tail.told);
  return guarded(script);
}

}  // namespace tiercel
