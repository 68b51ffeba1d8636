#pragma once

// SHA-1 (RFC 3174), only to name Lua scripts as Redis does. Not for security.

#include <string>
#include <string_view>

namespace tiercel::l2 {

[[nodiscard]] std::string sha1_hex(std::string_view bytes);  // 40 lower-case hex digits.

}  // namespace tiercel::l2
