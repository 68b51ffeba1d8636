#pragma once

// Names: which Redis keys and which channel a namespace uses.
//
//   value        NAMESPACE:KEY         8 bytes version + envelope; or a foreign writer's raw bytes
//   fill lease   NAMESPACE/fill:KEY    the token of the one who loads
//   lock         NAMESPACE/lock:NAME   the token of the one who holds it, and its fencing number
//   lock number  NAMESPACE/lock_number the newest fencing number of all locks
//   history      NAMESPACE/history     a stream, one entry a write
//   tags         NAMESPACE/tags        a hash: when which slot was invalidated last (scripts.h)
//   lease        NAMESPACE/lease       the longest lease of the fleet, in ms
//   hot keys     NAMESPACE/hot         which keys were asked for most (docs/wire_format.md)
//   guard        NAMESPACE/bloom:KEYSPACE  which Bloom filters there are of a keyspace
//                …:GENERATION:NUMBER   a chunk of a filter; …:building: the token of who makes one
//   channel      NAMESPACE/changes     the invalidation messages; NAMESPACE/changes@N for database
//                                      N other than 0, since Redis' channels span all databases
//
// A namespace holds neither ':' nor '/', so none of these can be mistaken for another, of this
// namespace or of a different one. Immutable; any thread.

#include <cstdint>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"

namespace tiercel::coherence {

inline constexpr std::size_t kNamespaceBytesMax = 64;

class Names {
 public:
  // Errors: kInvalidArgument unless it is 1 to 64 of A-Z a-z 0-9 . _ -
  static Result<Names> create(std::string_view name_space, std::uint32_t database = 0);

  [[nodiscard]] std::string value_key(std::string_view key) const;
  [[nodiscard]] std::string fill_key(std::string_view key) const;
  // What they begin with; the key follows.
  [[nodiscard]] const std::string& value_prefix() const noexcept { return value_prefix_; }
  [[nodiscard]] const std::string& fill_prefix() const noexcept { return fill_prefix_; }
  [[nodiscard]] std::string lock_key(std::string_view name) const;
  [[nodiscard]] const std::string& lock_number_key() const noexcept { return lock_number_key_; }
  [[nodiscard]] std::string guard_key(std::string_view keyspace) const;
  [[nodiscard]] const std::string& history_key() const noexcept { return history_key_; }
  [[nodiscard]] const std::string& tags_key() const noexcept { return tags_key_; }
  [[nodiscard]] const std::string& lease_key() const noexcept { return lease_key_; }
  [[nodiscard]] const std::string& hot_key() const noexcept { return hot_key_; }
  [[nodiscard]] const std::string& channel() const noexcept { return channel_; }

 private:
  Names(std::string_view name_space, std::uint32_t database);

  std::string value_prefix_;
  std::string fill_prefix_;
  std::string lock_prefix_;
  std::string lock_number_key_;
  std::string guard_prefix_;
  std::string history_key_;
  std::string tags_key_;
  std::string lease_key_;
  std::string hot_key_;
  std::string channel_;
};

}  // namespace tiercel::coherence
