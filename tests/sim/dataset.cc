#include "dataset.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "tiercel/base/check.h"

namespace tiercel::sim {

std::string key_name(std::size_t key) { return 'k' + std::to_string(key); }
std::string tag_name(std::size_t tag) { return 't' + std::to_string(tag); }

std::size_t key_number(std::string_view name) {
  std::size_t number = 0;
  for (const char digit : name.substr(1)) {
    number = number * 10 + static_cast<std::size_t>(digit - '0');
  }
  return number;
}

std::string to_bytes(const Value& value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

Value from_bytes(std::string_view bytes) {
  Value value;
  TIERCEL_CHECK(bytes.size() == sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

coherence::Change Message::to_change() const {
  coherence::Change change{
      .kind = kind, .version = version, .origin = origin, .nonce = nonce, .keys = {}, .value = {}};
  if (kind == coherence::ChangeKind::kKeys) change.keys = {key_name(subject)};
  if (kind == coherence::ChangeKind::kTags) change.keys = {tag_name(subject)};
  if (has_value) change.value = to_bytes(value);
  return change;
}

Version Dataset::next_id(Duration wall_clock) const {
  const auto ms = static_cast<Version>(
      std::chrono::duration_cast<std::chrono::milliseconds>(wall_clock).count());
  const Version fresh = ms << coherence::kVersionSequenceBits;
  return std::max(fresh, last_id + 1);
}

void Dataset::apply(const Op& op, std::size_t history_entries) {
  if (op.has_message) {
    history.push_back(op.message);
    last_id = op.message.version;
    while (history.size() > history_entries) history.pop_front();
  }
  switch (op.kind) {
    case Op::Kind::kWrite:
      values[op.key] = op.stored;
      leases[op.key] = {};
      break;
    case Op::Kind::kFillBegin: leases[op.key] = op.lease; [[fallthrough]];
    case Op::Kind::kBase:
      if (!std::exchange(has_base, true)) base = op.lease.begun_at;
      break;
    case Op::Kind::kFillFinish:
      values[op.key] = op.stored;
      leases[op.key] = {};
      break;
    case Op::Kind::kFillAbandon: leases[op.key] = {}; break;
    case Op::Kind::kTag: tags[op.message.subject] = op.message.version; break;
    case Op::Kind::kClear:
      tags = {};
      base = op.message.version;
      has_base = true;
      break;
    case Op::Kind::kForeignSet:
    case Op::Kind::kForeignDelete: values[op.key] = op.stored; break;
    case Op::Kind::kFlush: {
      const std::uint32_t next = incarnation + 1;
      *this = Dataset{};
      incarnation = next;
      break;
    }
  }
}

Version Dataset::tag_version(std::size_t tag) const { return std::max(tags[tag], base); }

}  // namespace tiercel::sim
