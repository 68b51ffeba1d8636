#pragma once

// Traces: a text file with one decimal key id (64 bits) a line.

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/result.h"

namespace tiercel::failover {

// The lines of a file, one at a time, in constant memory. One owner.
class LineReader {
 public:
  static constexpr std::size_t kLineBytesMax = 64;

  // Errors: kInvalidArgument when it cannot be opened.
  static Result<LineReader> open(const std::string& path);

  // Without its end ("\n" or "\r\n"); nullopt at the end of the file. The view is valid until the
  // next call. Errors: kInvalidArgument for a longer line than kLineBytesMax or a read that fails.
  Result<std::optional<std::string_view>> next();

  // The next line is the first that begins at or after this byte.
  Result<void> seek(std::uint64_t byte);

 private:
  LineReader(std::string path, std::ifstream file)
      : path_(std::move(path)), file_(std::move(file)), buffer_(kBufferBytes) {}
  bool refill();

  static constexpr std::size_t kBufferBytes = std::size_t{64} << 10;

  std::string path_;
  std::ifstream file_;
  std::vector<char> buffer_;
  std::size_t at_ = 0;
  std::size_t filled_ = 0;
  std::string line_;
};

struct TraceSummary {
  std::uint64_t bytes = 0;
  std::uint64_t lines = 0;
  std::vector<std::uint64_t> ids;  // Each once, rising.
};

// Reads the whole trace once. Errors: kInvalidArgument with the line's number for a bad line, for
// an empty file, for more than `ids_max` different ids.
Result<TraceSummary> scan_trace(const std::string& path, std::size_t ids_max);

// Reads a trace that was scanned round and round, beginning at slot/slots of it. One owner.
class TraceStream {
 public:
  static Result<TraceStream> open(const std::string& path, std::uint64_t bytes, std::uint64_t slot,
                                  std::uint64_t slots);

  // Errors: kInvalidArgument when the file is no longer as it was.
  Result<std::uint64_t> next();

 private:
  explicit TraceStream(LineReader lines) : lines_(std::move(lines)) {}

  LineReader lines_;
};

}  // namespace tiercel::failover
