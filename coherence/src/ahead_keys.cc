#include "tiercel/coherence/ahead_keys.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace tiercel::coherence {
namespace {

constexpr Version kNever = std::numeric_limits<Version>::max();

}  // namespace

void AheadKeys::add(std::string_view key, Version version) {
  if (!has_overflowed() && size() < kKeysMax) {
    added_.emplace_back(version, key);
    return;
  }
  const auto forget = [this](Version forgotten) {
    forgotten_max_ = std::max(forgotten_max_, forgotten == kVersionUnknown ? kNever : forgotten);
  };
  forget(version);
  if (!unversioned_.empty()) forget(kVersionUnknown);
  if (!by_version_.empty()) forget(by_version_.rbegin()->first);
  for (const auto& [added, its_key] : added_) forget(added);
  added_.clear();
  asked_.clear();
  by_version_.clear();
  unversioned_.clear();
  forgot_since_asked_ = true;
}

void AheadKeys::asked() {
  forgot_since_asked_ = false;
  for (auto& [version, key] : added_) {
    if (version == kVersionUnknown) {
      unversioned_.insert(std::move(key));
    } else if (version <= reached_) {
      asked_.push_back(std::move(key));
    } else {
      by_version_.emplace(version, std::move(key));
    }
  }
  added_.clear();
}

void AheadKeys::reached(Version version) {
  reached_ = std::max(reached_, version);
  asked_.clear();
  while (!by_version_.empty() && by_version_.begin()->first <= version) {
    by_version_.erase(by_version_.begin());
  }
  if (!forgot_since_asked_ && version >= forgotten_max_) forgotten_max_ = kVersionUnknown;
}

std::vector<std::string> AheadKeys::take() {
  std::vector<std::string> keys = std::exchange(asked_, {});
  keys.reserve(size());
  for (auto& [version, key] : std::exchange(added_, {})) keys.push_back(std::move(key));
  for (auto& [version, key] : std::exchange(by_version_, {})) keys.push_back(std::move(key));
  for (auto& key : std::exchange(unversioned_, {})) keys.push_back(key);
  return keys;
}

void AheadKeys::clear() {
  added_.clear();
  asked_.clear();
  by_version_.clear();
  unversioned_.clear();
  reached_ = kVersionUnknown;
  forgotten_max_ = kVersionUnknown;
  forgot_since_asked_ = false;
}

}  // namespace tiercel::coherence
