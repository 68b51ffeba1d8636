#pragma once

// Reply: one RESP2 reply as a value. An error reply of the server ("-ERR …") is a Reply of kind
// kError; an Error means that no usable reply came.
//
// ReplyView: the same, still standing in the buffer that it was read into: no copy, no allocation.
// It is valid only during the call that it is passed to. Take from it what is needed, or
// to_reply().

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::l2 {

struct Reply {
  enum class Kind : std::uint8_t { kNil, kStatus, kError, kInteger, kString, kArray };

  Kind kind = Kind::kNil;
  std::int64_t integer = 0;     // kInteger
  std::string text;             // kStatus, kError, kString: the bytes
  std::vector<Reply> elements;  // kArray

  [[nodiscard]] bool is_nil() const noexcept { return kind == Kind::kNil; }
  [[nodiscard]] bool is_error() const noexcept { return kind == Kind::kError; }
  [[nodiscard]] bool is_string() const noexcept { return kind == Kind::kString; }
  [[nodiscard]] bool is_integer() const noexcept { return kind == Kind::kInteger; }
  [[nodiscard]] bool is_array() const noexcept { return kind == Kind::kArray; }
  // True for an error reply whose first word is `code`, e.g. "READONLY".
  [[nodiscard]] bool is_error(std::string_view code) const noexcept {
    return is_error() && text.starts_with(code) &&
           (text.size() == code.size() || text[code.size()] == ' ');
  }
};

// One part of a reply as the parser leaves it: an array is followed by its elements, each by its
// own.
struct ReplyNode {
  std::int64_t number = 0;   // kInteger: the value. With text: where it begins.
  std::uint32_t length = 0;  // Of the text in bytes; of an array in elements.
  std::uint32_t extent = 1;  // Nodes that belong to it, itself included.
  Reply::Kind kind = Reply::Kind::kNil;
};

class ReplyView {
 public:
  using Kind = Reply::Kind;
  class Iterator;

  // `node` and those that belong to it, and the text that they point into, must outlive the view.
  ReplyView(const ReplyNode* node, const char* text) noexcept : node_(node), text_(text) {}

  [[nodiscard]] Kind kind() const noexcept { return node_->kind; }
  [[nodiscard]] bool is_nil() const noexcept { return kind() == Kind::kNil; }
  [[nodiscard]] bool is_error() const noexcept { return kind() == Kind::kError; }
  [[nodiscard]] bool is_string() const noexcept { return kind() == Kind::kString; }
  [[nodiscard]] bool is_integer() const noexcept { return kind() == Kind::kInteger; }
  [[nodiscard]] bool is_array() const noexcept { return kind() == Kind::kArray; }
  [[nodiscard]] bool is_error(std::string_view code) const noexcept {
    return is_error() && text().starts_with(code) &&
           (text().size() == code.size() || text()[code.size()] == ' ');
  }

  // 0 for what is no integer, and no bytes for what has none.
  [[nodiscard]] std::int64_t integer() const noexcept { return is_integer() ? node_->number : 0; }
  [[nodiscard]] std::string_view text() const noexcept {
    const bool has_text = kind() == Kind::kString || kind() == Kind::kStatus || is_error();
    return has_text ? std::string_view{text_ + node_->number, node_->length} : std::string_view{};
  }

  // Of an array; nothing else has elements.
  [[nodiscard]] std::size_t size() const noexcept { return is_array() ? node_->length : 0; }
  [[nodiscard]] Iterator begin() const noexcept;
  [[nodiscard]] Iterator end() const noexcept;
  // `index` must be below size(). O(1) where no element is itself an array with elements, else
  // O(index).
  [[nodiscard]] ReplyView operator[](std::size_t index) const noexcept;

  [[nodiscard]] Reply to_reply() const;

 private:
  const ReplyNode* node_;
  const char* text_;
};

class ReplyView::Iterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = ReplyView;
  using difference_type = std::ptrdiff_t;

  Iterator() noexcept = default;
  Iterator(const ReplyNode* node, const char* text) noexcept : node_(node), text_(text) {}

  ReplyView operator*() const noexcept { return {node_, text_}; }
  Iterator& operator++() noexcept {
    node_ += node_->extent;
    return *this;
  }
  Iterator operator++(int) noexcept {
    const Iterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const Iterator& a, const Iterator& b) noexcept {
    return a.node_ == b.node_;
  }

 private:
  const ReplyNode* node_ = nullptr;
  const char* text_ = nullptr;
};

inline ReplyView::Iterator ReplyView::begin() const noexcept { return {node_ + 1, text_}; }

inline ReplyView::Iterator ReplyView::end() const noexcept {
  return {node_ + (is_array() ? node_->extent : 1), text_};
}

inline ReplyView ReplyView::operator[](std::size_t index) const noexcept {
  if (node_->extent == node_->length + 1) return {node_ + 1 + index, text_};
  const ReplyNode* element = node_ + 1;
  for (; index > 0; --index) element += element->extent;
  return {element, text_};
}

}  // namespace tiercel::l2
