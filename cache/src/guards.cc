// Bloom guards of keyspaces (bloom_guard.h). Which changes they hear of: evict() and refresh(),
// which every message, own write and replayed invalidation of a key comes to, here or in writes.cc
// where there is no Redis. What they are told is missing: drop_l1(), and a new branch.

#include <utility>

#include "core.h"
#include "key_guard.h"
#include "tiercel/base/bytes.h"

namespace tiercel {

Result<std::shared_ptr<KeyGuard>> Cache::Core::open_guard(const std::string& keyspace,
                                                          BloomGuardOptions options) {
  if (auto valid = validate(options); !valid) return valid.error();
  if (is_local() && !options.enumerate) {
    return invalid_argument("guard.enumerate is missing: without Redis nothing else has the keys");
  }
  if (options_.foreign_writers) {
    return invalid_argument(
        "a guard contradicts foreign_writers: who writes without Tiercel does not tell the filter");
  }
  std::string token;
  append_u64_be(token, origin_);
  auto guard = std::make_shared<KeyGuard>(
      keyspace, std::move(options),
      KeyGuard::Surroundings{.clock = *options_.clock,
                             .loop = *loop_,
                             .executor = *executor_,
                             .client = client_.get(),
                             .links = link_driver_.get(),
                             .lease = lease_cell_,
                             .log = options_.log,
                             .guard_key = names_.guard_key(keyspace),
                             .value_prefix = names_.value_key(keyspace + ':'),
                             .token = token});
  if (auto added = guards_.add(keyspace, guard); !added) return added.error();
  guard->start();
  return guard;
}

// What the former master had acknowledged may be missing from this branch: creations that only the
// source knows now. So the filters are worth nothing here, in Redis (their branch is written beside
// them) and in this process.
void Cache::Core::follow(const std::string& branch) {
  if (branch == branch_) return;
  branch_ = branch;
  guards_.lost();
}

// In the order of a read of L1 (coherence/lease.h): what vouches, then the filter, then the clock.
// Not at_least: who knows of a version may know of a creation whose message has not come yet.
bool Cache::Core::is_refused(std::string_view key, const ReadOptions& options) const {
  if (!options.source || !options.source->guard || !options.freshness.may_join()) return false;
  KeyGuard& guard = *options.source->guard;
  const Vouch vouch = vouch_for(options.freshness);
  if (guard.may_contain(key.substr(options.source->name().size() + 1))) return false;
  if (now() >= vouch.until) return false;
  guard.note_refused();
  return true;
}

}  // namespace tiercel
