#pragma once

// RESP2 as text, for tests that write a server's replies or read a client's requests by hand. It
// shares nothing with the library's own parser and formatter.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::testing::resp {

std::string status(std::string_view text);
std::string error(std::string_view text);  // Without the "-".
std::string integer(std::int64_t value);
std::string bulk(std::string_view bytes);
std::string nil();
std::string array(const std::vector<std::string>& elements);  // Of texts as made here.
std::string request(const std::vector<std::string>& words);
std::string ok();

// Takes requests off a stream of bytes that comes in pieces.
class RequestReader {
 public:
  using Words = std::vector<std::string>;
  enum class Outcome { kMore, kRequest, kGarbage };

  void feed(std::string_view bytes) { input_.append(bytes); }
  // kRequest: the next one is in `words`. kGarbage: what came is no request, and never will be.
  Outcome next(Words& words);
  [[nodiscard]] std::size_t buffered_bytes() const noexcept { return input_.size() - at_; }

 private:
  std::string input_;
  std::size_t at_ = 0;            // Where the next request begins.
  std::size_t needed_bytes_ = 0;  // No use in looking before this many are there from `at_` on.
};

}  // namespace tiercel::testing::resp
