// Invariants: is_in_bucket of a command is true exactly while it is linked from its bucket; the
// first of a bucket has no earlier_due, the last no later_due.

#include "deadline_buckets.h"

#include "tiercel/base/check.h"

namespace tiercel::l2 {

void DeadlineBuckets::add(PendingCommand& command) {
  TIERCEL_CHECK(!command.is_in_bucket);
  const Number number = number_of(command.deadline);
  // Mostly the last one, or a new one behind it.
  const auto hint =
      buckets_.empty() || buckets_.rbegin()->first < number ? buckets_.end() : --buckets_.end();
  Bucket& bucket = buckets_.try_emplace(hint, number)->second;
  command.is_in_bucket = true;
  command.earlier_due = bucket.last;
  command.later_due = nullptr;
  (bucket.first == nullptr ? bucket.first : bucket.last->later_due) = &command;
  bucket.last = &command;
}

void DeadlineBuckets::remove(PendingCommand& command) noexcept {
  TIERCEL_CHECK(command.is_in_bucket);
  command.is_in_bucket = false;
  PendingCommand* const earlier = command.earlier_due;
  PendingCommand* const later = command.later_due;
  if (earlier != nullptr) earlier->later_due = later;
  if (later != nullptr) later->earlier_due = earlier;
  if (earlier != nullptr && later != nullptr) return;
  const auto bucket = buckets_.find(number_of(command.deadline));
  if (earlier == nullptr && later == nullptr) {
    buckets_.erase(bucket);
  } else if (earlier == nullptr) {
    bucket->second.first = later;
  } else {
    bucket->second.last = earlier;
  }
}

PendingCommand* DeadlineBuckets::take_due(TimePoint now) noexcept {
  if (buckets_.empty() || buckets_.begin()->first >= number_of(now)) return nullptr;
  PendingCommand* const due = buckets_.begin()->second.first;
  remove(*due);
  return due;
}

}  // namespace tiercel::l2
