#pragma once

// AheadKeys: which keys of L1 nobody vouches for yet beyond this epoch. A value can be in L1 before
// the message of its write has come: an own write at its acknowledgement, a fill that read it. If
// the server is lost in between, the write may be lost with it, on a branch of history that no
// longer counts. And a value of whatever version can have been read from a server that had just
// gone over to another branch. So a key stays here until the master was asked, after the value had
// come, whether it is still the master of this branch, and said so, and the stream has reached the
// value's version. Those that are here do not outlive the epoch. Values of unknown version stay:
// nothing that comes later vouches for them.
//
// Bounded: past kKeysMax no key is remembered, and has_overflowed() says that all must go, until
// the newest of those that were not remembered is vouched for. One thread at a time.

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tiercel/coherence/version.h"

namespace tiercel::coherence {

class AheadKeys {
 public:
  static constexpr std::size_t kKeysMax = 65536;

  // The key went into L1 at this version. O(1).
  void add(std::string_view key, Version version);
  // The master is being asked: its answer will vouch for what was added before. O(log n) for each
  // that is newer than the stream was at the last answer.
  void asked();
  // It has answered; the stream had reached this version when it was asked.
  void reached(Version version);
  // All of them, each at least once, which are then forgotten.
  [[nodiscard]] std::vector<std::string> take();
  // L1 is empty.
  void clear();

  [[nodiscard]] bool has_overflowed() const noexcept { return forgotten_max_ != kVersionUnknown; }
  [[nodiscard]] std::size_t size() const noexcept {
    return added_.size() + asked_.size() + by_version_.size() + unversioned_.size();
  }

 private:
  std::vector<std::pair<Version, std::string>> added_;  // Since the master was asked last.
  std::vector<std::string> asked_;                      // Before; the stream has reached them.
  std::multimap<Version, std::string> by_version_;      // Before; it has not.
  std::set<std::string, std::less<>> unversioned_;
  Version reached_ = kVersionUnknown;
  Version forgotten_max_ = kVersionUnknown;  // Of those that were not remembered; unknown: none.
  bool forgot_since_asked_ = false;
};

}  // namespace tiercel::coherence
