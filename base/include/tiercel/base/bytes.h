#pragma once

// Bytes in and out of text. Keys and values are arbitrary bytes held in std::string /
// std::string_view.

#include <cstdint>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"

namespace tiercel {

// Bytes as one printable word: as they are when every byte is printable ASCII other than space and
// quotes, the word is not empty and does not itself begin with "hex:"; else "hex:"
// and two lower-case digits a byte. escape_bytes and unescape_bytes are inverse to each other.
[[nodiscard]] std::string escape_bytes(std::string_view bytes);

// Errors: kInvalidArgument for an odd number of digits or a character that is not a digit.
Result<std::string> unescape_bytes(std::string_view word);

// escape_bytes cut to `length_max` characters with "…" where it was longer: for error messages.
[[nodiscard]] std::string bytes_for_message(std::string_view bytes, std::size_t length_max = 80);

// Big-endian 64-bit words, as they stand before a value and before a message in Redis.
void append_u64_be(std::string& out, std::uint64_t word);
[[nodiscard]] std::uint64_t read_u64_be(const char* bytes) noexcept;  // Reads 8 bytes.

// Decimal digits only, no sign, no space, within 64 bits. Errors: kInvalidArgument.
Result<std::uint64_t> parse_u64(std::string_view text);

}  // namespace tiercel
