// Fuzzes the two decoders: bytes as they are, and bytes as a segment behind a good header and
// segment table, so that mutations reach Cap'n Proto. What is accepted must survive encoding and
// decoding.
//
//   cmake -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DTIERCEL_BUILD_FUZZERS=ON
//   cmake --build build/fuzz --target serialization_fuzz
//   mkdir -p corpus && build/fuzz/tests/fuzz/serialization_fuzz -max_total_time=60 corpus
//   tests/golden

#include <cstdint>
#include <string>
#include <string_view>

#include "../serialization/hand_made.h"
#include "tiercel/base/check.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/message.h"

namespace tiercel::serialization {
namespace {

void fuzz_value(std::string_view bytes) {
  const auto decoded = decode_value(bytes);
  if (!decoded) {
    TIERCEL_CHECK(decoded.error().code == ErrorCode::kCorrupt);
    return;
  }
  const Envelope& envelope = decoded->envelope;
  TIERCEL_CHECK(is_inside(envelope.payload, bytes));
  if (decoded->foreign) return;
  const std::string again = with_version(decoded->version, encode_envelope(envelope).value());
  const auto second = decode_value(again);
  TIERCEL_CHECK(second && second->version == decoded->version);
  TIERCEL_CHECK(second->envelope.payload == envelope.payload);
  TIERCEL_CHECK(second->envelope.negative == envelope.negative);
  TIERCEL_CHECK(second->envelope.tombstone == envelope.tombstone);
  TIERCEL_CHECK(second->envelope.soft_ttl == envelope.soft_ttl);
  TIERCEL_CHECK(second->envelope.hard_ttl == envelope.hard_ttl);
  TIERCEL_CHECK(second->envelope.codec_id == envelope.codec_id);
  TIERCEL_CHECK(second->envelope.tag_slots == envelope.tag_slots);
}

void fuzz_message(std::string_view bytes) {
  const auto decoded = decode_message(bytes);
  if (!decoded) {
    const ErrorCode code = decoded.error().code;
    TIERCEL_CHECK(code == ErrorCode::kCorrupt || code == ErrorCode::kProtocol);
    return;
  }
  const std::string again =
      with_version(decoded->version, encode_message(decoded->message).value());
  const auto second = decode_message(again);
  TIERCEL_CHECK(second && second->version == decoded->version);
  TIERCEL_CHECK(second->message == decoded->message);
  const auto from_history = decode_history_message(decoded->version, bytes.substr(8));
  TIERCEL_CHECK(from_history && from_history->version == decoded->version);
  TIERCEL_CHECK(from_history->message == decoded->message);
}

}  // namespace
}  // namespace tiercel::serialization

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tiercel::serialization;
  const std::string_view bytes{reinterpret_cast<const char*>(data), size};
  fuzz_value(bytes);
  fuzz_message(bytes);
  const std::string_view segment = bytes.substr(0, size / 8 * 8);
  const std::size_t shift = size % 8;
  fuzz_value(ExactCopy{with_segment(kValueKind, segment), shift}.view());
  fuzz_message(ExactCopy{with_segment(kMessageKind, segment), shift}.view());
  return 0;
}
