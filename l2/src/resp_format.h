#pragma once

// Requests as RESP bytes: an array of bulk strings.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tiercel::l2 {

// Exactly how many bytes append_request will append.
[[nodiscard]] std::size_t request_bytes(std::span<const std::string_view> words) noexcept;
void append_request(std::string& out, std::span<const std::string_view> words);
void append_request(std::string& out, std::initializer_list<std::string_view> words);

// The parts of a request, for one that is put together in pieces.
[[nodiscard]] std::size_t array_header_bytes(std::size_t words) noexcept;
[[nodiscard]] std::size_t bulk_bytes(std::size_t length) noexcept;
void append_array_header(std::string& out, std::size_t words);
void append_bulk(std::string& out, std::string_view word);

}  // namespace tiercel::l2
