#include "support/resp_text.h"

#include <charconv>
#include <optional>

namespace tiercel::testing::resp {

namespace {

constexpr std::size_t kLengthLineBytesMax = 32;
constexpr std::int64_t kWordsMax = 1 << 20;                 // Redis' own limits.
constexpr std::int64_t kWordBytesMax = 512LL << 20;         //
constexpr std::size_t kForgetBytes = std::size_t{1} << 16;  // Read bytes are erased in such lots.

// The length after `type` at `at`, which moves behind its line. -1: incomplete; -2: garbage.
std::int64_t take_length(std::string_view bytes, std::size_t& at, char type) {
  if (at == bytes.size()) return -1;
  const std::string_view head = bytes.substr(at, kLengthLineBytesMax);
  if (head[0] != type) return -2;
  const std::size_t end = head.find("\r\n");
  if (end == std::string_view::npos) return head.size() == kLengthLineBytesMax ? -2 : -1;
  std::int64_t length = 0;
  const auto [stop, problem] = std::from_chars(head.data() + 1, head.data() + end, length);
  if (problem != std::errc{} || stop != head.data() + end || length < 0) return -2;
  at += end + 2;
  return length;
}

}  // namespace

std::string status(std::string_view text) { return "+" + std::string{text} + "\r\n"; }
std::string error(std::string_view text) { return "-" + std::string{text} + "\r\n"; }
std::string integer(std::int64_t value) { return ":" + std::to_string(value) + "\r\n"; }
std::string nil() { return "$-1\r\n"; }
std::string ok() { return "+OK\r\n"; }

std::string bulk(std::string_view bytes) {
  std::string out = "$" + std::to_string(bytes.size()) + "\r\n";
  out.append(bytes).append("\r\n");
  return out;
}

std::string array(const std::vector<std::string>& elements) {
  std::string out = "*" + std::to_string(elements.size()) + "\r\n";
  for (const std::string& element : elements) out += element;
  return out;
}

std::string request(const std::vector<std::string>& words) {
  std::string out = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) out += bulk(word);
  return out;
}

RequestReader::Outcome RequestReader::next(Words& words) {
  const std::string_view bytes = std::string_view{input_}.substr(at_);
  if (bytes.empty() || bytes.size() < needed_bytes_) return Outcome::kMore;
  std::size_t at = 0;
  const std::int64_t count = take_length(bytes, at, '*');
  if (count == -1) return Outcome::kMore;
  if (count < 1 || count > kWordsMax) return Outcome::kGarbage;
  words.clear();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t length = take_length(bytes, at, '$');
    if (length == -1) return Outcome::kMore;
    if (length < 0 || length > kWordBytesMax) return Outcome::kGarbage;
    const auto size = static_cast<std::size_t>(length);
    if (bytes.size() - at < size + 2) {
      needed_bytes_ = at + size + 2;
      return Outcome::kMore;
    }
    words.emplace_back(bytes.substr(at, size));
    at += size + 2;
  }
  needed_bytes_ = 0;
  at_ += at;
  if (at_ >= kForgetBytes || at_ == input_.size()) {
    input_.erase(0, at_);
    at_ = 0;
  }
  return Outcome::kRequest;
}

}  // namespace tiercel::testing::resp
