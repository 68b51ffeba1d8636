#pragma once

// The frame that values and messages share, and the walls around Cap'n Proto.
//
//   0  version, big-endian; put there by the write script, never by us
//   8  magic F1 'T' 'C' 'L', format version, kind, two zero bytes
//  16  Cap'n Proto flat message: segment table of one segment, then the segment

#include <capnp/any.h>
#include <capnp/message.h>
#include <kj/exception.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "tiercel/base/error.h"
#include "tiercel/base/result.h"

// kj insists that an ExceptionCallback stands on the real stack; AddressSanitizer's
// detect_stack_use_after_return would put it elsewhere.
#define TIERCEL_REAL_STACK __attribute__((no_sanitize("address")))

namespace tiercel::serialization {

inline constexpr std::size_t kVersionBytes = 8;
inline constexpr std::size_t kHeaderBytes = 8;
inline constexpr std::size_t kSegmentTableBytes = 8;
inline constexpr std::size_t kWordBytes = sizeof(capnp::word);
inline constexpr std::string_view kMagic{"\xF1TCL", 4};
inline constexpr std::uint8_t kFormatVersion = 1;

enum class FrameKind : std::uint8_t { kValue = 1, kMessage = 2 };

struct FrameHeader {
  std::uint8_t format_version = 0;
  std::uint8_t kind = 0;
  bool reserved_are_zero = false;
};

// False for fewer than 16 bytes and for bytes without the magic.
[[nodiscard]] bool has_magic(std::string_view bytes) noexcept;

// Requires has_magic(bytes).
[[nodiscard]] FrameHeader read_header(std::string_view bytes) noexcept;

// The bytes of the one segment. Requires has_magic(bytes). Errors: kCorrupt for a segment table
// that is cut off, has more than one segment, or does not account for exactly the rest of the
// bytes. Checked here, before Cap'n Proto sees anything, so that it never allocates by a hostile
// count.
Result<std::string_view> read_segment(std::string_view bytes);

// Header, segment table and `segment_words` zero words, without the version. May throw bad_alloc.
std::string make_frame(FrameKind kind, std::size_t segment_words);

// Where the message is built inside of what make_frame returned.
kj::ArrayPtr<capnp::word> segment_of(std::string& frame) noexcept;

[[nodiscard]] constexpr std::size_t words_for(std::size_t bytes) noexcept {
  return (bytes + kWordBytes - 1) / kWordBytes;
}

// One received segment, readable by Cap'n Proto; `segment` must outlive it. Only inside guarded():
// constructor and methods throw what kj throws.
class SegmentMessage {
 public:
  explicit SegmentMessage(std::string_view segment);
  SegmentMessage(const SegmentMessage&) = delete;
  SegmentMessage& operator=(const SegmentMessage&) = delete;

  // The root, which must have at least the words that version 1 has. Cap'n Proto would read a null
  // root, or one of no size, as a struct of defaults: an empty value that nobody wrote.
  template <typename Schema>
  typename Schema::Reader root(std::size_t data_words, std::size_t pointers) {
    const auto any = reader_.getRoot<capnp::AnyStruct>();
    KJ_REQUIRE(any.getDataSection().size() >= data_words * kWordBytes &&
                   any.getPointerSection().size() >= pointers,
               "the root is absent or too small");
    return any.template as<Schema>();
  }

  // The same bytes in the segment that was given, even if the reader works on a copy.
  [[nodiscard]] std::string_view original(capnp::Data::Reader data) const;

 private:
  static constexpr std::size_t kInlineBytes = 512;

  static capnp::ReaderOptions options(std::size_t segment_bytes) noexcept;
  const char* aligned_bytes();

  const std::string_view segment_;
  alignas(capnp::word) std::array<char, kInlineBytes> inline_;
  std::unique_ptr<char[]> heap_;
  const char* const bytes_;  // segment_.data(), or a copy of it at a multiple of 8.
  const std::array<kj::ArrayPtr<const capnp::word>, 1> segments_;
  capnp::SegmentArrayMessageReader reader_;
};

// While one stands on the stack, kj prints nothing, takes no stack traces, and always throws. By
// default it would *return* from a recoverable fault while another exception unwinds this thread (a
// user's destructor that reads from the cache), and hand out defaults for corrupt bytes.
class QuietKj final : public kj::ExceptionCallback {
 public:
  void onRecoverableException(kj::Exception&& exception) override;
  void onFatalException(kj::Exception&& exception) override;
  void logMessage(kj::LogSeverity severity, const char* file, int line, int context_depth,
                  kj::String&& text) override;
  StackTraceMode stackTraceMode() override;
};

// What kj says of a fault, without the condition that failed: it quotes values, which may be bytes
// of a payload.
[[nodiscard]] std::string describe(const kj::Exception& exception);

// Runs `body`, which returns a Result<T>, and lets nothing out that is thrown. A kj::Exception
// becomes on_fault("<what>: <description>"): corrupt when reading, internal when writing.
template <typename T, typename Body>
TIERCEL_REAL_STACK Result<T> guarded(const char* what, Error (*on_fault)(std::string),
                                     const Body& body) {
  try {
    const QuietKj quiet;
    return body();
  } catch (const kj::Exception& exception) {
    return on_fault(std::string{what} + ": " + describe(exception));
  } catch (const std::bad_alloc&) {
    return overloaded("out of memory");
  } catch (...) {
    return internal("unknown exception");
  }
}

}  // namespace tiercel::serialization
