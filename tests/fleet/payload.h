#pragma once

// Payload: what a value says about the write that made it, so that a reader knows what it got:
// "writer sequence key " and padding to kPayloadBytes.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel::fleet {

inline constexpr std::size_t kPayloadBytes = 100;

struct Payload {
  std::uint32_t writer = 0;    // The instance.
  std::uint32_t sequence = 0;  // Counts the writes of this key, from 1.
  std::uint64_t key_id = 0;

  friend bool operator==(const Payload&, const Payload&) = default;
};

std::string encode_payload(const Payload& payload);

// nullopt: no payload of ours, or one that was damaged.
std::optional<Payload> decode_payload(std::string_view bytes);

// The key as the cache knows it.
std::string key_name(std::uint64_t key_id);

}  // namespace tiercel::fleet
