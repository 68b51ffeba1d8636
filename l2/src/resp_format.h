#pragma once

// Requests as RESP bytes: an array of bulk strings.
//
// Sizes first, then the bytes into memory that is large enough: a request is written once, where it
// is sent from.

#include <charconv>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace tiercel::l2 {

[[nodiscard]] constexpr std::size_t decimal_digits(std::size_t number) noexcept {
  std::size_t digits = 1;
  for (; number >= 10; number /= 10) ++digits;
  return digits;
}
[[nodiscard]] constexpr std::size_t array_header_bytes(std::size_t words) noexcept {
  return decimal_digits(words) + 3;
}
[[nodiscard]] constexpr std::size_t bulk_bytes(std::size_t length) noexcept {
  return decimal_digits(length) + length + 5;
}
[[nodiscard]] inline std::size_t request_bytes(std::span<const std::string_view> words) noexcept {
  std::size_t bytes = array_header_bytes(words.size());
  for (const std::string_view word : words) bytes += bulk_bytes(word.size());
  return bytes;
}

// Each returns where it ended.
inline char* write_decimal_line(char* out, char type, std::size_t number) noexcept {
  *out++ = type;
  if (number < 10) {
    *out++ = static_cast<char>('0' + number);
  } else {
    out = std::to_chars(out, out + 20, number).ptr;
  }
  *out++ = '\r';
  *out++ = '\n';
  return out;
}
inline char* write_bulk(char* out, std::string_view word) noexcept {
  out = write_decimal_line(out, '$', word.size());
  if (!word.empty()) std::memcpy(out, word.data(), word.size());
  out += word.size();
  *out++ = '\r';
  *out++ = '\n';
  return out;
}
inline char* write_request(char* out, std::span<const std::string_view> words) noexcept {
  out = write_decimal_line(out, '*', words.size());
  for (const std::string_view word : words) out = write_bulk(out, word);
  return out;
}

// The same at the end of a string, for what is not worth more.
void append_request(std::string& out, std::span<const std::string_view> words);
void append_request(std::string& out, std::initializer_list<std::string_view> words);
void append_array_header(std::string& out, std::size_t words);
void append_bulk(std::string& out, std::string_view word);

}  // namespace tiercel::l2
