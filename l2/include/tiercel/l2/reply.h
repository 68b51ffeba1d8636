#pragma once

// Reply: one RESP2 reply as a value. An error reply of the server ("-ERR …") is a Reply of kind
// kError; an Error means that no usable reply came.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::l2 {

struct Reply {
  enum class Kind : std::uint8_t { kNil, kStatus, kError, kInteger, kString, kArray };

  Kind kind = Kind::kNil;
  std::int64_t integer = 0;     // kInteger
  std::string text;             // kStatus, kError, kString: the bytes
  std::vector<Reply> elements;  // kArray

  [[nodiscard]] bool is_nil() const noexcept { return kind == Kind::kNil; }
  [[nodiscard]] bool is_error() const noexcept { return kind == Kind::kError; }
  [[nodiscard]] bool is_string() const noexcept { return kind == Kind::kString; }
  [[nodiscard]] bool is_integer() const noexcept { return kind == Kind::kInteger; }
  [[nodiscard]] bool is_array() const noexcept { return kind == Kind::kArray; }
  // True for an error reply whose first word is `code`, e.g. "READONLY".
  [[nodiscard]] bool is_error(std::string_view code) const noexcept {
    return is_error() && text.starts_with(code) &&
           (text.size() == code.size() || text[code.size()] == ' ');
  }
};

}  // namespace tiercel::l2
