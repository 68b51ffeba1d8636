#pragma once

// The invalidation message: what is published, in the same script as the write, to every instance.
// docs/wire_format.md has the bytes.
//
// On the channel an 8-byte version, which the script puts before what encode_message returns,
// precedes the message. How to react to what decode_message says:
//   a message   apply it.
//   kCorrupt    not a message of ours, or a damaged one (claims_to_be_ours tells). Count it; if it
//   is
//               ours, what it meant to invalidate is unknown: drop all of L1.
//   kProtocol   a newer Tiercel said something this build does not understand. It may have
//               invalidated anything: drop all of L1, and count it.
//
// Any thread; the functions share nothing. They do not block, print nothing and throw nothing, and
// the bytes may come from an attacker: the cost is bounded by their length (limits.h).
//
//   Result<std::string> bytes = encode_message(
//       {.origin = id, .nonce = ++counter, .kind = MessageKind::kInvalidate, .keys = {"user:7"}});
//   // … the script publishes version + bytes; on the other side:
//   Result<ReceivedMessage> received = decode_message(from_channel);
//   (compiled in tests/serialization/message_test.cc)

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/result.h"
#include "tiercel/serialization/limits.h"

namespace tiercel::serialization {

// The numbers are on the wire.
enum class MessageKind : std::uint8_t {
  kSet = 0,         // The keys have new values. May carry the value if there is one key.
  kInvalidate = 1,  // The keys are gone or changed.
  kTag = 2,         // `keys` are tags: whatever carries one of them is invalid.
  kClear = 3,       // Everything in the namespace is invalid. Carries no keys.
  kFillDone = 4,    // A load has ended. May carry the value if there is one key.
};

// "set", "invalidate", "tag", "clear", "fill_done": for logs.
std::string_view to_string(MessageKind kind) noexcept;

struct Message {
  std::uint64_t origin = 0;  // The instance that sent it.
  std::uint64_t nonce = 0;   // Its counter: (origin, nonce) names one message.
  MessageKind kind = MessageKind::kInvalidate;
  // At least one, except for kClear, which has none. At most kKeysPerMessageMax, each at most
  // kKeyBytesMax, together at most kKeysBytesPerMessageMax: split what is more.
  std::vector<std::string> keys{};
  // Only with kSet and kFillDone, and only with exactly one key. At most kMessageValueBytesMax. An
  // empty value is not the same as none.
  std::optional<std::string> value{};

  friend bool operator==(const Message&, const Message&) = default;
};

struct ReceivedMessage {
  std::uint64_t version = 0;  // The stream id that the write script packed; 0 is unknown.
  Message message{};
};

// The bytes to publish, without the version: the write script puts that before them. O(bytes).
// Errors: kInvalidArgument (what the fields of Message rule out; the message says which),
// kOverloaded (out of memory).
Result<std::string> encode_message(const Message& message);

// True where bytes from the channel bear our mark, whether or not the rest can be read. A message
// that does, and that decode_message refuses, may have invalidated anything.
[[nodiscard]] bool claims_to_be_ours(std::string_view bytes) noexcept;

// Reads what came over the channel; bytes of any alignment. O(bytes). Errors: kCorrupt and
// kProtocol as above, kOverloaded (out of memory: treat it as kProtocol, for the message is lost).
Result<ReceivedMessage> decode_message(std::string_view bytes);

// Reads what stands in field `m` of a history entry: a message as it was published, without the
// version, which is the entry's id. Costs one more copy of the bytes; errors as above.
Result<ReceivedMessage> decode_history_message(std::uint64_t version, std::string_view bytes);

}  // namespace tiercel::serialization
