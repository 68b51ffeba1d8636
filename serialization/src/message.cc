// Invariants:
// - What encode_message returns, decode_message accepts, and both ask check_shape.
// - kProtocol is said only of bytes that carry our magic: noise on the channel cannot make an
//   instance drop its L1, a newer instance can.

#include "tiercel/serialization/message.h"

#include "frame.h"
#include "invalidation_message.capnp.h"
#include "tiercel/base/bytes.h"

namespace tiercel::serialization {
namespace {

// The list of keys, the keys and the value follow the root pointer and these.
constexpr std::size_t kDataWords = 3;
constexpr std::size_t kPointers = 2;
constexpr std::size_t kMessageWords = 1 + kDataWords + kPointers;

static_assert(kVersionBytes + kHeaderBytes + kSegmentTableBytes +
                  (kMessageWords + kKeysPerMessageMax + words_for(kMessageValueBytesMax)) *
                      kWordBytes +
                  kKeysPerMessageMax * (kWordBytes - 1) + kKeysBytesPerMessageMax <=
              kMessageBytesMax);

constexpr std::uint16_t kKindMax = static_cast<std::uint16_t>(MessageKind::kFillDone);
static_assert(kKindMax == static_cast<std::uint16_t>(wire::InvalidationMessage::Kind::FILL_DONE));

// The bounds on the keys, checked one by one before anything is copied.
class KeyBudget {
 public:
  // Empty when the key fits, else what is wrong.
  [[nodiscard]] std::string add(std::size_t key_bytes) {
    if (key_bytes > kKeyBytesMax) {
      return "a key of " + std::to_string(key_bytes) + " bytes; at most " +
             std::to_string(kKeyBytesMax);
    }
    bytes_ += key_bytes;
    if (bytes_ > kKeysBytesPerMessageMax) {
      return "more than " + std::to_string(kKeysBytesPerMessageMax) + " bytes of keys";
    }
    return {};
  }

 private:
  std::size_t bytes_ = 0;
};

// Which fields go with which kind. Empty when all is well, else what is wrong.
std::string check_shape(MessageKind kind, std::size_t keys, std::optional<std::size_t> value) {
  if (keys > kKeysPerMessageMax) {
    return std::to_string(keys) + " keys; at most " + std::to_string(kKeysPerMessageMax);
  }
  if (kind == MessageKind::kClear && keys != 0) return "a clear with keys";
  if (kind != MessageKind::kClear && keys == 0) return "no keys";
  if (!value) return {};
  if (kind != MessageKind::kSet && kind != MessageKind::kFillDone) {
    return std::string{"a value with the kind "}.append(to_string(kind));
  }
  if (keys != 1) return "a value with " + std::to_string(keys) + " keys";
  if (*value > kMessageValueBytesMax) {
    return "a value of " + std::to_string(*value) + " bytes; at most " +
           std::to_string(kMessageValueBytesMax);
  }
  return {};
}

Result<std::size_t> count_words(const Message& message) {
  if (static_cast<std::uint16_t>(message.kind) > kKindMax) {
    return invalid_argument("message: unknown kind");
  }
  std::optional<std::size_t> value_bytes;
  if (message.value) value_bytes = message.value->size();
  if (auto wrong = check_shape(message.kind, message.keys.size(), value_bytes); !wrong.empty()) {
    return invalid_argument("message: " + wrong);
  }
  std::size_t words = kMessageWords + message.keys.size() + words_for(value_bytes.value_or(0));
  KeyBudget budget;
  for (const std::string& key : message.keys) {
    if (auto wrong = budget.add(key.size()); !wrong.empty()) {
      return invalid_argument("message: " + wrong);
    }
    words += words_for(key.size());
  }
  return words;
}

capnp::Data::Reader to_data(const std::string& bytes) noexcept {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

std::string to_bytes(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}

Result<void> check_header(std::string_view bytes) {
  if (!has_magic(bytes)) return corrupt("message: not a message of ours");
  const FrameHeader header = read_header(bytes);
  // Before the size: a newer version may have larger messages, and must not be taken for noise.
  if (header.format_version > kFormatVersion) {
    return protocol_error("message: format version " + std::to_string(header.format_version) +
                          "; this build reads " + std::to_string(kFormatVersion));
  }
  if (header.format_version == 0) return corrupt("message: format version 0");
  if (header.kind > static_cast<std::uint8_t>(FrameKind::kMessage)) {
    return protocol_error("message: unknown kind " + std::to_string(header.kind));
  }
  if (header.kind != static_cast<std::uint8_t>(FrameKind::kMessage)) {
    return corrupt("message: kind " + std::to_string(header.kind) + " is not a message");
  }
  if (!header.reserved_are_zero) return corrupt("message: reserved header bytes are not zero");
  if (bytes.size() > kMessageBytesMax) {
    return corrupt("message: " + std::to_string(bytes.size()) + " bytes are more than " +
                   std::to_string(kMessageBytesMax));
  }
  return {};
}

Result<Message> read_message(std::string_view segment) {
  SegmentMessage flat{segment};
  const auto root = flat.root<wire::InvalidationMessage>(kDataWords, kPointers);
  const auto kind = static_cast<std::uint16_t>(root.getKind());
  if (kind > kKindMax) {
    return protocol_error("message: unknown invalidation kind " + std::to_string(kind));
  }
  Message message{.origin = root.getOrigin(),
                  .nonce = root.getNonce(),
                  .kind = static_cast<MessageKind>(kind),
                  .keys = {},
                  .value = std::nullopt};
  const auto keys = root.getKeys();
  capnp::Data::Reader value = nullptr;
  std::optional<std::size_t> value_bytes;
  if (root.hasValue()) {
    value = root.getValue();
    value_bytes = value.size();
  }
  if (auto wrong = check_shape(message.kind, keys.size(), value_bytes); !wrong.empty()) {
    return corrupt("message: " + wrong);
  }
  KeyBudget budget;
  message.keys.reserve(keys.size());
  for (const capnp::Data::Reader key : keys) {
    if (auto wrong = budget.add(key.size()); !wrong.empty()) return corrupt("message: " + wrong);
    message.keys.push_back(to_bytes(key));
  }
  if (value_bytes) message.value = to_bytes(value);
  return message;
}

}  // namespace

std::string_view to_string(MessageKind kind) noexcept {
  switch (kind) {
    case MessageKind::kSet: return "set";
    case MessageKind::kInvalidate: return "invalidate";
    case MessageKind::kTag: return "tag";
    case MessageKind::kClear: return "clear";
    case MessageKind::kFillDone: return "fill_done";
  }
  return "unknown";
}

Result<std::string> encode_message(const Message& message) {
  const auto words = count_words(message);
  if (!words) return words.error();
  return guarded<std::string>("encode_message", internal, [&]() -> Result<std::string> {
    std::string frame = make_frame(FrameKind::kMessage, *words);
    capnp::FlatMessageBuilder builder{segment_of(frame)};
    auto root = builder.initRoot<wire::InvalidationMessage>();
    root.setOrigin(message.origin);
    root.setNonce(message.nonce);
    root.setKind(static_cast<wire::InvalidationMessage::Kind>(message.kind));
    if (!message.keys.empty()) {
      auto keys = root.initKeys(static_cast<unsigned>(message.keys.size()));
      unsigned index = 0;
      for (const std::string& key : message.keys) keys.set(index++, to_data(key));
    }
    if (message.value) root.setValue(to_data(*message.value));
    builder.requireFilled();
    return frame;
  });
}

bool claims_to_be_ours(std::string_view bytes) noexcept { return has_magic(bytes); }

Result<ReceivedMessage> decode_message(std::string_view bytes) {
  if (auto checked = check_header(bytes); !checked) return checked.error();
  auto segment = read_segment(bytes);
  if (!segment) return corrupt("message: " + segment.error().message);
  auto message = guarded<Message>("message", corrupt, [&] { return read_message(*segment); });
  if (!message) return std::move(message).error();
  return ReceivedMessage{.version = read_u64_be(bytes.data()),
                         .message = std::move(message).value()};
}

Result<ReceivedMessage> decode_history_message(std::uint64_t version, std::string_view bytes) {
  std::string published;
  // One byte more than a message may have is refused just as well as gigabytes.
  const std::string_view kept = bytes.substr(0, kMessageBytesMax);
  published.reserve(kVersionBytes + kept.size());
  append_u64_be(published, version);
  published += kept;
  return decode_message(published);
}

}  // namespace tiercel::serialization
