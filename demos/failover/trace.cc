#include "failover/trace.h"

#include <algorithm>
#include <unordered_set>

#include "tiercel/base/bytes.h"

namespace tiercel::failover {

Result<LineReader> LineReader::open(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) return invalid_argument("cannot read the trace '" + path + "'");
  return LineReader{path, std::move(file)};
}

Result<std::optional<std::string_view>> LineReader::next() {
  line_.clear();
  for (;;) {
    if (at_ == filled_ && !refill()) {
      if (file_.bad()) return invalid_argument("cannot read the trace '" + path_ + "'");
      if (line_.empty()) return std::optional<std::string_view>{};
      break;  // The last line, without a newline.
    }
    const auto from = buffer_.begin() + static_cast<std::ptrdiff_t>(at_);
    const auto to = buffer_.begin() + static_cast<std::ptrdiff_t>(filled_);
    const auto newline = std::find(from, to, '\n');
    const auto taken = static_cast<std::size_t>(newline - from);
    if (line_.size() + taken > kLineBytesMax) {
      return invalid_argument("a line is longer than " + std::to_string(kLineBytesMax) + " bytes");
    }
    line_.append(from, newline);
    at_ += taken;
    if (newline == to) continue;
    ++at_;
    break;
  }
  if (line_.ends_with('\r')) line_.pop_back();
  return std::optional<std::string_view>{line_};
}

Result<void> LineReader::seek(std::uint64_t byte) {
  at_ = filled_ = 0;
  file_.clear();
  // From the byte before: if that one ends a line, the line at `byte` is whole.
  file_.seekg(static_cast<std::streamoff>(byte == 0 ? 0 : byte - 1));
  if (byte == 0) return {};
  auto rest_of_line = next();
  return rest_of_line ? Result<void>{} : Result<void>{rest_of_line.error()};
}

bool LineReader::refill() {
  file_.read(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
  at_ = 0;
  filled_ = static_cast<std::size_t>(file_.gcount());
  return filled_ > 0;
}

Result<TraceSummary> scan_trace(const std::string& path, std::size_t ids_max) {
  auto lines = LineReader::open(path);
  if (!lines) return lines.error();
  TraceSummary summary;
  std::unordered_set<std::uint64_t> ids;
  for (;;) {
    const auto line = lines->next();
    const std::string place = path + ", line " + std::to_string(summary.lines + 1) + ": ";
    if (!line) return invalid_argument(place + line.error().message);
    if (!*line) break;
    const auto id = parse_u64(**line);
    if (!id) {
      return invalid_argument(place + "'" + bytes_for_message(**line) +
                              "' is not a decimal key id of at most 64 bits");
    }
    ++summary.lines;
    ids.insert(*id);
    if (ids.size() > ids_max) {
      return invalid_argument(place + "more than " + std::to_string(ids_max) + " different keys");
    }
  }
  if (ids.empty()) return invalid_argument("the trace '" + path + "' is empty");
  std::ifstream file{path, std::ios::binary | std::ios::ate};
  summary.bytes = static_cast<std::uint64_t>(std::max<std::streamoff>(0, file.tellg()));
  summary.ids.assign(ids.begin(), ids.end());
  std::ranges::sort(summary.ids);
  return summary;
}

Result<TraceStream> TraceStream::open(const std::string& path, std::uint64_t bytes,
                                      std::uint64_t slot, std::uint64_t slots) {
  auto lines = LineReader::open(path);
  if (!lines) return lines.error();
  if (auto sought = lines->seek(bytes / slots * slot); !sought) return sought.error();
  return TraceStream{std::move(lines).value()};
}

Result<std::uint64_t> TraceStream::next() {
  auto line = lines_.next();
  if (line && !*line) {
    if (auto sought = lines_.seek(0); !sought) return sought.error();
    line = lines_.next();
  }
  if (!line) return line.error();
  if (!*line) return invalid_argument("the trace has become empty");
  return parse_u64(**line);
}

}  // namespace tiercel::failover
