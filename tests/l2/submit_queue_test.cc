// The queue without a loop: what was pushed is what is taken, memory is used again, bounds are
// exact.

#include "submit_queue.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tiercel/base/random.h"

namespace tiercel::l2 {
namespace {

using Verdict = SubmitQueue::Verdict;
constexpr TimePoint kNow{std::chrono::hours{1}};
constexpr SubmitQueue::Bounds kWide{1 << 20, std::size_t{1} << 30};

Verdict push(SubmitQueue& queue, std::string_view bytes, TimePoint deadline = TimePoint{}) {
  ViewCallback callback{[](const Result<ReplyView>&) {}};
  const Verdict verdict = queue.push(
      {.bytes = bytes.size(), .retry = Retry::kSafe, .deadline = deadline, .script = nullptr},
      callback, [bytes](char* out) { std::memcpy(out, bytes.data(), bytes.size()); });
  const bool is_accepted = verdict == Verdict::kAccepted || verdict == Verdict::kAcceptedFirst;
  EXPECT_EQ(static_cast<bool>(callback), !is_accepted);
  return verdict;
}

void finish(SubmitQueue& queue, PendingCommand* command) {
  queue.release(*command);
  queue.recycle(command);
}

TEST(SubmitQueue, SaysWhenTheLoopMustBeTold) {
  SubmitQueue queue{kWide};
  EXPECT_EQ(push(queue, "a"), Verdict::kAcceptedFirst);
  EXPECT_EQ(push(queue, "b"), Verdict::kAccepted);
  auto taken = queue.take();
  ASSERT_EQ(taken.commands.size(), 2u);
  EXPECT_EQ(push(queue, "c"), Verdict::kAcceptedFirst);
  EXPECT_EQ(taken.commands.front()->wire(), "a");
  while (!taken.commands.empty()) finish(queue, taken.commands.pop_front());
  taken = queue.close();
  ASSERT_EQ(taken.commands.size(), 1u);
  finish(queue, taken.commands.pop_front());
  EXPECT_EQ(push(queue, "d"), Verdict::kClosed);
  EXPECT_EQ(queue.waiting(), 0u);
  EXPECT_EQ(queue.submitted(), 3u);
}

TEST(SubmitQueue, BoundsAreExact) {
  SubmitQueue queue{{3, 100}};
  EXPECT_EQ(push(queue, std::string(101, 'x')), Verdict::kTooLarge);
  EXPECT_EQ(push(queue, std::string(60, 'x')), Verdict::kAcceptedFirst);
  EXPECT_EQ(push(queue, std::string(41, 'x')), Verdict::kTooManyBytes);
  EXPECT_EQ(push(queue, std::string(40, 'x')), Verdict::kAccepted);
  auto taken = queue.take();
  finish(queue, taken.commands.pop_front());
  EXPECT_EQ(push(queue, std::string(30, 'x')), Verdict::kAcceptedFirst);
  EXPECT_EQ(push(queue, std::string(30, 'x')), Verdict::kAccepted);
  EXPECT_EQ(push(queue, ""), Verdict::kTooManyCommands);
  EXPECT_EQ(queue.waiting(), 3u);
  finish(queue, taken.commands.pop_front());
  EXPECT_EQ(push(queue, ""), Verdict::kAccepted);
  taken = queue.close();
  while (!taken.commands.empty()) finish(queue, taken.commands.pop_front());
}

TEST(SubmitQueue, BytesMayBeFilledToTheLast) {
  SubmitQueue queue{{9, 100}};
  EXPECT_EQ(push(queue, std::string(60, 'x')), Verdict::kAcceptedFirst);
  EXPECT_EQ(push(queue, std::string(40, 'x')), Verdict::kAccepted);
  auto taken = queue.take();
  finish(queue, taken.commands.pop_front());
  EXPECT_EQ(push(queue, std::string(60, 'x')), Verdict::kAcceptedFirst);
  EXPECT_EQ(push(queue, "x"), Verdict::kTooManyBytes);
  finish(queue, taken.commands.pop_front());
  taken = queue.close();
  while (!taken.commands.empty()) finish(queue, taken.commands.pop_front());
}

TEST(SubmitQueue, TellsTheEarliestDeadline) {
  SubmitQueue queue{kWide};
  const auto at = [](int seconds) { return TimePoint{std::chrono::seconds{seconds}}; };
  EXPECT_EQ(queue.take().deadline_min, TimePoint::max());
  static_cast<void>(push(queue, "a", at(7)));
  static_cast<void>(push(queue, "b", at(5)));
  static_cast<void>(push(queue, "c", at(6)));
  auto taken = queue.take();
  EXPECT_EQ(taken.deadline_min, at(5));
  while (!taken.commands.empty()) finish(queue, taken.commands.pop_front());
}

// Bytes stay what they were until their command is released, whatever is pushed meanwhile, and the
// same few commands and chunks serve for all of it. (Under asan also: no byte is touched too late.)
TEST(SubmitQueue, KeepsEveryCommandsBytesWhileItIsNeeded) {
  Random random{11};
  SubmitQueue queue{kWide};
  struct Expected {
    PendingCommand* command;
    std::string bytes;
  };
  std::deque<std::string> pushed;
  std::deque<Expected> in_use;
  std::set<const PendingCommand*> distinct;
  for (int round = 0; round < 3000; ++round) {
    for (std::uint64_t i = random.below(40); i > 0; --i) {
      const std::size_t size = random.below(50) == 0 ? random.below(200'000) : random.below(400);
      pushed.emplace_back(size, static_cast<char>('a' + random.below(26)));
      ASSERT_NE(push(queue, pushed.back()), Verdict::kTooLarge);
    }
    auto taken = queue.take();
    while (!taken.commands.empty()) {
      in_use.push_back({taken.commands.pop_front(), std::move(pushed.front())});
      pushed.pop_front();
      distinct.insert(in_use.back().command);
    }
    while (in_use.size() > 300 || (!in_use.empty() && random.below(20) != 0)) {
      // Mostly the oldest, as replies come; sometimes another.
      const std::size_t which = random.below(10) == 0 ? random.below(in_use.size()) : 0;
      const auto at = in_use.begin() + static_cast<std::ptrdiff_t>(which);
      ASSERT_EQ(at->command->wire(), at->bytes);
      finish(queue, at->command);
      in_use.erase(at);
    }
  }
  ASSERT_TRUE(pushed.empty());
  EXPECT_LE(distinct.size(), 700u);  // Of about 58,000.
  for (const Expected& left : in_use) {
    EXPECT_EQ(left.command->wire(), left.bytes);
    finish(queue, left.command);
  }
}

TEST(SubmitQueue, AUsedCommandForgetsItsPast) {
  SubmitQueue queue{kWide};
  for (int i = 0; i < 200; ++i) {  // More than are ever made.
    static_cast<void>(push(queue, "a"));
    auto taken = queue.take();
    PendingCommand* const command = taken.commands.pop_front();
    EXPECT_FALSE(command->was_unreadable || command->is_whole_script || command->is_in_bucket);
    EXPECT_EQ(command->place, PendingCommand::Place::kWaiting);
    EXPECT_EQ(command->script, nullptr);
    command->was_unreadable = command->is_whole_script = true;
    command->place = PendingCommand::Place::kReturned;
    finish(queue, command);
  }
}

TEST(SubmitQueue, APinnedChunkOutlivesItsCommand) {
  SubmitQueue queue{kWide};
  const std::string large(100'000, 'x');
  static_cast<void>(push(queue, large));
  auto taken = queue.take();
  PendingCommand* const command = taken.commands.pop_front();
  WriteChunk* const chunk = command->chunk;
  const char* const bytes = command->bytes;
  pin(chunk);
  finish(queue, command);
  // Whoever is given its memory now would write over it.
  static_cast<void>(push(queue, std::string(large.size(), 'y')));
  EXPECT_EQ(std::string_view(bytes, large.size()), large);
  unpin(chunk);
  taken = queue.take();
  finish(queue, taken.commands.pop_front());
}

TEST(SubmitQueue, IsBorrowedFromOnlyWhenNothingIsToBeSentBefore) {
  SubmitQueue queue{{2, 100}};
  EXPECT_FALSE(queue.borrow(1, kNow));
  EXPECT_TRUE(queue.offer({}));
  EXPECT_TRUE(queue.borrow(40, kNow));
  EXPECT_FALSE(queue.borrow(1, kNow));
  // It has a place under the bounds.
  EXPECT_EQ(queue.waiting(), 1u);
  EXPECT_EQ(push(queue, std::string(61, 'x')), Verdict::kTooManyBytes);
  EXPECT_EQ(push(queue, "a"), Verdict::kAcceptedFirst);
  EXPECT_EQ(push(queue, "b"), Verdict::kTooManyCommands);
  EXPECT_TRUE(queue.give_back(40));
  EXPECT_EQ(queue.direct_calls(), 1u);
  EXPECT_FALSE(queue.borrow(1, kNow));  // Something is submitted,
  auto taken = queue.take();
  EXPECT_FALSE(queue.borrow(1, kNow));  // or taken and not yet sent.
  EXPECT_EQ(queue.recall(), LoanState::kNone);
  EXPECT_FALSE(queue.collect(true));
  finish(queue, taken.commands.pop_front());
  EXPECT_EQ(push(queue, "c"), Verdict::kAcceptedFirst);
  EXPECT_FALSE(queue.offer({}));
  EXPECT_FALSE(queue.borrow(1, kNow));
  taken = queue.take();
  finish(queue, taken.commands.pop_front());
  EXPECT_EQ(queue.submitted(), 3u);
  EXPECT_EQ(queue.waiting(), 0u);
}

TEST(SubmitQueue, SaysWhetherTheSocketWasUsedAMomentAgo) {
  using std::chrono_literals::operator""us;
  SubmitQueue queue{kWide};
  const auto is_fresh_at = [&queue](TimePoint now) {
    const auto lent = queue.borrow(1, now);
    EXPECT_TRUE(lent);
    EXPECT_TRUE(queue.give_back(1));
    return lent->is_fresh;
  };
  EXPECT_TRUE(queue.offer({}));
  EXPECT_FALSE(is_fresh_at(kNow));
  EXPECT_TRUE(is_fresh_at(kNow + 99us));
  EXPECT_TRUE(is_fresh_at(kNow + 198us));
  EXPECT_FALSE(is_fresh_at(kNow + 298us));
  // Every eighth is looked at in any case.
  for (int i = 1; i < 24; ++i) EXPECT_EQ(is_fresh_at(kNow + 298us), i % 8 != 0);
  EXPECT_EQ(queue.recall(), LoanState::kNone);
  EXPECT_TRUE(queue.offer({}));
  EXPECT_FALSE(is_fresh_at(kNow + 299us));
}

TEST(SubmitQueue, ABorrowersCommandKeepsItsPlace) {
  SubmitQueue queue{kWide};
  EXPECT_TRUE(queue.offer({}));
  EXPECT_TRUE(queue.borrow(4, kNow));
  static_cast<void>(push(queue, "later"));
  auto taken = queue.take();
  EXPECT_EQ(queue.recall(), LoanState::kWanted);
  EXPECT_FALSE(queue.collect(false));
  EXPECT_FALSE(queue.give_back(4));
  queue.begin_return();
  ViewCallback callback{[](const Result<ReplyView>&) {}};
  std::thread borrower{[&] {
    queue.return_unanswered({.bytes = 4, .retry = Retry::kSafe, .deadline = {}, .script = nullptr},
                            "wire", callback, {}, {.written = 3});
  }};
  const auto returned = queue.collect(false);  // Waits: it has begun.
  borrower.join();
  ASSERT_TRUE(returned);
  EXPECT_FALSE(callback);
  EXPECT_EQ(returned->how.written, 3u);
  EXPECT_EQ(returned->command->wire(), "wire");
  PendingCommand* const later = taken.commands.pop_front();
  EXPECT_LT(returned->command->sequence, later->sequence);
  finish(queue, later);
  EXPECT_EQ(queue.waiting(), 1u);
  finish(queue, returned->command);
  EXPECT_EQ(queue.waiting(), 0u);
  EXPECT_EQ(queue.direct_calls(), 0u);
}

TEST(SubmitQueue, IsRecalledWhenNobodyBorrows) {
  SubmitQueue queue{kWide};
  EXPECT_TRUE(queue.offer({}));
  EXPECT_EQ(queue.recall_if_unused(), LoanState::kOffered);
  EXPECT_TRUE(queue.borrow(1, kNow));
  EXPECT_EQ(queue.recall_if_unused(), LoanState::kBorrowed);
  EXPECT_TRUE(queue.give_back(1));
  EXPECT_EQ(queue.recall_if_unused(), LoanState::kNone);
  EXPECT_FALSE(queue.borrow(1, kNow));
}

TEST(SubmitQueue, TakesFromManyThreadsEachInItsOrder) {
  constexpr int kThreads = 4;
  constexpr int kEach = 20'000;
  SubmitQueue queue{kWide};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&queue, t] {
      for (int i = 0; i < kEach; ++i) {
        static_cast<void>(push(queue, std::to_string(t) + ":" + std::to_string(i)));
      }
    });
  }
  std::vector<int> next(kThreads);
  int taken_in_all = 0;
  while (taken_in_all < kThreads * kEach) {
    auto taken = queue.take();
    while (!taken.commands.empty()) {
      PendingCommand* const command = taken.commands.pop_front();
      const std::string wire{command->wire()};
      const auto t = static_cast<std::size_t>(wire[0] - '0');
      EXPECT_EQ(std::stoi(wire.substr(2)), next[t]++);
      ++taken_in_all;
      finish(queue, command);
    }
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(queue.waiting(), 0u);
}

}  // namespace
}  // namespace tiercel::l2
