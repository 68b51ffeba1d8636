#include "tiercel/coherence/version.h"

#include "tiercel/base/bytes.h"

namespace tiercel::coherence {

std::string to_stream_id(Version version) {
  const Version sequence = version & ((Version{1} << kVersionSequenceBits) - 1);
  return std::to_string(version >> kVersionSequenceBits) + '-' + std::to_string(sequence);
}

Result<Version> parse_stream_id(std::string_view id) {
  const auto dash = id.find('-');
  if (dash != std::string_view::npos) {
    const auto milliseconds = parse_u64(id.substr(0, dash));
    const auto sequence = parse_u64(id.substr(dash + 1));
    if (milliseconds && sequence && *milliseconds >> (64 - kVersionSequenceBits) == 0 &&
        *sequence >> kVersionSequenceBits == 0) {
      return *milliseconds << kVersionSequenceBits | *sequence;
    }
  }
  return invalid_argument("'" + bytes_for_message(id) +
                          "' is not a stream id of at most 44 and 20 bits, like 1700000000000-5");
}

}  // namespace tiercel::coherence
