#pragma once

// What a message means to the coherence protocol.

#include <utility>

#include "tiercel/coherence/session.h"
#include "tiercel/serialization/message.h"

namespace tiercel {

[[nodiscard]] inline coherence::Change to_change(serialization::ReceivedMessage received) {
  using coherence::ChangeKind;
  const auto kind_of = [](serialization::MessageKind kind) {
    switch (kind) {
      case serialization::MessageKind::kSet:
      case serialization::MessageKind::kInvalidate: return ChangeKind::kKeys;
      case serialization::MessageKind::kTag: return ChangeKind::kTags;
      case serialization::MessageKind::kClear: return ChangeKind::kClear;
      case serialization::MessageKind::kFillDone: return ChangeKind::kNone;
    }
    return ChangeKind::kAll;
  };
  return {.kind = kind_of(received.message.kind),
          .version = received.version,
          .origin = received.message.origin,
          .nonce = received.message.nonce,
          .keys = std::move(received.message.keys),
          .value = std::move(received.message.value)};
}

}  // namespace tiercel
