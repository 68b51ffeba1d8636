#pragma once

// Trace: the story of a run, one line for each thing that happens. Telling costs more than the run
// itself, so it is off unless somebody wants to read it; it never changes what happens. The
// fingerprint is always taken: two runs of one seed must agree in it.

#include <cstdint>
#include <cstdio>
#include <deque>
#include <sstream>
#include <string>
#include <string_view>

#include "timeline.h"

namespace tiercel::sim {

enum class Telling : std::uint8_t {
  kNothing,
  kLastLines,  // Kept, for the report of a violation.
  kAll,        // Printed as it happens.
};

class Trace {
 public:
  static constexpr std::size_t kLinesKept = 160;

  Trace(const Timeline& timeline, Telling telling) : timeline_(timeline), telling_(telling) {}

  [[nodiscard]] bool is_on() const { return telling_ != Telling::kNothing; }

  template <typename... Parts>
  void tell(std::string_view who, const Parts&... parts) {
    if (!is_on()) return;
    std::ostringstream text;
    (text << ... << parts);
    add_line(who, text.str());
  }

  void mix(std::uint64_t value) {
    hash_ ^= value + static_cast<std::uint64_t>(timeline_.now().time_since_epoch().count());
    hash_ *= 0x100000001b3ULL;
    hash_ ^= hash_ >> 29;
  }
  [[nodiscard]] std::uint64_t fingerprint() const { return hash_; }
  [[nodiscard]] std::uint64_t text_hash() const { return text_hash_; }
  [[nodiscard]] const std::deque<std::string>& last_lines() const { return last_lines_; }

 private:
  void add_line(std::string_view who, const std::string& text);

  const Timeline& timeline_;
  const Telling telling_;
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
  std::uint64_t text_hash_ = 0xcbf29ce484222325ULL;
  std::deque<std::string> last_lines_;
};

// "12.345678": seconds since the beginning.
std::string time_text(TimePoint time);
std::string length_text(Duration length);  // "1.5 ms"

}  // namespace tiercel::sim
