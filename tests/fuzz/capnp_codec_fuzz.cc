// Fuzzes CapnpCodec: bytes as they are, and bytes as a segment behind a good segment table. What is
// accepted is read to the last field, copied, and compared with what Cap'n Proto's own, checking
// reader sees. Where that throws, or AddressSanitizer objects, decode() accepted too much.
//
//   cmake -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DTIERCEL_BUILD_FUZZERS=ON
//   cmake --build build/fuzz --target capnp_codec_fuzz
//   mkdir -p corpus && build/fuzz/tests/fuzz/capnp_codec_fuzz -max_total_time=60 corpus

#include <capnp/message.h>
#include <kj/string.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "../serialization/hand_made.h"
#include "player.capnp.h"
#include "tiercel/base/check.h"
#include "tiercel/serialization/capnp_codec.h"

namespace tiercel::serialization {
namespace {

template <typename Schema>
void fuzz(std::string_view bytes) {
  const ExactCopy copy{bytes};
  const auto view = CapnpCodec<Schema>{}.decode(copy.view());
  if (!view) {
    TIERCEL_CHECK(view.error().code == ErrorCode::kCorrupt);
    return;
  }
  const auto* first = reinterpret_cast<const capnp::word*>(copy.view().data() + kCapnpTableBytes);
  const kj::ArrayPtr<const capnp::word> segment{first, (bytes.size() - kCapnpTableBytes) / 8};
  capnp::SegmentArrayMessageReader checking{kj::arrayPtr(&segment, 1)};
  const kj::String seen = kj::str(*view);
  TIERCEL_CHECK(seen == kj::str(checking.getRoot<Schema>()));
  CapnpValue<Schema> value;
  value.set(*view);
  const auto again = CapnpCodec<Schema>{}.encode(value);
  TIERCEL_CHECK(again.has_value());
  TIERCEL_CHECK(seen == kj::str(*CapnpCodec<Schema>{}.decode(*again)));
}

std::string behind_a_table(std::string_view segment) {
  std::string bytes(4, '\0');
  append_u32_le(bytes, static_cast<std::uint32_t>(segment.size() / 8));
  return bytes += segment;
}

}  // namespace
}  // namespace tiercel::serialization

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tiercel::serialization;
  const std::string_view bytes{reinterpret_cast<const char*>(data), size};
  fuzz<tiercel::game::Player>(bytes);
  const std::string framed = behind_a_table(bytes.substr(0, size / 8 * 8));
  fuzz<tiercel::game::Player>(framed);
  fuzz<tiercel::game::PlayerLater>(framed);
  return 0;
}
