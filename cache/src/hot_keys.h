#pragma once

// HotKeys: which keys L1 is asked for most, from a sample of its hits. Any thread notes, without a
// lock or an allocation; one thread counts. Counts are halved each time that they are told, so that
// what was hot once is forgotten.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ring.h"
#include "tiercel/base/result.h"

namespace tiercel {

class HotKeys {
 public:
  // Of so many hits one is noted.
  static constexpr std::size_t kOneIn = 128;

  explicit HotKeys(std::size_t keys_max) : keys_max_(keys_max) {}

  // Any thread. Longer keys than NotedKey holds, and what comes too fast, are not counted.
  void note(std::string_view key) noexcept;

  // One thread. What was noted is counted.
  void count();
  // One thread. The hottest ones first, keys_max at most.
  [[nodiscard]] std::vector<std::string> tell();

 private:
  // Of these the colder half is forgotten.
  static constexpr std::size_t kCountedPerKey = 4;
  void forget_cold();

  const std::size_t keys_max_;
  Ring<NotedKey, 1024> ring_;
  std::unordered_map<std::string, std::uint32_t> counts_;
};

// As they are kept in Redis (docs/wire_format.md, "Hot keys").
[[nodiscard]] std::string encode_hot_keys(const std::vector<std::string>& keys);
// Errors: kCorrupt.
Result<std::vector<std::string>> decode_hot_keys(std::string_view bytes);

}  // namespace tiercel
