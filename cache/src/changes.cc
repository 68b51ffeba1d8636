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
  const std::string& key = token.key();  // Until it is committed.
  if (!is_local()) link_driver_->note_fill(key, found.version);
  bool inserted = false;
  const auto insert = [&] {
    // A refusal (too large for a stripe) leaves the key out of L1, which is right, and is counted
    // there.
    inserted = static_cast<bool>(insert_into_l1(key, found.bytes.get(), found.tags,
                                                {.version = found.version,
                                                 .expires_at = expires_at,
                                                 .flags = found.is_stale ? kFlagStale : 0},
                                                found.times));
  };
#ifdef TIERCEL_CHAOS_HOOKS
  if (chaos_hooks().fills_without_tokens) return insert();
#endif
  fills_.commit(std::move(token), found.version, insert);
  (inserted ? counters_.fills : counters_.fills_dropped).fetch_add(1, std::memory_order_relaxed);
  if (inserted && expires_at != TimePoint::max()) start_sweeping();
}

Result<void> Cache::Core::insert_into_l1(std::string_view key, const std::string* value,
                                         const serialization::TagSlots& tags, l1::EntryMeta meta,
                                         const EntryTimes& times) {
  if (value == nullptr) meta.flags |= kFlagNegative;
  const std::string_view payload = value != nullptr ? std::string_view{*value} : std::string_view{};
  if (tags.empty() && !times.are_set()) return l1_->insert(key, payload, meta);
  std::string bytes{payload};
  if (!tags.empty()) {
    meta.flags |= kFlagTagged;
    bytes = with_slots(payload, tags.span());
  }
  if (times.are_set()) {
    meta.flags |= kFlagTimed;
    append_times(bytes, times);
  }
  return l1_->insert(key, bytes, meta);
}

void Cache::Core::bar_fills() { fills_.mark_all(); }

void Cache::Core::empty_l1() {
  fills_.mark_all();
  l1_->clear();
  counters_.l1_drops.fetch_add(1, std::memory_order_relaxed);
}

void Cache::Core::drop_l1() {
  empty_l1();
  guards_.lost();
  tell_lease();  // What made us drop it may have emptied Redis.
}

void Cache::Core::evict(std::string_view key, coherence::Version version) {
  guards_.note(key);
  fills_.mark(key, version);
  forget_older(key, version);
  // A change takes the fill lease away, so whoever waits for a load may have to load.
  if (!is_local() && loop_->on_loop_thread()) fill_done(key);
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
  guards_.note(key);
  std::string bytes;
  append_u64_be(bytes, version);
  bytes += stored;
  const auto decoded = serialization::decode_value(bytes);
  if (!decoded || decoded->foreign || decoded->envelope.tombstone) return evict(key, version);
  const serialization::Envelope& envelope = decoded->envelope;
  const auto source = source_of(key);
  const milliseconds life = envelope.hard_ttl;
  const milliseconds soft = envelope.soft_ttl;
  const bool has_stale_part = soft > milliseconds{0} && soft < life;
  // A keyspace's, that its codec has not been asked about, does not go into L1.
  const bool is_good =
      source ? envelope.negative || source->codec().accept(envelope.codec_id, envelope.payload)
             : envelope.codec_id == serialization::kCodecRaw && !has_stale_part;
  if (!is_good) return evict(key, version);
  const TimePoint received_at = now();
  const TimePoint expires_at = life > milliseconds{0} ? received_at + std::min(life, kTtlMax)
                               : options_.ttl         ? received_at + *options_.ttl
                                                      : TimePoint::max();
  EntryTimes times;
  if (source && !envelope.negative) {
    times = has_stale_part ? times_of(source.get(), soft, received_at + soft)
                           : times_of(source.get(), life, expires_at);
  }
  const std::string value{envelope.payload};
  bool was_refreshed = false;
  fills_.mark_and(key, version, [&] {
    const l1::Handle there = l1_->pin(key);
    if (!there || there.version() >= version) return;
    was_refreshed = static_cast<bool>(
        insert_into_l1(key, envelope.negative ? nullptr : &value, envelope.tag_slots,
                       {.version = version, .expires_at = expires_at}, times));
  });
  if (was_refreshed) counters_.refreshed.fetch_add(1, std::memory_order_relaxed);
  fill_done(key);  // It has taken the fill lease away.
}

void Cache::Core::forget_tag(std::string_view tag, coherence::Version version) {
  tags_.invalidate(serialization::tag_slot(tag), version);
  bar_fills();  // Nobody joins a load that began before, or is given what was offered before.
}

void Cache::Core::clear_before(coherence::Version version) {
  tags_.clear(version);
  empty_l1();
}

void Cache::Core::forget_tags() { tags_.reset(); }

void Cache::Core::join_tags(const coherence::TagBaseline& tags) { tags_.join(tags); }

}  // namespace tiercel
