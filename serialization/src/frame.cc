// Invariants:
// - Cap'n Proto sees only segments whose length has been checked, at addresses that are multiples
// of
//   8 (elsewhere it refuses them, and reading would be undefined behaviour).
// - One received message costs at most one copy of its bytes, and a walk over not much more than
// its
//   bytes.

#include "frame.h"

#include <cstring>
#include <utility>

namespace tiercel::serialization {
namespace {

// How many words may be walked beyond one visit of each: the root is visited twice. A limit tied to
// the size stops a message in which many pointers share one target, small on the wire and huge when
// it is walked.
constexpr std::size_t kTraversalSlackWords = 16;

// Root, list of keys, key, and one to spare. Stops a chain of pointers that would be followed by
// recursion until the stack ends.
constexpr int kNestingMax = 4;

// std::string's memory comes from operator new, so a segment inside of one is aligned in place.
static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ % alignof(capnp::word) == 0);
static_assert((kHeaderBytes + kSegmentTableBytes) % alignof(capnp::word) == 0);

void append_u32_le(std::string& out, std::uint32_t word) {
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(word >> shift);
}

std::uint32_t read_u32_le(const char* bytes) noexcept {
  std::uint32_t word = 0;
  for (int i = 3; i >= 0; --i) word = word << 8 | static_cast<unsigned char>(bytes[i]);
  return word;
}

bool is_aligned(const char* bytes) noexcept {
  return reinterpret_cast<std::uintptr_t>(bytes) % alignof(capnp::word) == 0;
}

}  // namespace

bool has_magic(std::string_view bytes) noexcept {
  return bytes.size() >= kVersionBytes + kHeaderBytes &&
         bytes.substr(kVersionBytes, kMagic.size()) == kMagic;
}

FrameHeader read_header(std::string_view bytes) noexcept {
  const std::string_view rest = bytes.substr(kVersionBytes + kMagic.size(), 4);
  return {.format_version = static_cast<std::uint8_t>(rest[0]),
          .kind = static_cast<std::uint8_t>(rest[1]),
          .reserved_are_zero = rest[2] == 0 && rest[3] == 0};
}

Result<std::string_view> read_segment(std::string_view bytes) {
  const std::string_view flat = bytes.substr(kVersionBytes + kHeaderBytes);
  if (flat.size() < kSegmentTableBytes) return corrupt("the segment table is cut off");
  // The table holds the number of segments less one, then the length of each in words.
  if (read_u32_le(flat.data()) != 0) return corrupt("more than one segment");
  const std::string_view segment = flat.substr(kSegmentTableBytes);
  const std::size_t claimed = std::size_t{read_u32_le(flat.data() + 4)} * kWordBytes;
  if (segment.size() != claimed) {
    return corrupt("the segment claims " + std::to_string(claimed) + " bytes and has " +
                   std::to_string(segment.size()));
  }
  return segment;
}

std::string make_frame(FrameKind kind, std::size_t segment_words) {
  std::string frame;
  frame.reserve(kHeaderBytes + kSegmentTableBytes + segment_words * kWordBytes);
  frame += kMagic;
  frame += static_cast<char>(kFormatVersion);
  frame += static_cast<char>(kind);
  frame.append(2, '\0');
  append_u32_le(frame, 0);
  append_u32_le(frame, static_cast<std::uint32_t>(segment_words));
  frame.append(segment_words * kWordBytes, '\0');
  return frame;
}

kj::ArrayPtr<capnp::word> segment_of(std::string& frame) noexcept {
  constexpr std::size_t kBefore = kHeaderBytes + kSegmentTableBytes;
  return {reinterpret_cast<capnp::word*>(frame.data() + kBefore),
          (frame.size() - kBefore) / kWordBytes};
}

SegmentMessage::SegmentMessage(std::string_view segment)
    : segment_(segment),
      bytes_(aligned_bytes()),
      segments_{kj::ArrayPtr<const capnp::word>{reinterpret_cast<const capnp::word*>(bytes_),
                                                segment.size() / kWordBytes}},
      reader_(kj::arrayPtr(segments_.data(), segments_.size()), options(segment.size())) {}

std::string_view SegmentMessage::original(capnp::Data::Reader data) const {
  // An absent field's default does not stand in the segment.
  if (data.size() == 0) return segment_.substr(segment_.size());
  const auto offset = reinterpret_cast<const char*>(data.begin()) - bytes_;
  return segment_.substr(static_cast<std::size_t>(offset), data.size());
}

capnp::ReaderOptions SegmentMessage::options(std::size_t segment_bytes) noexcept {
  capnp::ReaderOptions options;
  options.traversalLimitInWords = segment_bytes / kWordBytes + kTraversalSlackWords;
  options.nestingLimit = kNestingMax;
  return options;
}

const char* SegmentMessage::aligned_bytes() {
  if (segment_.empty() || is_aligned(segment_.data())) return segment_.data();
  char* copy = inline_.data();
  if (segment_.size() > inline_.size()) {
    heap_ = std::make_unique_for_overwrite<char[]>(segment_.size());
    copy = heap_.get();
  }
  std::memcpy(copy, segment_.data(), segment_.size());
  return copy;
}

void QuietKj::onRecoverableException(kj::Exception&& exception) { throw std::move(exception); }
void QuietKj::onFatalException(kj::Exception&& exception) { throw std::move(exception); }
void QuietKj::logMessage(kj::LogSeverity, const char*, int, int, kj::String&&) {}
QuietKj::StackTraceMode QuietKj::stackTraceMode() { return StackTraceMode::NONE; }

std::string describe(const kj::Exception& exception) {
  // "expected a == b [1 == 2]; Message contained …"
  const kj::StringPtr whole = exception.getDescription();
  const std::string_view text{whole.begin(), whole.size()};
  constexpr std::string_view kSeparator = "; ";
  const std::size_t at = text.rfind(kSeparator);
  return std::string{at == std::string_view::npos ? text : text.substr(at + kSeparator.size())};
}

}  // namespace tiercel::serialization
