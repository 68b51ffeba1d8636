#include "tiercel/cache/key_format.h"

#include <new>

namespace tiercel {

void KeyWriter::text(std::string_view text) noexcept {
  while (true) {
    const std::size_t at = text.find_first_of(":%");
    verbatim(text.substr(0, at));
    if (at == std::string_view::npos) return;
    verbatim(text[at] == ':' ? "%3A" : "%25");
    text.remove_prefix(at + 1);
  }
}

void KeyWriter::hex(std::span<const std::byte> bytes) noexcept {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (const std::byte byte : bytes) {
    const std::array<char, 2> pair{kDigits[std::to_integer<std::size_t>(byte >> 4)],
                                   kDigits[std::to_integer<std::size_t>(byte & std::byte{15})]};
    verbatim({pair.data(), pair.size()});
  }
}

Error detail::key_refused(std::size_t bytes, std::size_t buffer_bytes) {
  if (bytes > kKeyBytesMax) {
    return invalid_argument("a key of " + std::to_string(bytes) + " bytes; at most " +
                            std::to_string(kKeyBytesMax) + " are allowed");
  }
  return overloaded("a key of " + std::to_string(bytes) + " bytes; the buffer has " +
                    std::to_string(buffer_bytes));
}

Result<void> KeyBuffer::grow(std::size_t bytes) {
  if (bytes > kKeyBytesMax) return detail::key_refused(bytes, kKeyBytesMax);
  try {
    if (heap_.size() < bytes) heap_.resize(bytes);
    return {};
  } catch (const std::bad_alloc&) {
    return overloaded("out of memory");
  }
}

}  // namespace tiercel
