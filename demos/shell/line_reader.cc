#include "shell/line_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace tiercel::shell {
namespace {

constexpr std::size_t kBufferBytes = 65536;

}  // namespace

LineReader::LineReader(int fd, std::size_t line_bytes_max)
    : fd_(fd), line_bytes_max_(line_bytes_max), buffer_(kBufferBytes) {}

Result<std::optional<Line>> LineReader::next() {
  Line line;
  bool any = false;
  for (;;) {
    if (begin_ == end_) {
      const auto more = refill();
      if (!more) return more.error();
      if (!*more) return any ? std::optional{std::move(line)} : std::nullopt;
    }
    any = true;
    const char* const first = buffer_.data() + begin_;
    const char* const last = buffer_.data() + end_;
    const char* const newline = std::find(first, last, '\n');
    const auto length = static_cast<std::size_t>(newline - first);
    const auto room = line_bytes_max_ - line.text.size();
    line.text.append(first, std::min(length, room));
    line.too_long = line.too_long || length > room;
    begin_ += length;
    if (newline == last) continue;
    ++begin_;
    return std::optional{std::move(line)};
  }
}

Result<bool> LineReader::refill() {
  ssize_t count = 0;
  do {
    count = ::read(fd_, buffer_.data(), buffer_.size());
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    return unavailable("the input cannot be read: " + std::generic_category().message(errno));
  }
  begin_ = 0;
  end_ = static_cast<std::size_t>(count);
  return count > 0;
}

}  // namespace tiercel::shell
