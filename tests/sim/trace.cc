#include "trace.h"

namespace tiercel::sim {

void Trace::add_line(std::string_view who, const std::string& text) {
  std::string line = time_text(timeline_.now());
  line += "  ";
  line += who;
  line.append(who.size() < 5 ? 5 - who.size() : 0, ' ');
  line += ' ';
  line += text;
  for (const char c : line) {
    text_hash_ = (text_hash_ ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  if (telling_ == Telling::kAll) std::printf("%s\n", line.c_str());
  last_lines_.push_back(std::move(line));
  if (last_lines_.size() > kLinesKept) last_lines_.pop_front();
}

std::string time_text(TimePoint time) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(time - kBeginning).count();
  char text[48];
  std::snprintf(text, sizeof text, "%s%03lld.%06lld", us < 0 ? "-" : "",
                static_cast<long long>(us < 0 ? -us : us) / 1000000,
                static_cast<long long>(us < 0 ? -us : us) % 1000000);
  return text;
}

std::string length_text(Duration length) {
  char text[48];
  std::snprintf(text, sizeof text, "%.3g ms", static_cast<double>(length.count()) / 1e6);
  return text;
}

}  // namespace tiercel::sim
