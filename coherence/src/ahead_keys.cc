#include "tiercel/coherence/ahead_keys.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace tiercel::coherence {

void AheadKeys::add(std::string_view key, Version version) {
  constexpr Version kNever = std::numeric_limits<Version>::max();
  if (has_overflowed() || size() == kKeysMax) {
    const Version newest = version == kVersionUnknown || !unversioned_.empty() ? kNever
                           : by_version_.empty()                               ? version
                                                 : std::max(version, by_version_.rbegin()->first);
    forgotten_max_ = std::max(forgotten_max_, newest);
    by_version_.clear();
    unversioned_.clear();
  } else if (version == kVersionUnknown) {
    unversioned_.emplace(key);
  } else {
    by_version_.emplace(version, key);
  }
}

void AheadKeys::reached(Version version) {
  if (version >= forgotten_max_) forgotten_max_ = kVersionUnknown;
  while (!by_version_.empty() && by_version_.begin()->first <= version) {
    by_version_.erase(by_version_.begin());
  }
}

std::vector<std::string> AheadKeys::take() {
  std::vector<std::string> keys;
  keys.reserve(size());
  for (auto& [version, key] : std::exchange(by_version_, {})) keys.push_back(std::move(key));
  for (auto& key : std::exchange(unversioned_, {})) keys.push_back(key);
  return keys;
}

void AheadKeys::clear() {
  by_version_.clear();
  unversioned_.clear();
  forgotten_max_ = kVersionUnknown;
}

}  // namespace tiercel::coherence
