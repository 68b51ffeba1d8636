#pragma once

// The bounds on what is encoded and what is accepted. Whoever can write to Redis, or to the
// channel, chooses the bytes that every instance parses; each bound says what such a writer could
// do without it. Encoders refuse what decoders would.

#include <chrono>
#include <cstddef>

namespace tiercel::serialization {

// A stored value with version, header and all: Redis' own limit for a string (proto-max-bulk-len).
// Without it, a proxy or a server with a larger limit could make a reader copy gigabytes.
inline constexpr std::size_t kValueBytesMax = std::size_t{512} * 1024 * 1024;

// The tags of one value. Each costs two bytes in Redis, and each read of the value a look at a
// table.
inline constexpr std::size_t kTagsPerValueMax = 16;

// The most of a stored value that is not payload: version, header, segment table, envelope (72
// bytes where there are no tags) and the tags' slots.
inline constexpr std::size_t kValueOverheadBytes = 104;
inline constexpr std::size_t kPayloadBytesMax = kValueBytesMax - kValueOverheadBytes;

// Within reach of the 64-bit nanosecond timeline for more than a century to come: a larger one
// would overflow the deadline that is computed from it, and the entry would count as expired, or
// never.
inline constexpr std::chrono::milliseconds kTtlMax = std::chrono::hours{24 * 365 * 100};

// Keys in one message. A receiver works through them while it holds up the messages behind; and a
// list of a million empty keys would be small on the wire and large in memory.
inline constexpr std::size_t kKeysPerMessageMax = 1024;

// One key (or tag), and all keys of one message together: several pointers of a hostile message may
// share the same bytes, so that a count and a size that are each harmless multiply. Who has more to
// say sends several messages.
inline constexpr std::size_t kKeyBytesMax = std::size_t{64} * 1024;
inline constexpr std::size_t kKeysBytesPerMessageMax = std::size_t{64} * 1024;

// The value that a message may carry. A message is sent to every instance, and Redis drops a
// subscriber whose backlog grows too long (client-output-buffer-limit pubsub: 32 MB).
inline constexpr std::size_t kMessageValueBytesMax = std::size_t{1024} * 1024;

// A message with version, header and all: the keys, the value, and 16 KiB for the pointers and the
// padding around them. Anything larger is refused before it is parsed.
inline constexpr std::size_t kMessageBytesMax =
    kKeysBytesPerMessageMax + kMessageValueBytesMax + std::size_t{16} * 1024;

}  // namespace tiercel::serialization
