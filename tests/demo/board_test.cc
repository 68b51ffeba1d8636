#include "failover/board.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "fleet/oracle.h"

namespace tiercel::failover {
namespace {

BoardConfig small_config() {
  BoardConfig config;
  config.key_count = 10;
  config.instances = 2;
  config.log_capacity = 4;
  return config;
}

TEST(BoardTest, AnotherMappingSeesTheSameBoard) {
  auto board = Board::create(small_config(), {});
  ASSERT_TRUE(board);
  auto other = Board::attach(board->fd());
  ASSERT_TRUE(other);
  EXPECT_EQ(other->config().key_count, 10U);

  Oracle oracle{board->log()};
  ASSERT_TRUE(oracle.record_write(3, 1, Outcome::kAcked, 77, TimePoint{Duration{5}}));
  board->state().phase = Phase::kQuiet;

  EXPECT_EQ(other->phase(), Phase::kQuiet);
  ASSERT_EQ(other->log().count(), 1U);
  const std::uint32_t newest = other->log().newest(3).load();
  ASSERT_NE(newest, kNoRecord);
  EXPECT_EQ(other->log().record(newest).version, 77U);
  EXPECT_EQ(other->log().newest(4).load(), kNoRecord);
}

TEST(BoardTest, KeysAreTheirOwnIdsWithoutATrace) {
  const auto board = Board::create(small_config(), {});
  ASSERT_TRUE(board);
  EXPECT_EQ(board->id_of_key(9), 9U);
  EXPECT_EQ(board->key_of_id(9), 9U);
  EXPECT_EQ(board->key_of_id(10), std::nullopt);
}

TEST(BoardTest, KeysOfATraceAreFoundByTheirIds) {
  BoardConfig config = small_config();
  config.trace_bytes = 100;
  config.key_count = 3;
  const std::vector<std::uint64_t> ids{7, 1'000'000'000'000, ~std::uint64_t{0}};
  const auto board = Board::create(config, ids);
  ASSERT_TRUE(board);
  const auto other = Board::attach(board->fd());
  ASSERT_TRUE(other);
  for (std::uint32_t key = 0; key < 3; ++key) {
    EXPECT_EQ(other->id_of_key(key), ids[key]);
    EXPECT_EQ(other->key_of_id(ids[key]), key);
  }
  EXPECT_EQ(other->key_of_id(8), std::nullopt);
}

TEST(BoardTest, RefusesWhatIsNoBoard) {
  const auto refused = [](int fd) {
    const auto board = Board::attach(fd);
    return !board && board.error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused(-1));
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ASSERT_GE(null, 0);
  EXPECT_TRUE(refused(null));
  ::close(null);

  const int zeros = ::memfd_create("test", MFD_CLOEXEC);
  ASSERT_GE(zeros, 0);
  EXPECT_TRUE(refused(zeros));  // Too short, then long enough but without our mark.
  ASSERT_EQ(::ftruncate(zeros, 2 * static_cast<off_t>(sizeof(BoardState))), 0);
  EXPECT_TRUE(refused(zeros));
  ::close(zeros);

  const auto board = Board::create(small_config(), {});  // And one that was cut short.
  ASSERT_TRUE(board);
  ASSERT_EQ(::ftruncate(board->fd(), static_cast<off_t>(sizeof(BoardState))), 0);
  EXPECT_TRUE(refused(board->fd()));
}

TEST(BoardTest, AFullLogRefusesAndCounts) {
  auto board = Board::create(small_config(), {});
  ASSERT_TRUE(board);
  Oracle oracle{board->log()};
  for (std::uint32_t i = 1; i <= 4; ++i) {
    EXPECT_TRUE(oracle.record_write(0, i, Outcome::kAcked, i, TimePoint{Duration{i}}));
  }
  EXPECT_FALSE(oracle.record_write(0, 5, Outcome::kAcked, 5, TimePoint{Duration{5}}));
  EXPECT_FALSE(oracle.record_write(1, 1, Outcome::kAcked, 6, TimePoint{Duration{6}}));
  EXPECT_EQ(board->log().count(), 4U);
  EXPECT_EQ(board->log().header().records_refused.load(), 2U);
  EXPECT_EQ(board->log().record(board->log().newest(0).load()).sequence, 4U);
  EXPECT_EQ(board->log().newest(1).load(), kNoRecord);
}

}  // namespace
}  // namespace tiercel::failover
