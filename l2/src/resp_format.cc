#include "resp_format.h"

namespace tiercel::l2 {

void append_array_header(std::string& out, std::size_t words) {
  const std::size_t before = out.size();
  out.resize(before + array_header_bytes(words));
  write_decimal_line(out.data() + before, '*', words);
}

void append_bulk(std::string& out, std::string_view word) {
  const std::size_t before = out.size();
  out.resize(before + bulk_bytes(word.size()));
  write_bulk(out.data() + before, word);
}

void append_request(std::string& out, std::span<const std::string_view> words) {
  const std::size_t before = out.size();
  out.resize(before + request_bytes(words));
  write_request(out.data() + before, words);
}

void append_request(std::string& out, std::initializer_list<std::string_view> words) {
  append_request(out, std::span{words.begin(), words.size()});
}

}  // namespace tiercel::l2
