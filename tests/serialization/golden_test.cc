// Golden files pin the bytes of each wire version. If one of these tests fails, values already in
// Redis and instances already deployed speak another format than this build: raise the format
// version instead of changing the file. TIERCEL_UPDATE_GOLDEN=1 rewrites the files;
// docs/wire_format.md shows them and is compared too.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "hand_made.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/message.h"

namespace tiercel::serialization {
namespace {

constexpr std::uint64_t kVersion = 0x0102030405060708;

TagSlots make_slots() {
  const std::array<std::string_view, 2> tags{"team:7", "season:3"};
  return TagSlots::of(tags).value();
}

const Envelope kEnvelope{.negative = false,
                         .tombstone = true,
                         .soft_ttl = std::chrono::milliseconds{1'000},
                         .hard_ttl = std::chrono::milliseconds{60'000},
                         .codec_id = 16,
                         .tag_slots = make_slots(),
                         .payload = "Hello, Tiercel!"};

Message make_message() {
  return {.origin = 0x1112131415161718,
          .nonce = 42,
          .kind = MessageKind::kFillDone,
          .keys = {"user:1234"},
          .value = "hi"};
}

std::string read_file(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  EXPECT_TRUE(file) << "cannot read " << path;
  return {std::istreambuf_iterator<char>{file}, {}};
}

bool update_wanted() {
  const char* wanted = std::getenv("TIERCEL_UPDATE_GOLDEN");
  return wanted != nullptr && std::string_view{wanted} == "1";
}

// The golden bytes, after comparing them with `encoded` or, if that is wanted, replacing them.
std::string golden(const char* name, const std::string& encoded) {
  const std::string path = std::string{TIERCEL_GOLDEN_DIR} + "/" + name;
  if (update_wanted()) {
    std::ofstream file{path, std::ios::binary | std::ios::trunc};
    file << encoded;
    EXPECT_TRUE(file.flush()) << "cannot write " << path;
  }
  std::string bytes = read_file(path);
  EXPECT_EQ(escape_bytes(bytes), escape_bytes(encoded)) << name;
  return bytes;
}

// The bytes of the fenced block that begins with "```hexdump NAME": 16 bytes a line, an offset
// before them and "|text|" behind.
std::string bytes_in_page(const std::string& name) {
  std::istringstream page{read_file(TIERCEL_WIRE_FORMAT_PAGE)};
  std::string bytes;
  std::string line;
  bool inside = false;
  while (std::getline(page, line)) {
    if (inside && line == "```") break;
    if (inside) {
      std::istringstream words{line.substr(0, line.find('|'))};
      std::string word;
      words >> word;
      EXPECT_EQ(std::stoul(word, nullptr, 16), bytes.size()) << line;
      while (words >> word) bytes += static_cast<char>(std::stoul(word, nullptr, 16));
    }
    if (line == "```hexdump " + name) inside = true;
  }
  EXPECT_TRUE(inside) << "docs/wire_format.md does not show " << name;
  return bytes;
}

TEST(GoldenTest, ValueVersion1) {
  const std::string bytes =
      golden("value_v1.bin", with_version(kVersion, encode_envelope(kEnvelope).value()));
  const auto decoded = decode_value(bytes);
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_FALSE(decoded->foreign);
  EXPECT_EQ(decoded->version, kVersion);
  EXPECT_EQ(decoded->envelope.negative, kEnvelope.negative);
  EXPECT_EQ(decoded->envelope.tombstone, kEnvelope.tombstone);
  EXPECT_EQ(decoded->envelope.soft_ttl, kEnvelope.soft_ttl);
  EXPECT_EQ(decoded->envelope.hard_ttl, kEnvelope.hard_ttl);
  EXPECT_EQ(decoded->envelope.codec_id, kEnvelope.codec_id);
  EXPECT_TRUE(decoded->envelope.tag_slots == kEnvelope.tag_slots);
  EXPECT_EQ(decoded->envelope.payload, kEnvelope.payload);
}

TEST(GoldenTest, MessageVersion1) {
  const std::string bytes =
      golden("message_v1.bin", with_version(kVersion, encode_message(make_message()).value()));
  const auto decoded = decode_message(bytes);
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_EQ(decoded->version, kVersion);
  EXPECT_TRUE(decoded->message == make_message());
}

TEST(GoldenTest, TheWireFormatPageShowsTheGoldenFiles) {
  for (const char* name : {"value_v1.bin", "message_v1.bin"}) {
    const std::string file = read_file(std::string{TIERCEL_GOLDEN_DIR} + "/" + name);
    EXPECT_EQ(escape_bytes(bytes_in_page(name)), escape_bytes(file)) << name;
  }
}

}  // namespace
}  // namespace tiercel::serialization
