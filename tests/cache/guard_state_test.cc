// What Redis holds of a guard, and the script that extends it.

#include "guard_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "support/redis_server.h"
#include "tiercel/base/random.h"
#include "tiercel/coherence/guard_scripts.h"

namespace tiercel::testing {
namespace {

StoredGuard example() {
  return {.id = "0123456789abcdef",
          .branch = std::string(40, 'b'),
          .current = BloomHeader{.blocks = 5000, .keys_expected = 10, .generation = 3},
          .next = BloomHeader{.blocks = 7, .keys_expected = 10, .generation = 4, .bits_set = 1},
          .garbage = {{.blocks = 1, .keys_expected = 1, .generation = 2}}};
}

TEST(StoredGuard, ComesBackAsItWas) {
  for (StoredGuard guard : {example(), StoredGuard{.id = "0123456789abcdef"}}) {
    const auto decoded = decode_guard(encode_guard(guard));
    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_EQ(*decoded, guard);
    EXPECT_EQ(guard_id_of(encode_guard(guard)), guard.id);
  }
  EXPECT_EQ(example().newest_generation(), 4U);
}

TEST(StoredGuard, WhatIsDamagedIsRefused) {
  const std::string good = encode_guard(example());
  for (std::size_t size = 0; size < good.size(); ++size) {
    const auto decoded = decode_guard(good.substr(0, size));
    EXPECT_TRUE(!decoded) << size;
  }
  EXPECT_FALSE(decode_guard(good + "x"));
  std::string header = good;
  header[60] ^= 1;
  EXPECT_EQ(decode_guard(header).error().code, ErrorCode::kCorrupt);
  std::string newer = good;
  newer[7] = 2;
  EXPECT_EQ(decode_guard(newer).error().code, ErrorCode::kProtocol);
  EXPECT_EQ(guard_id_of(""), "");
  EXPECT_EQ(guard_id_of("short"), "");
}

class GuardScriptTest : public ::testing::Test {
 protected:
  std::string redis(const std::vector<std::string>& words) { return server_->command(words); }
  std::string tell(const std::vector<KeyHash>& hashes) {
    return redis({"EVAL", std::string{coherence::kGuardPrologue} + "return #KEYS * 10 + #ARGV", "2",
                  "mine", "g", "own", told_to_guard(hashes)});
  }
  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

// The numbers of Lua are exact enough for every number of blocks.
TEST_F(GuardScriptTest, SetsTheBitsThatTheFilterLooksAt) {
  Random random{1};
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t blocks = i < 20    ? (std::uint64_t{1} << 32) - random.below(3)
                                 : i < 100 ? 1 + random.below(std::uint64_t{1} << 32)
                                           : 1 + random.below(5000);
    const KeyHash hash{i % 20 == 0 ? ~std::uint64_t{0} : i % 20 == 1 ? 0 : random.next()};
    StoredGuard guard = example();
    guard.current->blocks = blocks;
    guard.next.reset();
    __extension__ using Wide = unsigned __int128;
    const auto block = static_cast<std::uint64_t>((Wide{hash.bits} * blocks) >> 64);
    const std::string chunk = chunk_key("g", 3, block / 1024);
    const std::size_t bytes = chunk_bytes_of(*guard.current, block / 1024);
    redis({"FLUSHALL"});
    redis({"SET", "g", encode_guard(guard)});
    redis({"SETRANGE", chunk, std::to_string(bytes - 1), std::string(1, '\0')});
    ASSERT_EQ(tell({hash}), "11") << "what it was given is gone";
    ASSERT_EQ(redis({"BITCOUNT", chunk}), "8") << blocks << ' ' << hash.bits;
    for (const std::uint16_t offset : BloomFilter::block_offsets(hash)) {
      ASSERT_EQ(redis({"GETBIT", chunk, std::to_string(block % 1024 * 512 + offset)}), "1");
    }
    ASSERT_EQ(redis({"GET", "g"}), encode_guard(guard));
  }
}

TEST_F(GuardScriptTest, SetsThoseOfManyKeysInBothFilters) {
  std::vector<KeyHash> hashes;
  for (int i = 0; i < 100; ++i) hashes.push_back(BloomFilter::hash_of(std::to_string(i)));
  const StoredGuard guard = example();
  redis({"SET", "g", encode_guard(guard)});
  for (const BloomHeader& header : {*guard.current, *guard.next}) {
    for (std::size_t chunk = 0; chunk < chunks_of(header); ++chunk) {
      redis({"SETRANGE", chunk_key("g", header.generation, chunk),
             std::to_string(chunk_bytes_of(header, chunk) - 1), std::string(1, '\0')});
    }
  }
  EXPECT_EQ(tell(hashes), "11");
  for (const BloomHeader& header : {*guard.current, *guard.next}) {
    const auto filter = BloomFilter::create(header, 1 << 20).value();
    for (std::size_t chunk = 0; chunk < chunks_of(header); ++chunk) {
      const std::string bytes = redis({"GET", chunk_key("g", header.generation, chunk)});
      EXPECT_TRUE(filter->merge_chunk(chunk, bytes));
    }
    const auto expected = BloomFilter::create(header, 1 << 20).value();
    expected->add_many(hashes);
    EXPECT_EQ(filter->bits_set(), expected->bits_set());
    for (const KeyHash hash : hashes) EXPECT_TRUE(filter->may_contain(hash));
  }
}

TEST_F(GuardScriptTest, AFilterWithoutItsChunkIsGarbage) {
  const StoredGuard guard = example();
  redis({"SET", "g", encode_guard(guard)});
  EXPECT_EQ(tell({KeyHash{1}}), "11");
  const auto left = decode_guard(redis({"GET", "g"}));
  ASSERT_TRUE(left) << left.error().to_string();
  EXPECT_NE(left->id, guard.id);
  EXPECT_FALSE(left->current);
  EXPECT_FALSE(left->next);
  EXPECT_EQ(left->garbage.size(), 3U);
  EXPECT_EQ(left->newest_generation(), 4U);
  EXPECT_EQ(redis({"KEYS", "*"}), "g");
}

// Who has seen something else must not overwrite what he has not seen.
TEST_F(GuardScriptTest, OnlyWhatWasSeenIsChanged) {
  const auto change = [&](const std::string& id, const std::string& text) {
    return redis({"EVAL", std::string{coherence::kGuardChangeScript}, "1", "g", id, text});
  };
  EXPECT_EQ(change(example().id, "new"), "0") << "there is none";
  EXPECT_EQ(change("", encode_guard(example())), "1");
  EXPECT_EQ(change("", "new"), "0") << "there is one";
  EXPECT_EQ(change("0123456789abcdeX", "new"), "0");
  EXPECT_EQ(change("0123456789abcdeX", ""), "0");
  EXPECT_EQ(redis({"GET", "g"}), encode_guard(example()));
  EXPECT_EQ(change(example().id, ""), "1");
  EXPECT_EQ(redis({"EXISTS", "g"}), "0");
}

TEST_F(GuardScriptTest, AChunkIsMergedWhereItIsMeantToBe) {
  const std::string ones(64, '\1');
  const std::string twos(64, '\2');
  const auto merge = [&](const std::string& id, const std::string& bytes) {
    return redis(
        {"EVAL", std::string{coherence::kGuardMergeScript}, "3", "g", "chunk", "other", id, bytes});
  };
  redis({"SET", "g", encode_guard(example())});
  EXPECT_EQ(merge(example().id, twos), "0") << "the chunk is not there: bits in it were lost";
  EXPECT_EQ(redis({"EXISTS", "chunk"}), "0");
  redis({"SET", "chunk", ones});
  EXPECT_EQ(merge(example().id, twos + twos), "0") << "of another length";
  EXPECT_EQ(merge("0123456789abcdeX", twos), "0") << "not of this filter";
  EXPECT_EQ(redis({"GET", "chunk"}), ones);
  EXPECT_EQ(merge(example().id, twos), "1");
  EXPECT_EQ(redis({"GET", "chunk"}), std::string(64, '\3'));
  EXPECT_EQ(redis({"EXISTS", "other"}), "0");
}

TEST_F(GuardScriptTest, ABuildersLeaseIsNobodyElses) {
  const auto tend = [&](const std::string& token, const std::string& life) {
    return redis({"EVAL", std::string{coherence::kGuardLeaseScript}, "1", "lease", token, life});
  };
  EXPECT_EQ(tend("mine", "60000"), "0") << "it has run out";
  redis({"SET", "lease", "mine", "PX", "600000"});
  EXPECT_EQ(tend("theirs", "60000000"), "0");
  EXPECT_EQ(tend("theirs", "0"), "0");
  EXPECT_LE(std::stol(redis({"PTTL", "lease"})), 600'000);
  EXPECT_EQ(tend("mine", "60000000"), "1");
  EXPECT_GT(std::stol(redis({"PTTL", "lease"})), 600'000);
  EXPECT_EQ(tend("mine", "0"), "1");
  EXPECT_EQ(redis({"EXISTS", "lease"}), "0");
}

TEST_F(GuardScriptTest, WhatItDoesNotUnderstandGoes) {
  for (std::string text : {std::string{"something"}, encode_guard(example()).substr(0, 100),
                           "\xF1TCLBGS\x02" + encode_guard(example()).substr(8)}) {
    redis({"SET", "g", text});
    EXPECT_EQ(tell({KeyHash{1}}), "11");
    EXPECT_FALSE(decode_guard(redis({"GET", "g"}))) << text.size();
  }
  redis({"DEL", "g"});
  EXPECT_EQ(tell({KeyHash{1}}), "11");
  EXPECT_EQ(redis({"EXISTS", "g"}), "0");
}

}  // namespace
}  // namespace tiercel::testing
