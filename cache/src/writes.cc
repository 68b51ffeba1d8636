// set and invalidate.
//
// Through Redis: the key's fills are marked and L1 lets go of it before the command leaves. At the
// acknowledgement whatever older value came into L1 meanwhile is dropped, and the new one goes in
// at the version that Redis gave it, unless something newer was seen. When the outcome is unknown
// the key is dropped again: the next read asks Redis, on the same connection and so behind the
// write, or on a new one, where a write that still arrives will announce itself.

#include <array>
#include <utility>

#include "core.h"
#include "tiercel/base/bytes.h"
#include "tiercel/coherence/scripts.h"

namespace tiercel {
namespace {

const l2::Script& write_script() {
  static const l2::Script script{coherence::kWriteScript};
  return script;
}

}  // namespace

struct Cache::Core::Write {
  coherence::FillTable::Token token;
  std::shared_ptr<const std::string> value;  // Null: the write was an invalidation.
  TimePoint expires_at;
  WriteCallback callback;
};

Result<void> Cache::Core::check_write(std::string_view key, std::optional<std::string_view> value,
                                      const WriteOptions& options) const {
  if (auto valid = check_call(key, options.timeout); !valid) {
    return valid;
  }
  if (options.ttl) {
    if (auto life = check_ttl(*options.ttl); !life) return life;
  }
  return value ? check_value("the value", *value) : Result<void>{};
}

void Cache::Core::set(std::string_view key, std::string_view value, const WriteOptions& options,
                      WriteCallback callback) {
  write(key, value, options, std::move(callback));
}

void Cache::Core::invalidate(std::string_view key, const WriteOptions& options,
                             WriteCallback callback) {
  write(key, std::nullopt, options, std::move(callback));
}

void Cache::Core::write(std::string_view key, std::optional<std::string_view> value,
                        const WriteOptions& options, WriteCallback callback) {
  if (auto valid = check_write(key, value, options); !valid) return callback(valid.error());
  const Life life = life_of(options.ttl, /*negative=*/false);
  const TimePoint sent_at = now();
  const TimePoint expires_at = end_of(life, sent_at);
  if (is_local()) return write_locally(key, value, expires_at, std::move(callback));

  std::string envelope;
  if (value) {
    auto encoded = serialization::encode_envelope(
        {.hard_ttl = life.value_or(std::chrono::milliseconds{0}), .payload = *value});
    if (!encoded) return callback(encoded.error());
    envelope = std::move(*encoded);
  }
  const auto kind =
      value ? serialization::MessageKind::kSet : serialization::MessageKind::kInvalidate;
  const auto message = encode_change(kind, key);
  if (!message) return callback(message.error());

  evict(key, coherence::kVersionUnknown);
  auto write = std::make_shared<Write>();
  write->token = fills_.begin(key);
  if (value) write->value = std::make_shared<const std::string>(*value);
  write->expires_at = expires_at;
  write->callback = std::move(callback);

  const std::string value_key = names_.value_key(key);
  const std::string fill_key = names_.fill_key(key);
  const std::string ttl_ms = ttl_argument(life);
  const std::string entries = std::to_string(options_.history_entries);
  client_->submit_script(
      write_script(), std::array<std::string_view, 3>{value_key, fill_key, names_.history_key()},
      std::array<std::string_view, 5>{envelope, ttl_ms, *message, names_.channel(), entries},
      l2::Retry::kIfNotSent, sent_at + options.timeout.value_or(options_.write_timeout),
      [this, write](Result<l2::Reply> reply) { write_done(write, std::move(reply)); });
}

void Cache::Core::write_locally(std::string_view key, std::optional<std::string_view> value,
                                TimePoint expires_at, WriteCallback callback) {
  // In one step with the marking: a load must not put its older value over this one, and of two
  // writes the later version must stay.
  std::uint64_t version = 0;
  Result<void> done;
  fills_.change(key, [&] {
    version = 1 + local_versions_.fetch_add(1);
    if (value) {
      done = l1_->insert(key, *value, {.version = version, .expires_at = expires_at, .flags = 0});
    } else {
      l1_->erase(key);
    }
  });
  if (value && done && expires_at != TimePoint::max()) start_sweeping();
  (done ? counters_.writes_acknowledged : counters_.writes_failed)
      .fetch_add(1, std::memory_order_relaxed);
  if (!done) return callback(done.error());
  callback(Written{version});
}

void Cache::Core::write_done(const std::shared_ptr<Write>& write, Result<l2::Reply> reply) {
  const std::string key = write->token.key();
  if (const auto version = stored_version(reply)) {
    // Versions of different servers' histories must not be compared.
    const bool comparable = links_vouch();
    evict(key, comparable ? *version : coherence::kVersionUnknown);
    if (comparable && write->value) {
      put_into_l1(std::move(write->token),
                  Found{.bytes = write->value, .tier = Tier::kL2, .version = *version},
                  write->expires_at);
    }
    counters_.writes_acknowledged.fetch_add(1, std::memory_order_relaxed);
    return write->callback(Written{*version});
  }
  Error error = reply ? refused_by_server(*reply) : reply.error();
  const bool unknown = error.code == ErrorCode::kDeadlineExceeded;
  if (unknown) evict(key, coherence::kVersionUnknown);
  (unknown ? counters_.writes_unknown : counters_.writes_failed)
      .fetch_add(1, std::memory_order_relaxed);
  write->callback(std::move(error));
}

Result<std::string> Cache::Core::encode_change(serialization::MessageKind kind,
                                               std::string_view key) {
  return serialization::encode_message(
      {.origin = origin_,
       .nonce = 1 + nonces_.fetch_add(1, std::memory_order_relaxed),
       .kind = kind,
       .keys = {std::string{key}}});
}

}  // namespace tiercel
