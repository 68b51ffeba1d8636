#pragma once

// History: which versions the master's history holds at the end of the run. A write whose version
// is not among them was lost.
//
// Versions are compared over a promotion here, which the library must never do (a lost branch could
// reuse an id). On one machine it is sound: ids begin with the one wall clock's milliseconds, and
// the new master begins to write hundreds of them after the old one was killed.

#include <cstdint>
#include <string>
#include <vector>

#include "tiercel/base/result.h"

namespace tiercel::failover {

class History {
 public:
  explicit History(std::vector<std::uint64_t> versions);

  [[nodiscard]] bool contains(std::uint64_t version) const;
  [[nodiscard]] std::size_t size() const noexcept { return versions_.size(); }

 private:
  std::vector<std::uint64_t> versions_;  // Rising.
};

// Reads the stream whole, in pages, from the server at this Unix socket. Errors: those of the
// connection; kProtocol when it is no history.
Result<History> read_history(const std::string& unix_path);

}  // namespace tiercel::failover
