#include "fleet/payload.h"

#include <charconv>

namespace tiercel::fleet {
namespace {

// Takes "DIGITS " off the front.
template <typename Number>
bool take_number(std::string_view& rest, Number& number) {
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (error != std::errc{} || end == rest.data() + rest.size() || *end != ' ') return false;
  rest.remove_prefix(static_cast<std::size_t>(end - rest.data()) + 1);
  return true;
}

}  // namespace

std::string encode_payload(const Payload& payload) {
  std::string bytes = std::to_string(payload.writer) + ' ' + std::to_string(payload.sequence) +
                      ' ' + std::to_string(payload.key_id) + ' ';
  bytes.resize(kPayloadBytes, '.');
  return bytes;
}

std::optional<Payload> decode_payload(std::string_view bytes) {
  Payload payload;
  std::string_view rest = bytes;
  if (bytes.size() != kPayloadBytes || !take_number(rest, payload.writer) ||
      !take_number(rest, payload.sequence) || !take_number(rest, payload.key_id) ||
      rest.find_first_not_of('.') != std::string_view::npos) {
    return std::nullopt;
  }
  return payload;
}

std::string key_name(std::uint64_t key_id) { return "key:" + std::to_string(key_id); }

}  // namespace tiercel::fleet
