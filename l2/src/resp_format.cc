#include "resp_format.h"

#include <charconv>
#include <cstdint>

namespace tiercel::l2 {
namespace {

std::size_t decimal_digits(std::size_t number) noexcept {
  std::size_t digits = 1;
  for (; number >= 10; number /= 10) ++digits;
  return digits;
}

void append_decimal_line(std::string& out, char type, std::size_t number) {
  char text[24];
  text[0] = type;
  char* end = std::to_chars(text + 1, text + sizeof text - 2, number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(text, static_cast<std::size_t>(end - text));
}

}  // namespace

std::size_t array_header_bytes(std::size_t words) noexcept { return decimal_digits(words) + 3; }

std::size_t bulk_bytes(std::size_t length) noexcept { return decimal_digits(length) + length + 5; }

void append_array_header(std::string& out, std::size_t words) {
  append_decimal_line(out, '*', words);
}

void append_bulk(std::string& out, std::string_view word) {
  append_decimal_line(out, '$', word.size());
  out.append(word);
  out.append("\r\n");
}

std::size_t request_bytes(std::span<const std::string_view> words) noexcept {
  std::size_t bytes = array_header_bytes(words.size());
  for (const std::string_view word : words) bytes += bulk_bytes(word.size());
  return bytes;
}

void append_request(std::string& out, std::span<const std::string_view> words) {
  append_array_header(out, words.size());
  for (const std::string_view word : words) append_bulk(out, word);
}

void append_request(std::string& out, std::initializer_list<std::string_view> words) {
  append_request(out, std::span{words.begin(), words.size()});
}

}  // namespace tiercel::l2
