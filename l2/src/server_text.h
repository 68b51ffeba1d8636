#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace tiercel::l2 {

// What a server said, fit for a message to people: spaces stay, other unprintable bytes become '?'.
[[nodiscard]] inline std::string server_text(std::string_view text) {
  constexpr std::size_t kLengthMax = 200;
  std::string printable{text.substr(0, kLengthMax)};
  std::replace_if(
      printable.begin(), printable.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  if (text.size() > kLengthMax) printable += "...";
  return printable;
}

}  // namespace tiercel::l2
