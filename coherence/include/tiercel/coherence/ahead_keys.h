#pragma once

// AheadKeys: which keys of L1 are newer than the stream. A value can be in L1 before the message of
// its write has come: an own write at its acknowledgement, a fill that read it. If the server is
// lost in between, the write may be lost with it, on a branch of history that no longer counts; so
// these keys do not outlive the epoch. Values of unknown version are always ahead: nothing that
// comes later vouches for them.
//
// Bounded: past kKeysMax no key is remembered, and has_overflowed() says that all must go, until
// the newest of those that were not remembered is reached. One thread at a time.

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/coherence/version.h"

namespace tiercel::coherence {

class AheadKeys {
 public:
  static constexpr std::size_t kKeysMax = 65536;

  // The key went into L1 at this version. O(log n).
  void add(std::string_view key, Version version);
  // The stream has reached this version. O(1) where nothing is that old.
  void reached(Version version);
  // All of them, each at least once, which are then forgotten.
  [[nodiscard]] std::vector<std::string> take();
  // L1 is empty.
  void clear();

  [[nodiscard]] bool has_overflowed() const noexcept { return forgotten_max_ != kVersionUnknown; }
  [[nodiscard]] std::size_t size() const noexcept {
    return by_version_.size() + unversioned_.size();
  }

 private:
  std::multimap<Version, std::string> by_version_;
  std::set<std::string, std::less<>> unversioned_;
  Version forgotten_max_ = kVersionUnknown;  // Of those that were not remembered; unknown: none.
};

}  // namespace tiercel::coherence
