#pragma once

// KeyFormat<Id>: how an application's id becomes a key. Ready-made for strings, integers, enums,
// arrays of bytes (UUIDs) and pairs and tuples of these; specialise it for a type of your own:
//
//   struct PlayerId { std::string_view realm; std::uint64_t number; };
//
//   template <>
//   struct tiercel::KeyFormat<PlayerId> {
//     static void write(KeyWriter& out, const PlayerId& id) {
//       out.text(id.realm);
//       out.separator();
//       out.number(id.number);
//     }
//   };
//
//   std::array<char, 128> buffer;
//   Result<std::string_view> key = format_key(buffer, "inventory:", std::pair{PlayerId{"eu", 7},
//   3});
//   // "inventory:eu:7:3"
//   (compiled in tests/cache/key_format_test.cc)
//
// Two ids that differ must have keys that differ, or one is served as the other. The formats here
// see to it: within a pair or tuple, and by KeyWriter::text, ':' and '%' become "%3A" and "%25", so
// that {"a:b", "c"} and {"a", "b:c"} stay apart. A specialisation that always writes the same
// number of parts, with separator() between them, keeps it so. The formats are also what other
// programs see in Redis: they do not change.
//
//   std::string, string_view, char*, literals
//                                     as they are          "Ann"
//   integers, enums                   decimal              "-42"
//   std::array<std::uint8_t or std::byte, N>, N > 0
//                                     lower-case hex       "00ff10…" (a UUID: without hyphens)
//   std::pair, std::tuple             parts with ':'       "Ann:-42"
//
// bool and character types have no format: neither a letter nor a number is what everyone expects.
//
// No allocation, no lock, no system call, any thread. A KeyWriter is one thread's.

#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tiercel/base/result.h"
#include "tiercel/cache/options.h"

namespace tiercel {

namespace detail {
// Why a key of `bytes` bytes does not go into a buffer of `buffer_bytes`.
[[nodiscard]] Error key_refused(std::size_t bytes, std::size_t buffer_bytes);
}  // namespace detail

// Writes a key into a buffer that is another's. What does not fit is counted and not written.
class KeyWriter {
 public:
  explicit KeyWriter(std::span<char> buffer) noexcept : buffer_(buffer) {}

  // ':' and '%' as "%3A" and "%25".
  void text(std::string_view text) noexcept;

  // Bytes as they are. With ':' in them, what follows may be taken for a part of them.
  void verbatim(std::string_view bytes) noexcept {
    if (size_ <= buffer_.size() && bytes.size() <= buffer_.size() - size_) {
      if (!bytes.empty()) std::memcpy(buffer_.data() + size_, bytes.data(), bytes.size());
    }
    size_ += bytes.size();
  }

  // Decimal.
  template <std::integral T>
  void number(T number) noexcept {
    std::array<char, 24> digits{};  // g++ 12 does not see that to_chars fills it.
    const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    verbatim({digits.data(), static_cast<std::size_t>(end - digits.data())});
  }

  // Two lower-case digits for each byte.
  void hex(std::span<const std::byte> bytes) noexcept;

  // Between the parts of an id. Never escaped.
  void separator() noexcept { verbatim(":"); }

  // Within a pair or tuple.
  [[nodiscard]] bool is_part() const noexcept { return parts_depth_ > 0; }

  // The bytes of the key so far, also those that did not fit.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  friend class KeyParts;

  std::span<char> buffer_;
  std::size_t size_ = 0;
  int parts_depth_ = 0;
};

// Writes the parts of one id, with separators between them.
class KeyParts {
 public:
  explicit KeyParts(KeyWriter& out) noexcept : out_(out) { ++out_.parts_depth_; }
  ~KeyParts() { --out_.parts_depth_; }
  KeyParts(const KeyParts&) = delete;
  KeyParts& operator=(const KeyParts&) = delete;

  template <typename Part>
  void add(const Part& part) noexcept;

 private:
  KeyWriter& out_;
  bool is_first_ = true;
};

// Specialise it. write() must not throw, and writes the same for the same id, always.
template <typename Id>
struct KeyFormat;

template <typename Id>
concept KeyFormattable = requires(KeyWriter& out, const Id& id) {
  KeyFormat<Id>::write(out, id);
};

template <typename Part>
void KeyParts::add(const Part& part) noexcept {
  static_assert(KeyFormattable<Part>, "specialise tiercel::KeyFormat for this type");
  if (!std::exchange(is_first_, false)) out_.separator();
  KeyFormat<Part>::write(out_, part);
}

// Prefix, as it is, and id, written to `buffer`; the view is of it. A buffer of kKeyBytesMax is
// enough for every key. Errors: kInvalidArgument (the key has more than kKeyBytesMax bytes),
// kOverloaded (it has more than `buffer`); only they allocate, for their message.
template <KeyFormattable Id>
Result<std::string_view> format_key(std::span<char> buffer, std::string_view prefix, const Id& id) {
  KeyWriter out{buffer};
  out.verbatim(prefix);
  KeyFormat<Id>::write(out, id);
  if (out.size() > buffer.size() || out.size() > kKeyBytesMax) {
    return detail::key_refused(out.size(), buffer.size());
  }
  return std::string_view{buffer.data(), out.size()};
}

// Room for one key: inside, and on the heap for a key that is longer than kInlineBytes. One
// thread's.
class KeyBuffer {
 public:
  static constexpr std::size_t kInlineBytes = 256;

  KeyBuffer() = default;
  KeyBuffer(const KeyBuffer&) = delete;  // Views point into it.
  KeyBuffer& operator=(const KeyBuffer&) = delete;

  // As format_key; the view is valid until the next call. Allocates for keys of more than
  // kInlineBytes. Errors: kInvalidArgument (over kKeyBytesMax bytes), kOverloaded (out of memory).
  template <KeyFormattable Id>
  Result<std::string_view> format(std::string_view prefix, const Id& id) {
    KeyWriter out{inline_};
    out.verbatim(prefix);
    KeyFormat<Id>::write(out, id);
    if (out.size() <= inline_.size()) return std::string_view{inline_.data(), out.size()};
    if (auto grown = grow(out.size()); !grown) return grown.error();
    return format_key(std::span{heap_}, prefix, id);
  }

 private:
  Result<void> grow(std::size_t bytes);

  std::array<char, kInlineBytes> inline_;
  std::string heap_;
};

// ----- The ready-made formats.

namespace detail {

template <typename T, typename... Us>
inline constexpr bool kIsOneOf = (std::same_as<T, Us> || ...);

template <typename T>
concept KeyText = kIsOneOf<T, std::string, std::string_view, const char*, char*>;

template <typename T>
concept KeyInteger =
    std::integral<T> && !kIsOneOf<T, bool, char, wchar_t, char8_t, char16_t, char32_t>;

}  // namespace detail

template <detail::KeyText Text>
struct KeyFormat<Text> {
  static void write(KeyWriter& out, std::string_view text) noexcept {
    out.is_part() ? out.text(text) : out.verbatim(text);
  }
};

// A string literal.
template <std::size_t kSize>
struct KeyFormat<char[kSize]> : KeyFormat<std::string_view> {};

template <detail::KeyInteger Integer>
struct KeyFormat<Integer> {
  static void write(KeyWriter& out, Integer number) noexcept { out.number(number); }
};

template <typename Enum>
requires std::is_enum_v<Enum>
struct KeyFormat<Enum> {
  static void write(KeyWriter& out, Enum value) noexcept {
    out.number(+static_cast<std::underlying_type_t<Enum>>(value));  // +: also of bool and char.
  }
};

// Not of no bytes: an empty part, or an empty key.
template <typename Byte, std::size_t kSize>
requires(detail::kIsOneOf<Byte, std::uint8_t, std::byte>&& kSize >
         0) struct KeyFormat<std::array<Byte, kSize>> {
  static void write(KeyWriter& out, const std::array<Byte, kSize>& bytes) noexcept {
    out.hex(std::as_bytes(std::span{bytes}));
  }
};

template <KeyFormattable First, KeyFormattable Second>
struct KeyFormat<std::pair<First, Second>> {
  static void write(KeyWriter& out, const std::pair<First, Second>& id) noexcept {
    KeyParts parts{out};
    parts.add(id.first);
    parts.add(id.second);
  }
};

template <KeyFormattable... Parts>
requires(sizeof...(Parts) > 0) struct KeyFormat<std::tuple<Parts...>> {
  static void write(KeyWriter& out, const std::tuple<Parts...>& id) noexcept {
    KeyParts parts{out};
    std::apply([&parts](const Parts&... part) { (parts.add(part), ...); }, id);
  }
};

}  // namespace tiercel
