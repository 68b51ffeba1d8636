#include "tiercel/coherence/ahead_keys.h"

#include <utility>

namespace tiercel::coherence {

void AheadKeys::add(std::string_view key, Version version) {
  if (has_overflowed_) return;
  if (size() == kKeysMax) {
    clear();
    has_overflowed_ = true;
    return;
  }
  if (version == kVersionUnknown) {
    unversioned_.emplace(key);
  } else {
    by_version_.emplace(version, key);
  }
}

void AheadKeys::reached(Version version) {
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
  has_overflowed_ = false;
}

}  // namespace tiercel::coherence
