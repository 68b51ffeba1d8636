// Invalidations that could not be sent: kept, and sent again when D is up, before the lease is
// taken anew. What they say is "not what it was": late, twice or in another order they say the
// same.

#include <utility>

#include "core.h"
#include "scripts.h"
#include "tiercel/serialization/limits.h"

namespace tiercel {

using coherence::InvalidationKind;
using std::chrono::milliseconds;

// Any thread.
void Cache::Core::queue_invalidation(InvalidationKind kind, const std::vector<std::string>& names) {
  if (invalidations_ == nullptr || closed_.load(std::memory_order_acquire)) return;
  if (kind == InvalidationKind::kClear) invalidations_->add(kind);
  for (const std::string& name : names) invalidations_->add(kind, name);
  loop_->post([this] {
    link_driver_->replay_waits(true);
    replay();
  });
}

void Cache::Core::data_is_up() {
  locks_->data_is_up();
  server_clock_.reset();
  ask_server_clock();
  if (l2_is_suspect_.exchange(false, std::memory_order_relaxed)) {
    MutexLock lock{l2_breaker_mutex_};
    if (l2_breaker_) l2_breaker_.emplace(*options_.l2_breaker);
  }
  replay();
}

// Loop thread. One batch after the other; what fails waits for a while, or for D.
void Cache::Core::replay() {
  if (invalidations_ == nullptr || is_replaying_ || !link_driver_->is_data_up()) return;
  auto batch = invalidations_->take(serialization::kKeysPerMessageMax,
                                    serialization::kKeysBytesPerMessageMax);
  if (!batch) {
    if (invalidations_->empty()) link_driver_->replay_waits(false);
    return;
  }
  is_replaying_ = true;
  send_batch(std::move(*batch));
}

void Cache::Core::send_batch(coherence::InvalidationQueue::Batch batch) {
  using serialization::MessageKind;
  const InvalidationKind kind = batch.kind;
  const auto message = encode_change(kind == InvalidationKind::kKey   ? MessageKind::kInvalidate
                                     : kind == InvalidationKind::kTag ? MessageKind::kTag
                                                                      : MessageKind::kClear,
                                     batch.names);
  const std::string entries = std::to_string(options_.history_entries);
  std::vector<std::string> keys{names_.history_key()};
  std::vector<std::string> arguments{message.value_or(std::string{}), names_.channel(), entries};
  if (kind == InvalidationKind::kKey) {
    for (const std::string& name : batch.names) {
      evict(name, coherence::kVersionUnknown);  // It may have been read back meanwhile.
      keys.push_back(names_.value_key(name));
      keys.push_back(names_.fill_key(name));
    }
  } else {
    keys.push_back(names_.tags_key());
  }
  if (kind == InvalidationKind::kTag) {
    for (const std::string& name : batch.names) {
      arguments.push_back(std::to_string(serialization::tag_slot(name)));
    }
  }
  std::vector<std::string_view> key_views{keys.begin(), keys.end()};
  std::vector<std::string_view> argument_views{arguments.begin(), arguments.end()};
  const GuardTail tail =
      kind == InvalidationKind::kKey ? guards_.tail_of(batch.names) : GuardTail{};
  const l2::Script& script = with_tail(kind == InvalidationKind::kKey   ? invalidate_many_script()
                                       : kind == InvalidationKind::kTag ? invalidate_tags_script()
                                                                        : clear_script(),
                                       tail, key_views, argument_views);
  client_->submit_script(script, key_views, argument_views, l2::Retry::kSafe,
                         now() + kReplayTimeout,
                         [this, batch = std::move(batch)](Result<l2::Reply> reply) {
                           is_replaying_ = false;
                           if (stored_version(reply)) {
                             invalidations_->acknowledge(batch);
                             return replay();
                           }
                           invalidations_->put_back(batch);
                           if (closed_.load(std::memory_order_acquire)) return;
                           loop_->run_after(kReplayAgainAfter, [this] { replay(); });
                         });
}

}  // namespace tiercel
