#pragma once

// Words: the keys, or the arguments, of a command: some made here, in one buffer, and some that
// stand elsewhere.

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

class Words {
 public:
  // One word, of these parts, which are copied.
  void add(std::initializer_list<std::string_view> parts) {
    const std::size_t begin = bytes_.size();
    for (const std::string_view part : parts) bytes_ += part;
    words_.push_back({.begin = begin, .size = bytes_.size() - begin});
  }
  void add(std::string_view word) { add({word}); }
  // One that is not copied, and must outlive this.
  void lend(std::string_view word) {
    words_.push_back({.elsewhere = word.data(), .size = word.size()});
  }

  // Good until the next add().
  [[nodiscard]] std::vector<std::string_view> views() const {
    std::vector<std::string_view> views;
    views.reserve(words_.size());
    for (const Word& word : words_) {
      const char* const begin =
          word.elsewhere != nullptr ? word.elsewhere : bytes_.data() + word.begin;
      views.emplace_back(begin, word.size);
    }
    return views;
  }

 private:
  struct Word {
    const char* elsewhere = nullptr;  // Null: in bytes_.
    std::size_t begin = 0;
    std::size_t size = 0;
  };
  std::string bytes_;
  std::vector<Word> words_;
};

}  // namespace tiercel
