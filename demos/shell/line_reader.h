#pragma once

// LineReader: lines out of a file descriptor, each bounded in length, at once when they are
// complete. Blocks in read(2). Does not own the descriptor. One thread at a time.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tiercel/base/result.h"

namespace tiercel::shell {

struct Line {
  std::string text;       // Without the newline.
  bool too_long = false;  // Then `text` is its beginning; the rest was read and thrown away.
};

class LineReader {
 public:
  LineReader(int fd, std::size_t line_bytes_max);

  // The next line; nullopt at the end of the input. What stands there without a newline counts as a
  // line. Errors: kUnavailable when the descriptor cannot be read.
  Result<std::optional<Line>> next();

 private:
  Result<bool> refill();  // False at the end of the input.

  const int fd_;
  const std::size_t line_bytes_max_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;  // What is read and not yet given out: buffer_[begin_, end_).
  std::size_t end_ = 0;
};

}  // namespace tiercel::shell
