#include "hot_keys.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "tiercel/base/bytes.h"

namespace tiercel {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kMagic = "\xF1TCLHOT\x01"sv;

}  // namespace

void HotKeys::note(std::string_view key) noexcept {
  if (key.size() > NotedKey::kBytesMax) return;
  (void)ring_.push([key](NotedKey& noted) { noted.assign(key); });
}

void HotKeys::count() {
  for (NotedKey noted; ring_.pop(noted);) {
    ++counts_[std::string{noted.text()}];
    if (counts_.size() > kCountedPerKey * keys_max_) forget_cold();
  }
}

void HotKeys::forget_cold() {
  std::vector<std::uint32_t> counts;
  counts.reserve(counts_.size());
  for (const auto& [key, count] : counts_) counts.push_back(count);
  const auto median = counts.begin() + static_cast<std::ptrdiff_t>(counts.size() / 2);
  std::nth_element(counts.begin(), median, counts.end());
  std::erase_if(counts_, [limit = *median](const auto& entry) { return entry.second <= limit; });
}

std::vector<std::string> HotKeys::tell() {
  std::vector<std::pair<std::uint32_t, std::string>> counted;
  counted.reserve(counts_.size());
  for (auto& [key, count] : counts_) {
    counted.emplace_back(count, key);
    count /= 2;
  }
  std::erase_if(counts_, [](const auto& entry) { return entry.second == 0; });
  const auto end =
      counted.begin() + static_cast<std::ptrdiff_t>(std::min(keys_max_, counted.size()));
  std::partial_sort(counted.begin(), end, counted.end(), std::greater<>{});
  std::vector<std::string> keys;
  for (auto entry = counted.begin(); entry != end; ++entry) {
    keys.push_back(std::move(entry->second));
  }
  return keys;
}

std::string encode_hot_keys(const std::vector<std::string>& keys) {
  std::string bytes{kMagic};
  for (const std::string& key : keys) {
    append_u64_be(bytes, key.size());
    bytes += key;
  }
  return bytes;
}

Result<std::vector<std::string>> decode_hot_keys(std::string_view bytes) {
  if (!bytes.starts_with(kMagic)) return corrupt("hot keys: another format");
  bytes.remove_prefix(kMagic.size());
  std::vector<std::string> keys;
  while (!bytes.empty()) {
    constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
    const std::uint64_t length =
        bytes.size() < kLengthBytes ? bytes.size() : read_u64_be(bytes.data());
    if (length > bytes.size() - std::min(bytes.size(), kLengthBytes) ||
        length > NotedKey::kBytesMax) {
      return corrupt("hot keys: a key that does not end");
    }
    keys.emplace_back(bytes.substr(kLengthBytes, length));
    bytes.remove_prefix(kLengthBytes + length);
  }
  return keys;
}

}  // namespace tiercel
