// What changes do to L1, and how a value gets into it. Loop thread, but where there is no Redis.

#include <algorithm>
#include <utility>

#include "core.h"
#include "tagged_entry.h"
#include "tiercel/base/bytes.h"
#include "tiercel/base/chaos_hooks.h"

namespace tiercel {

using std::chrono::milliseconds;

void Cache::Core::put_into_l1(coherence::FillTable::Token token, const Found& found,
                              TimePoint expires_at) {
  const std::string key = token.key();
  if (!is_local()) link_driver_->note_fill(key, found.version);
  bool inserted = false;
  const auto insert = [&] {
    // A refusal (too large for a stripe) leaves the key out of L1, which is right, and is counted
    // there.
    inserted = static_cast<bool>(insert_into_l1(
        key, found.bytes.get(), found.tags, {.version = found.version, .expires_at = expires_at}));
  };
#ifdef TIERCEL_CHAOS_HOOKS
  if (chaos_hooks().fills_without_tokens) return insert();
#endif
  fills_.commit(std::move(token), found.version, insert);
  (inserted ? counters_.fills : counters_.fills_dropped).fetch_add(1, std::memory_order_relaxed);
  if (inserted && expires_at != TimePoint::max()) start_sweeping();
}

Result<void> Cache::Core::insert_into_l1(std::string_view key, const std::string* value,
                                         const serialization::TagSlots& tags, l1::EntryMeta meta) {
  if (value == nullptr) meta.flags |= kFlagNegative;
  const std::string_view payload = value != nullptr ? std::string_view{*value} : std::string_view{};
  if (tags.empty()) return l1_->insert(key, payload, meta);
  meta.flags |= kFlagTagged;
  return l1_->insert(key, with_slots(payload, tags.span()), meta);
}

void Cache::Core::bar_fills() { fills_.mark_all(); }

void Cache::Core::empty_l1() {
  fills_.mark_all();
  l1_->clear();
  counters_.l1_drops.fetch_add(1, std::memory_order_relaxed);
}

void Cache::Core::drop_l1() {
  empty_l1();
  tell_lease();  // What made us drop it may have emptied Redis.
}

void Cache::Core::evict(std::string_view key, coherence::Version version) {
  fills_.mark(key, version);
  forget_older(key, version);
}

void Cache::Core::forget_older(std::string_view key, coherence::Version version) {
  if (version == coherence::kVersionUnknown) {
    l1_->erase(key);
  } else {
    l1_->erase_older(key, version);
  }
}

// Only those who have the key are given its new value: what nobody reads here must not push out
// what somebody does.
void Cache::Core::refresh(std::string_view key, coherence::Version version,
                          std::string_view stored) {
  std::string bytes;
  append_u64_be(bytes, version);
  bytes += stored;
  const auto decoded = serialization::decode_value(bytes);
  if (!decoded || decoded->foreign || decoded->envelope.tombstone) return evict(key, version);
  const serialization::Envelope& envelope = decoded->envelope;
  const TimePoint received_at = now();
  const milliseconds life = envelope.hard_ttl;
  const TimePoint expires_at = life > milliseconds{0} ? received_at + std::min(life, kTtlMax)
                               : options_.ttl         ? received_at + *options_.ttl
                                                      : TimePoint::max();
  const std::string value{envelope.payload};
  bool was_refreshed = false;
  fills_.mark_and(key, version, [&] {
    const std::uint64_t version_there = l1_->pin(key) ? l1_->pin(key).version() : version;
    if (version_there >= version) return;
    was_refreshed = static_cast<bool>(
        insert_into_l1(key, envelope.negative ? nullptr : &value, envelope.tag_slots,
                       {.version = version, .expires_at = expires_at}));
  });
  if (was_refreshed) counters_.refreshed.fetch_add(1, std::memory_order_relaxed);
}

void Cache::Core::forget_tag(std::string_view tag, coherence::Version version) {
  tags_.invalidate(serialization::tag_slot(tag), version);
}

void Cache::Core::clear_before(coherence::Version version) {
  tags_.clear(version);
  empty_l1();
}

void Cache::Core::forget_tags() { tags_.reset(); }

void Cache::Core::join_tags(const coherence::TagBaseline& tags) { tags_.join(tags); }

}  // namespace tiercel
