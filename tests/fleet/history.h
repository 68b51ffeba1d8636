#pragma once

// History: which writes the master's history holds at the end of a run. A write that is not among
// them was lost.
//
// Versions of different masters are compared here, which the library must never do: an old master
// that still answers can give the same one as the new master. So an entry is known by its version
// *and* its keys; a key has one writer at a time, which does not write it to two servers in the
// same millisecond.

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tiercel/base/result.h"

namespace tiercel::fleet {

class History {
 public:
  struct Entry {
    std::uint64_t version = 0;
    std::vector<std::string> keys{};  // None: any.
  };

  explicit History(std::vector<Entry> entries);
  explicit History(const std::vector<std::uint64_t>& versions);  // Of any keys.

  [[nodiscard]] bool contains(std::uint64_t version) const;
  [[nodiscard]] bool contains(std::uint64_t version, std::string_view key) const;
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

 private:
  std::unordered_map<std::uint64_t, std::vector<std::string>> entries_;
};

// Reads the namespace's stream whole, in pages, from the server at this Unix socket. Errors: those
// of the connection; kProtocol when it is no history.
Result<History> read_history(const std::string& unix_path, const std::string& name_space);

}  // namespace tiercel::fleet
