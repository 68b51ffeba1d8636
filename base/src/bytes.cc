#include "tiercel/base/bytes.h"

#include <algorithm>
#include <charconv>

namespace tiercel {
namespace {

constexpr std::string_view kHexPrefix = "hex:";
constexpr std::string_view kDigits = "0123456789abcdef";

bool is_plain(char c) noexcept { return c > ' ' && c < 0x7f && c != '"' && c != '\''; }

// A word that someone typed, as typed where it can be shown.
std::string quoted(std::string_view word) {
  constexpr std::size_t kLengthMax = 80;
  const bool is_shown = word.size() <= kLengthMax &&
                        std::ranges::all_of(word, [](char c) { return c >= ' ' && c < 0x7f; });
  return "'" + (is_shown ? std::string{word} : bytes_for_message(word, kLengthMax)) + "'";
}

int digit_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string escape_bytes(std::string_view bytes) {
  if (!bytes.empty() && !bytes.starts_with(kHexPrefix) && std::ranges::all_of(bytes, is_plain)) {
    return std::string{bytes};
  }
  std::string word{kHexPrefix};
  word.reserve(kHexPrefix.size() + 2 * bytes.size());
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    word += kDigits[byte >> 4];
    word += kDigits[byte & 15];
  }
  return word;
}

Result<std::string> unescape_bytes(std::string_view word) {
  if (!word.starts_with(kHexPrefix)) return std::string{word};
  const std::string_view digits = word.substr(kHexPrefix.size());
  if (digits.size() % 2 != 0) {
    return invalid_argument(quoted(word) +
                            " has an odd number of hex digits; write two for each byte");
  }
  std::string bytes;
  bytes.reserve(digits.size() / 2);
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    const int high = digit_value(digits[i]);
    const int low = digit_value(digits[i + 1]);
    if (high < 0 || low < 0) {
      return invalid_argument(quoted(word) +
                              " has a character after 'hex:' that is not a hex digit");
    }
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

std::string bytes_for_message(std::string_view bytes, std::size_t length_max) {
  // Escaping at most doubles the length, so a prefix is enough and a huge key costs nothing.
  const bool is_shorter = bytes.size() <= length_max;
  std::string text = escape_bytes(is_shorter ? bytes : bytes.substr(0, length_max + 1));
  if (text.size() > length_max) {
    text.resize(length_max);
    text += "…";
  }
  return text;
}

void append_u64_be(std::string& out, std::uint64_t word) {
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(word >> shift);
}

std::uint64_t read_u64_be(const char* bytes) noexcept {
  std::uint64_t word = 0;
  for (int i = 0; i < 8; ++i) word = word << 8 | static_cast<unsigned char>(bytes[i]);
  return word;
}

Result<std::uint64_t> parse_u64(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || status != std::errc{} || end != text.data() + text.size()) {
    return invalid_argument("'" + bytes_for_message(text) + "' is not a whole number in 64 bits");
  }
  return number;
}

}  // namespace tiercel
