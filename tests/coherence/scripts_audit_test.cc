// What the auditor asks.

#include "scripts_fixture.h"

namespace tiercel::coherence {
namespace {

class ScriptsAuditTest : public ScriptsTest {
 protected:
  RedisReply audit(const std::string& key, const std::vector<std::string>& slots = {}) {
    std::vector<std::string> arguments{"40"};
    arguments.insert(arguments.end(), slots.begin(), slots.end());
    return run(kAuditScript, {names_.value_key(key), names_.tags_key()}, arguments);
  }
  std::string newest() { return run(kNewestScript, {names_.history_key()}, {}).text; }
};

TEST_F(ScriptsAuditTest, TellsTheNewestEntryOfTheHistory) {
  EXPECT_EQ(newest(), "");
  EXPECT_EQ(newest(), to_stream_id(write("a", "1")));
  EXPECT_EQ(newest(), to_stream_id(write("b", "1")));
}

TEST_F(ScriptsAuditTest, TellsWhatIsThere) {
  EXPECT_TRUE(audit("k").elements[1].is_nil());
  const Version version = write("k", "envelope");
  RedisReply reply = audit("k");
  EXPECT_EQ(reply.elements[0].integer, 16);
  EXPECT_EQ(reply.elements[1].text, bytes_of(version) + "envelope");
  command({"SET", names_.value_key("k"), ""});
  EXPECT_FALSE(audit("k").elements[1].is_nil()) << "empty is not absent";
}

TEST_F(ScriptsAuditTest, TellsTheHeadOfWhatIsLarge) {
  command({"SET", names_.value_key("k"), std::string(40, 'x')});
  EXPECT_EQ(audit("k").elements[1].text.size(), 40U);
  command({"SET", names_.value_key("k"), std::string(41, 'x')});
  const RedisReply reply = audit("k");
  EXPECT_EQ(reply.elements[0].integer, 41);
  EXPECT_EQ(reply.elements[1].text.size(), 33U);
}

TEST_F(ScriptsAuditTest, TellsAnotherTypeApart) {
  command({"RPUSH", names_.value_key("k"), "x"});
  const RedisReply reply = audit("k");
  ASSERT_EQ(reply.elements.size(), 3U) << reply.to_text();
  EXPECT_EQ(reply.elements[0].integer, -1);
  EXPECT_TRUE(reply.elements[1].is_nil());
}

TEST_F(ScriptsAuditTest, TellsTheTagsAndMakesNoBase) {
  EXPECT_TRUE(audit("k", {"7"}).elements[2].elements[0].is_nil());
  EXPECT_FALSE(tag_field("base")) << "an auditor changes nothing";
  const Version invalidated = invalidate_tags({"7"});
  const RedisReply reply = audit("k", {"6", "7"});
  ASSERT_EQ(reply.elements[2].elements.size(), 3U);
  EXPECT_EQ(version_of(reply.elements[2].elements[0]), invalidated);
  EXPECT_TRUE(reply.elements[2].elements[1].is_nil());
  EXPECT_EQ(version_of(reply.elements[2].elements[2]), invalidated);
}

}  // namespace
}  // namespace tiercel::coherence
