#include "tiercel/coherence/names.h"

#include <algorithm>

#include "tiercel/base/bytes.h"

namespace tiercel::coherence {
namespace {

bool is_allowed(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

std::string joined(std::string_view prefix, std::string_view key) {
  std::string name;
  name.reserve(prefix.size() + key.size());
  name += prefix;
  name += key;
  return name;
}

}  // namespace

Result<Names> Names::create(std::string_view name_space, std::uint32_t database) {
  if (name_space.empty() || name_space.size() > kNamespaceBytesMax ||
      !std::ranges::all_of(name_space, is_allowed)) {
    return invalid_argument("namespace '" + bytes_for_message(name_space) +
                            "' must be 1 to 64 characters of A-Z a-z 0-9 . _ -");
  }
  return Names{name_space, database};
}

Names::Names(std::string_view name_space, std::uint32_t database)
    : value_prefix_(joined(name_space, ":")),
      fill_prefix_(joined(name_space, "/fill:")),
      lock_prefix_(joined(name_space, "/lock:")),
      lock_number_key_(joined(name_space, "/lock_number")),
      guard_prefix_(joined(name_space, "/bloom:")),
      history_key_(joined(name_space, "/history")),
      tags_key_(joined(name_space, "/tags")),
      lease_key_(joined(name_space, "/lease")),
      hot_key_(joined(name_space, "/hot")),
      channel_(joined(name_space, "/changes")) {
  if (database != 0) channel_ += "@" + std::to_string(database);
}

std::string Names::value_key(std::string_view key) const { return joined(value_prefix_, key); }
std::string Names::fill_key(std::string_view key) const { return joined(fill_prefix_, key); }
std::string Names::lock_key(std::string_view name) const { return joined(lock_prefix_, name); }
std::string Names::guard_key(std::string_view keyspace) const {
  return joined(guard_prefix_, keyspace);
}

}  // namespace tiercel::coherence
