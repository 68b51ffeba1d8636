// set, and the invalidations: of keys, of a tag, of everything.
//
// Through Redis: the key's fills are marked and L1 lets go of it before the command leaves. At the
// acknowledgement whatever older value came into L1 meanwhile is dropped, and the new one goes in
// at the version that Redis gave it, unless something newer was seen. When the outcome is unknown
// the key is dropped again: the next read asks Redis, on the same connection and so behind the
// write, or on a new one, where a write that still arrives will announce itself.
//
// Tags and clear take effect here when their message comes back, as they do everywhere; until then
// their own instance holds the acknowledgement back, so that it reads its own writes.

#include <algorithm>
#include <array>
#include <utility>

#include "core.h"
#include "scripts.h"
#include "tiercel/base/bytes.h"
#include "write_queue.h"

namespace tiercel {

using std::chrono::milliseconds;

namespace {

// What may succeed later as it is.
bool is_not_done(const Error& error) {
  return error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kDeadlineExceeded ||
         error.code == ErrorCode::kOverloaded;
}

}  // namespace

Result<void> Cache::Core::check_options(const WriteOptions& options, bool is_set) const {
  if (options.timeout && (*options.timeout < milliseconds{1} || *options.timeout > kTimeoutMax)) {
    return invalid_argument("timeout is " + std::to_string(options.timeout->count()) +
                            " ms; it must be 1 ms to 1 h");
  }
  if (options.ttl) {
    if (auto life = check_ttl(*options.ttl); !life) return life;
  }
  if (options.replicas > kReplicasMax) {
    return invalid_argument("replicas is " + std::to_string(options.replicas) +
                            "; it must be 0 to " + std::to_string(kReplicasMax));
  }
  if (!is_set && (!options.tags.empty() || options.if_version)) {
    return invalid_argument("tags and if_version are for a set only");
  }
  if (!options_.history && (!options.tags.empty() || options.if_version)) {
    return invalid_argument("tags and if_version need CacheOptions::history");
  }
  if (closed_.load(std::memory_order_acquire)) return closed("the cache was closed");
  return {};
}

Result<serialization::TagSlots> Cache::Core::tag_slots_of(const std::vector<std::string>& tags) {
  const std::vector<std::string_view> views{tags.begin(), tags.end()};
  return serialization::TagSlots::of(views);
}

// --- set

void Cache::Core::set(std::string_view key, std::string_view value, const WriteOptions& options,
                      WriteCallback callback) {
  if (auto valid = check_call(key, options.timeout); !valid) return callback(valid.error());
  if (auto valid = check_options(options, /*is_set=*/true); !valid) return callback(valid.error());
  if (auto valid = check_value("the value", value); !valid) return callback(valid.error());
  const auto tags = tag_slots_of(options.tags);
  if (!tags) return callback(tags.error());

  // Its life, and how long it is kept.
  const FillSource* const source = options.source.get();
  const Life soft = source != nullptr ? life_of(*source, options.ttl, /*negative=*/false)
                                      : life_of(options.ttl, /*negative=*/false);
  const Life life = source != nullptr ? kept_for(*source, soft) : soft;
  const TimePoint sent_at = now();
  auto write = std::make_shared<Write>();
  write->keys.emplace_back(key);
  write->value = std::make_shared<const std::string>(value);
  write->tags = *tags;
  write->expires_at = end_of(life, sent_at);
  if (source != nullptr) write->times = times_of(source, soft, end_of(soft, sent_at));
  if (is_local()) return set_locally(*write, options, std::move(callback));

  const auto envelope = serialization::encode_envelope(
      {.soft_ttl = life == soft ? milliseconds{0} : soft.value_or(milliseconds{0}),
       .hard_ttl = life.value_or(milliseconds{0}),
       .codec_id = source != nullptr ? source->codec().codec_id : serialization::kCodecRaw,
       .tag_slots = *tags,
       .payload = value});
  if (!envelope) return callback(envelope.error());
  const bool is_pushed = envelope->size() <= options_.value_push_bytes_max;
  write->may_join = options_.history && !options.if_version && options.replicas == 0 &&
                    !is_pushed && envelope->size() <= Together::kJoinBytesMax;
  // One that may join others has a message with them, when they leave.
  const auto message =
      write->may_join
          ? Result<std::string>{std::string{}}
          : encode_change(serialization::MessageKind::kSet, write->keys,
                          is_pushed ? std::optional<std::string>{*envelope} : std::nullopt);
  if (!message) return callback(message.error());

  write->callback = std::move(callback);
  write->script_keys = {names_.value_key(key), names_.fill_key(key), names_.history_key()};
  write->arguments = {*envelope, ttl_argument(life), *message, names_.channel(),
                      std::to_string(options_.history_entries)};
  write->script = &write_script();
  if (options.if_version) {
    write->script = &write_if_script();
    write->script_keys.push_back(names_.tags_key());
    std::string expected;
    if (*options.if_version != WriteOptions::kAbsent) append_u64_be(expected, *options.if_version);
    write->arguments.push_back(std::move(expected));
  } else if (!options_.history) {
    write->script = &write_unversioned_script();
    write->script_keys.pop_back();
    write->arguments.pop_back();
  }
  evict(key, coherence::kVersionUnknown);
  write->token.emplace(fills_.begin(key));
  send(std::move(write), options, sent_at);
}

void Cache::Core::set_locally(Write& write, const WriteOptions& options, WriteCallback callback) {
  // In one step with the marking: a load must not put its older value over this one, and of two
  // writes the later version must stay.
  const std::string& key = write.keys.front();
  std::uint64_t version = 0;
  Result<void> done;
  fills_.change(key, [&] {
    if (options.if_version && local_version(key) != *options.if_version) {
      done = conflict("the key has version " + std::to_string(local_version(key)));
      return;
    }
    version = 1 + local_versions_.fetch_add(1);
    guards_.note(key);
    done = insert_into_l1(key, write.value.get(), write.tags,
                          {.version = version, .expires_at = write.expires_at}, write.times);
  });
  if (done && write.expires_at != TimePoint::max()) start_sweeping();
  (done ? counters_.writes_acknowledged : counters_.writes_failed)
      .fetch_add(1, std::memory_order_relaxed);
  if (!done) return callback(done.error());
  callback(Written{.version = version});
}

// 0: it is not there.
std::uint64_t Cache::Core::local_version(std::string_view key) {
  const Peek found = peek(key, {});
  return found.kind == Peek::Kind::kHit ? found.value->version() : 0;
}

// --- invalidations

void Cache::Core::invalidate(std::string_view key, const WriteOptions& options,
                             WriteCallback callback) {
  if (auto valid = check_call(key, options.timeout); !valid) return callback(valid.error());
  if (auto valid = check_options(options, /*is_set=*/false); !valid) {
    return callback(valid.error());
  }
  const std::string one{key};
  if (is_local()) return invalidate_locally({one}, std::move(callback));
  auto write = std::make_shared<Write>();
  write->keys = {one};
  write->invalidates = coherence::InvalidationKind::kKey;
  const auto message = encode_change(serialization::MessageKind::kInvalidate, write->keys);
  if (!message) return callback(message.error());
  write->callback = std::move(callback);
  write->script_keys = {names_.value_key(key), names_.fill_key(key), names_.history_key()};
  write->arguments = {"", "0", *message, names_.channel(),
                      std::to_string(options_.history_entries)};
  write->script = &write_script();
  if (!options_.history) {
    write->script = &write_unversioned_script();
    write->script_keys.pop_back();
    write->arguments.pop_back();
  }
  evict(key, coherence::kVersionUnknown);
  send(std::move(write), options, now());
}

void Cache::Core::invalidate_many(std::span<const std::string_view> keys,
                                  const WriteOptions& options, WriteCallback callback) {
  for (const std::string_view key : keys) {
    if (auto valid = check_call(key, options.timeout); !valid) return callback(valid.error());
  }
  if (auto valid = check_options(options, /*is_set=*/false); !valid) {
    return callback(valid.error());
  }
  if (keys.empty()) return callback(invalid_argument("there is no key to invalidate"));
  std::vector<std::string> copies{keys.begin(), keys.end()};
  if (is_local()) return invalidate_locally(std::move(copies), std::move(callback));
  auto write = std::make_shared<Write>();
  write->keys = std::move(copies);
  write->invalidates = coherence::InvalidationKind::kKey;
  const auto message = encode_change(serialization::MessageKind::kInvalidate, write->keys);
  if (!message) return callback(message.error());
  write->callback = std::move(callback);
  write->script = &invalidate_many_script();
  write->script_keys = {names_.history_key()};
  for (const std::string_view key : keys) {
    write->script_keys.push_back(names_.value_key(key));
    write->script_keys.push_back(names_.fill_key(key));
  }
  write->arguments = {*message, names_.channel(), std::to_string(options_.history_entries)};
  for (const std::string_view key : keys) evict(key, coherence::kVersionUnknown);
  send(std::move(write), options, now());
}

void Cache::Core::invalidate_locally(const std::vector<std::string>& keys, WriteCallback callback) {
  std::uint64_t version = 0;
  for (const std::string& key : keys) {
    fills_.change(key, [&] {
      version = 1 + local_versions_.fetch_add(1);
      guards_.note(key);
      l1_->erase(key);
    });
  }
  counters_.writes_acknowledged.fetch_add(1, std::memory_order_relaxed);
  callback(Written{.version = version});
}

void Cache::Core::invalidate_tag(std::string_view tag, const WriteOptions& options,
                                 WriteCallback callback) {
  if (auto valid = check_call(tag, options.timeout); !valid) return callback(valid.error());
  if (auto valid = check_options(options, /*is_set=*/false); !valid) {
    return callback(valid.error());
  }
  if (!options_.history) {
    return callback(invalid_argument("tags need CacheOptions::history"));
  }
  const auto slot = serialization::tag_slot(tag);
  if (is_local()) {
    fills_.mark_all();
    const std::uint64_t version = 1 + local_versions_.fetch_add(1);
    tags_.invalidate(slot, version);
    counters_.writes_acknowledged.fetch_add(1, std::memory_order_relaxed);
    return callback(Written{.version = version});
  }
  auto write = std::make_shared<Write>();
  write->keys.emplace_back(tag);
  write->invalidates = coherence::InvalidationKind::kTag;
  const auto message = encode_change(serialization::MessageKind::kTag, write->keys);
  if (!message) return callback(message.error());
  write->callback = std::move(callback);
  write->script = &invalidate_tags_script();
  write->script_keys = {names_.history_key(), names_.tags_key()};
  write->arguments = {*message, names_.channel(), std::to_string(options_.history_entries),
                      std::to_string(slot)};
  send(std::move(write), options, now());
}

void Cache::Core::clear(const WriteOptions& options, WriteCallback callback) {
  if (auto valid = check_options(options, /*is_set=*/false); !valid) {
    return callback(valid.error());
  }
  if (is_local()) {
    const std::uint64_t version = 1 + local_versions_.fetch_add(1);
    empty_l1();
    counters_.writes_acknowledged.fetch_add(1, std::memory_order_relaxed);
    return callback(Written{.version = version});
  }
  auto write = std::make_shared<Write>();
  write->invalidates = coherence::InvalidationKind::kClear;
  const auto message = encode_change(serialization::MessageKind::kClear, {});
  if (!message) return callback(message.error());
  write->callback = std::move(callback);
  write->script = &clear_script();
  write->script_keys = {names_.history_key(), names_.tags_key()};
  write->arguments = {*message, names_.channel(), std::to_string(options_.history_entries)};
  send(std::move(write), options, now());
}

// --- sending, and what comes of it

void Cache::Core::send(std::shared_ptr<Write> write, const WriteOptions& options,
                       TimePoint sent_at) {
  write->deadline = sent_at + options.timeout.value_or(options_.write_timeout);
  write->replicas = options.replicas;
  write->fence = options.fence;
  if (!options_.history || loop_->is_forked()) return send_alone(write);
  using Verdict = WriteQueue::Verdict;
  switch (write_queue_->push(write)) {
    case Verdict::kNothingWaits: return send_alone(write);
    case Verdict::kFirst: return loop_->post([this] { send_waiting(); });
    case Verdict::kWaits: return;
    case Verdict::kTooManyWrites:
      return write_done(write, overloaded("queue_commands_max is reached by writes alone"), false);
    case Verdict::kTooManyBytes:
      return write_done(write, overloaded("queue_bytes_max is reached by writes alone"), false);
    case Verdict::kClosed: return write_done(write, closed("the cache was closed"), false);
  }
}

void Cache::Core::durable_write_done(const std::shared_ptr<Write>& write,
                                     DurableWriter::Outcome outcome) {
  const bool was_stored = stored_version(outcome.reply).has_value();
  if (was_stored && outcome.replicas.value_or(0) < write->replicas) {
    const std::string have =
        outcome.replicas ? std::to_string(*outcome.replicas) : std::string{"an unknown number"};
    outcome.reply = outcome_unknown("written to the master, but " + have + " of " +
                                    std::to_string(write->replicas) +
                                    " replicas have it: a failover may lose it");
  }
  const bool comparable = links_vouch() && outcome.server && link_driver_->is_on(*outcome.server);
  write_done(write, std::move(outcome.reply), comparable);
}

// `comparable`: the version is of the history that L1 goes on from.
void Cache::Core::write_done(const std::shared_ptr<Write>& write, Result<l2::Reply> reply,
                             bool comparable) {
  if (write_queue_) write_queue_->release(*write);
  if (const auto version = stored_version(reply)) {
    // Own writes of a namespace whose foreign writers are observed are reported like theirs, and
    // the report may come after the acknowledgement.
    const bool may_cache = comparable && *version != coherence::kVersionUnknown && write->value &&
                           !options_.foreign_writers;
    if (write->evicts_keys())
      for (const std::string& key : write->keys) {
        evict(key, may_cache ? *version : coherence::kVersionUnknown);
      }
    if (may_cache) {
      put_into_l1(std::move(*write->token),
                  Found{.bytes = write->value,
                        .tier = Tier::kL2,
                        .version = *version,
                        .tags = write->tags,
                        .times = write->times},
                  write->expires_at);
    }
    write->token.reset();
    return acknowledge(write, Written{.version = *version, .replicas = write->replicas});
  }
  Error error = reply ? refusal_of(*reply) : reply.error();
  const bool unknown = error.code == ErrorCode::kDeadlineExceeded;
  if (unknown && write->evicts_keys()) {
    for (const std::string& key : write->keys) evict(key, coherence::kVersionUnknown);
  }
  (unknown ? counters_.writes_unknown : counters_.writes_failed)
      .fetch_add(1, std::memory_order_relaxed);
  if (write->invalidates && is_not_done(error)) {
    queue_invalidation(*write->invalidates, write->keys);
    if (invalidations_ != nullptr) error.message += "; it is kept, and sent when Redis is back";
  }
  write->callback(std::move(error));
}

// What the server said in place of a version.
Error Cache::Core::refusal_of(const l2::Reply& reply) {
  if (!reply.is_array() || reply.elements.size() != 1) return refused_by_server(reply);
  const l2::Reply& there = reply.elements.front();
  if (there.is_nil()) return conflict("the key has no value");
  if (there.text.size() != sizeof(coherence::Version)) {
    return conflict("the key has a value of unknown version");
  }
  return conflict("the key has version " + std::to_string(read_u64_be(there.text.data())));
}

void Cache::Core::acknowledge(const std::shared_ptr<Write>& write, Written written) {
  // Its message is on its way to us. If S is lost now, L1 does not answer before it has joined the
  // history, which brings it.
  if (!write->evicts_keys() && lease_cell_.until() > now() &&
      !link_driver_->has_reached(written.version)) {
    return acknowledge_after(milliseconds{1}, write,
                             [this, write, written] { acknowledge(write, written); });
  }
  // What is read or loaded now was begun before: who comes after this must not be given it.
  if (!write->evicts_keys()) bar_fills();
  if (!write->fence) {
    counters_.writes_acknowledged.fetch_add(1, std::memory_order_relaxed);
    return write->callback(written);
  }
  const TimePoint acknowledged_at = now();
  // Asked after the write: whoever registers later reads what was written.
  register_lease(
      write->deadline, [this, write, written, acknowledged_at](Result<milliseconds> longest) {
        if (!longest) {
          counters_.writes_unknown.fetch_add(1, std::memory_order_relaxed);
          return write->callback(
              outcome_unknown("written, but not known when nobody serves the old value any more: " +
                              longest.error().message));
        }
        // Clocks of different machines run at slightly different rates.
        const Duration fenced = *longest + *longest / 1000 + milliseconds{1};
        const Duration left = std::max(Duration{0}, acknowledged_at + fenced - now());
        acknowledge_after(left, write, [this, write, written] {
          counters_.writes_acknowledged.fetch_add(1, std::memory_order_relaxed);
          write->callback(written);
        });
      });
}

void Cache::Core::acknowledge_after(Duration delay, const std::shared_ptr<Write>& write,
                                    UniqueFunction<void()> then) {
  const auto timer = std::make_shared<l2::EventLoop::TimerId>();
  *timer = loop_->run_after(delay, [this, timer, then = std::move(then)]() mutable {
    unacknowledged_.erase(*timer);
    then();
  });
  unacknowledged_.emplace(*timer, write);
}

// The loop has stopped: their timers will not end.
void Cache::Core::close_unacknowledged() {
  for (const auto& [timer, write] : std::exchange(unacknowledged_, {})) {
    counters_.writes_unknown.fetch_add(1, std::memory_order_relaxed);
    write->callback(
        outcome_unknown("written, but the cache was closed before everybody had to know of it"));
  }
}

void Cache::Core::register_lease(TimePoint deadline,
                                 UniqueFunction<void(Result<milliseconds>)> done) {
  const std::string lease_ms = std::to_string(options_.lease.count());
  const std::string life_ms = std::to_string(kLeaseRegistryLife.count());
  client_->submit_script(register_lease_script(),
                         std::array<std::string_view, 1>{names_.lease_key()},
                         std::array<std::string_view, 2>{lease_ms, life_ms}, l2::Retry::kSafe,
                         deadline, [done = std::move(done)](Result<l2::Reply> reply) mutable {
                           if (!reply) return done(reply.error());
                           if (!reply->is_integer()) return done(refused_by_server(*reply));
                           done(milliseconds{reply->integer});
                         });
}

Result<std::string> Cache::Core::encode_change(serialization::MessageKind kind,
                                               std::vector<std::string> keys,
                                               std::optional<std::string> value) {
  return serialization::encode_message(
      {.origin = origin_,
       .nonce = 1 + nonces_.fetch_add(1, std::memory_order_relaxed),
       .kind = kind,
       .keys = std::move(keys),
       .value = std::move(value)});
}

}  // namespace tiercel
