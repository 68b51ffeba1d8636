#include "tiercel/coherence/names.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tiercel/base/bytes.h"

namespace tiercel::coherence {
namespace {

using namespace std::string_literals;

Names names_of(std::string_view name_space) {
  auto names = Names::create(name_space);
  EXPECT_TRUE(names) << name_space;
  return std::move(names).value();
}

TEST(Names, AreAsDocumented) {
  const Names names = names_of("game-1.eu_west");
  EXPECT_EQ(names.value_key("player:42"), "game-1.eu_west:player:42");
  EXPECT_EQ(names.fill_key("player:42"), "game-1.eu_west/fill:player:42");
  EXPECT_EQ(names.lock_key("nightly"), "game-1.eu_west/lock:nightly");
  EXPECT_EQ(names.lock_number_key(), "game-1.eu_west/lock_number");
  EXPECT_EQ(names.history_key(), "game-1.eu_west/history");
  EXPECT_EQ(names.tags_key(), "game-1.eu_west/tags");
  EXPECT_EQ(names.lease_key(), "game-1.eu_west/lease");
  EXPECT_EQ(names.channel(), "game-1.eu_west/changes");
}

TEST(Names, KeepTheBytesOfAKey) {
  const Names names = names_of("n");
  EXPECT_EQ(names.value_key(""), "n:");
  EXPECT_EQ(names.value_key("\0\xff\n"s), "n:\0\xff\n"s);
  EXPECT_EQ(names.fill_key("\0"s), "n/fill:\0"s);
}

TEST(Names, RefuseABadNamespace) {
  for (const std::string& bad : {""s, ":"s, "/"s, "a:b"s, "a/b"s, "a b"s, " "s, "a\0b"s, "\0"s,
                                 "ä"s, "a*"s, "a{b}"s, "a\n"s, std::string(65, 'a')}) {
    const auto names = Names::create(bad);
    ASSERT_FALSE(names) << escape_bytes(bad);
    EXPECT_EQ(names.error().code, ErrorCode::kInvalidArgument);
    EXPECT_LT(names.error().message.size(), 300U);
  }
  EXPECT_FALSE(Names::create(std::string(1 << 20, 'a')));
}

TEST(Names, AcceptEveryAllowedCharacterAndTheLongestNamespace) {
  EXPECT_TRUE(Names::create("ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
  EXPECT_TRUE(Names::create("abcdefghijklmnopqrstuvwxyz0123456789._-"));
  EXPECT_TRUE(Names::create(std::string(kNamespaceBytesMax, 'a')));
  for (int c = 0; c < 256; ++c) {
    const std::string one(1, static_cast<char>(c));
    const bool allowed = (c < 0x80 && std::isalnum(c) != 0) || c == '.' || c == '_' || c == '-';
    EXPECT_EQ(Names::create(one).has_value(), allowed) << c;
  }
}

// Whatever the keys are, no two different things get one name: across kinds, keys and namespaces.
TEST(Names, NeverCollide) {
  const std::vector<std::string> name_spaces = {"a", "a.", "aa", "a-fill", "fill", "history", "b"};
  const std::vector<std::string> keys = {
      "",        "a",      ":",       "/",        "fill:",   "fill:a", "/fill:",
      "/fill:a", ":a",     "history", "/history", "changes", "tags",   "/tags",
      "lease",   "/lease", "a:a",     "a/fill:a", "\0"s,     ".:a",    "-fill:a"};
  std::map<std::string, std::string> owner_of;
  const auto claim = [&](const std::string& name, const std::string& owner) {
    const auto [place, is_new] = owner_of.emplace(name, owner);
    EXPECT_TRUE(is_new) << escape_bytes(name) << " is " << place->second << " and " << owner;
  };
  for (const auto& name_space : name_spaces) {
    const Names names = names_of(name_space);
    claim(names.history_key(), name_space + "'s history");
    claim(names.lock_number_key(), name_space + "'s lock number");
    claim(names.tags_key(), name_space + "'s tags");
    claim(names.lease_key(), name_space + "'s longest lease");
    claim(names.channel(), name_space + "'s channel");
    for (const auto& key : keys) {
      claim(names.value_key(key), name_space + "'s value of " + escape_bytes(key));
      claim(names.fill_key(key), name_space + "'s fill lease of " + escape_bytes(key));
      claim(names.lock_key(key), name_space + "'s lock " + escape_bytes(key));
    }
  }
}

}  // namespace
}  // namespace tiercel::coherence
