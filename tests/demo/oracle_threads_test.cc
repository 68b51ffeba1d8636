// The oracle under threads: a register that is always right must never be blamed, and one that is
// not must be. The register is an atomic word, so that a read of it cannot be stale.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "failover/board.h"
#include "fleet/oracle.h"
#include "fleet/seen_table.h"

namespace tiercel::failover {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kKeys = 4;
constexpr std::uint32_t kWritesPerKey = 3000;

struct Registers {
  std::array<std::atomic<std::uint32_t>, kKeys> sequence{};
};

Board make_board() {
  BoardConfig config;
  config.key_count = kKeys;
  config.log_capacity = kKeys * kWritesPerKey;
  config.lease_ms = 0;
  auto board = Board::create(config, {});
  return std::move(board).value();
}

std::uint64_t version_of(std::uint32_t key, std::uint32_t sequence) {
  return std::uint64_t{key} << 32 | sequence;
}

History everything() {
  std::vector<std::uint64_t> versions;
  for (std::uint32_t key = 0; key < kKeys; ++key) {
    for (std::uint32_t i = 1; i <= kWritesPerKey; ++i) versions.push_back(version_of(key, i));
  }
  return History{std::move(versions)};
}

void write_all(Board& board, Registers& registers, std::uint32_t key) {
  Oracle oracle{board.log()};
  for (std::uint32_t sequence = 1; sequence <= kWritesPerKey; ++sequence) {
    registers.sequence[key].store(sequence);
    ASSERT_TRUE(oracle.record_write(key, sequence, Outcome::kAcked, version_of(key, sequence),
                                    Clock::system().now()));
  }
}

Seen read_register(const Registers& registers, std::uint32_t key) {
  const std::uint32_t sequence = registers.sequence[key].load();
  return {.sequence = sequence, .version = sequence == 0 ? 0 : version_of(key, sequence)};
}

// Reads until every write has been seen.
void read_all(Board& board, const Registers& registers, SeenTable& seen) {
  Oracle oracle{board.log()};
  std::uint32_t complete = 0;
  while (complete < kKeys) {
    complete = 0;
    for (std::uint32_t key = 0; key < kKeys; ++key) {
      const Seen before = seen.newest(key);
      const TimePoint began_at = Clock::system().now();
      const Seen found = read_register(registers, key);
      oracle.judge_read(key, found, began_at, true);
      oracle.judge_order(key, before, found);
      seen.note(key, found);
      complete += found.sequence == kWritesPerKey ? 1U : 0U;
    }
    std::this_thread::yield();
  }
}

TEST(OracleThreadsTest, ARightRegisterIsNeverBlamed) {
  Board board = make_board();
  Registers registers;
  SeenTable seen;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) threads.emplace_back([&] { read_all(board, registers, seen); });
    for (std::uint32_t key = 0; key < kKeys; ++key) {
      threads.emplace_back([&, key] { write_all(board, registers, key); });
    }
  }
  const Verdict found = judge_run(board.log(), everything());
  EXPECT_EQ(found.stale_beyond_bound, 0U);
  EXPECT_EQ(found.monotonic_violations, 0U);
  // Nearly nothing: a core may read its clock a few instructions before or after it touches memory.
  EXPECT_LT(found.worst_staleness, 1ms);
  EXPECT_EQ(found.writes_lost, 0U);
  EXPECT_EQ(board.log().count(), kKeys * kWritesPerKey);
}

// Each stale reader holds on to what it has read first, as an L1 that misses its invalidations; by
// its own clock it reads an hour later, so that the outcome is no matter of timing.
TEST(OracleThreadsTest, StaleReadersAmongRightOnesAreCaught) {
  constexpr std::uint64_t kReadsEach = 500;
  Board board = make_board();
  Registers registers;
  SeenTable seen;
  const auto read_stale = [&] {
    Oracle oracle{board.log()};
    const Seen held{.sequence = 1, .version = version_of(0, 1)};
    while (read_register(registers, 0).sequence < kWritesPerKey) std::this_thread::yield();
    for (std::uint64_t i = 0; i < kReadsEach; ++i) {
      oracle.judge_read(0, held, Clock::system().now() + 1h, true);
    }
  };
  {
    std::vector<std::jthread> threads;
    threads.emplace_back(read_stale);
    threads.emplace_back(read_stale);
    threads.emplace_back([&] { read_all(board, registers, seen); });
    for (std::uint32_t key = 0; key < kKeys; ++key) {
      threads.emplace_back([&, key] { write_all(board, registers, key); });
    }
  }
  const Verdict found = judge_run(board.log(), everything());
  EXPECT_EQ(found.stale_beyond_bound, 2 * kReadsEach);
  EXPECT_EQ(found.monotonic_violations, 0U);
  EXPECT_GE(found.worst_staleness, 1h);
}

}  // namespace
}  // namespace tiercel::failover
