#include "fleet/payload.h"

#include <gtest/gtest.h>

namespace tiercel::fleet {
namespace {

TEST(PayloadTest, ComesBackAsItWas) {
  const Payload payload{.writer = 15, .sequence = 4'000'000'000, .key_id = ~std::uint64_t{0}};
  const std::string bytes = encode_payload(payload);
  EXPECT_EQ(bytes.size(), kPayloadBytes);
  EXPECT_EQ(decode_payload(bytes), payload);
}

TEST(PayloadTest, RefusesDamage) {
  const std::string bytes = encode_payload({.writer = 1, .sequence = 2, .key_id = 3});
  EXPECT_EQ(decode_payload(""), std::nullopt);
  EXPECT_EQ(decode_payload(bytes.substr(1)), std::nullopt);
  EXPECT_EQ(decode_payload(bytes + "."), std::nullopt);
  for (const std::size_t place :
       {std::size_t{0}, std::size_t{3}, std::size_t{50}, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[place] = '?';
    EXPECT_EQ(decode_payload(damaged), std::nullopt) << place;
  }
}

}  // namespace
}  // namespace tiercel::fleet
