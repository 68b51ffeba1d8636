#include "tiercel/base/unique_function.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

// Counts the objects alive; `Words` decides whether it lives inside the function or on the heap.
template <std::size_t Words, bool NoexceptMove = true>
class Counted {
 public:
  explicit Counted(int& alive) : alive_(&alive) { ++*alive_; }
  Counted(Counted&& other) noexcept(NoexceptMove) : alive_(other.alive_) { ++*alive_; }
  Counted(const Counted& other) : alive_(other.alive_) { ++*alive_; }
  Counted& operator=(Counted&&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --*alive_; }

  int operator()() const { return *alive_; }

 private:
  int* alive_;
  [[maybe_unused]] std::array<void*, Words - 1> padding_{};
};

using Small = Counted<6>;
using Large = Counted<7>;
using ThrowingMove = Counted<2, false>;

template <typename T>
class UniqueFunctionOf : public ::testing::Test {};
using Sizes = ::testing::Types<Counted<2>, Small, Large, Counted<64>, ThrowingMove>;
TYPED_TEST_SUITE(UniqueFunctionOf, Sizes);

TYPED_TEST(UniqueFunctionOf, DestroysItsCallableExactlyOnce) {
  int alive = 0;
  {
    UniqueFunction<int()> function{TypeParam{alive}};
    EXPECT_EQ(alive, 1);
    EXPECT_EQ(function(), 1);
    UniqueFunction<int()> moved{std::move(function)};
    EXPECT_EQ(alive, 1);
    EXPECT_FALSE(function);  // NOLINT(bugprone-use-after-move): that is the point.
    EXPECT_TRUE(moved);
    EXPECT_EQ(moved(), 1);
  }
  EXPECT_EQ(alive, 0);
}

TYPED_TEST(UniqueFunctionOf, AssignmentDestroysWhatItHeld) {
  int first = 0;
  int second = 0;
  UniqueFunction<int()> a{TypeParam{first}};
  UniqueFunction<int()> b{TypeParam{second}};
  a = std::move(b);
  EXPECT_EQ(first, 0);
  EXPECT_EQ(second, 1);
  EXPECT_EQ(a(), 1);
  a = nullptr;
  EXPECT_EQ(second, 0);
  EXPECT_FALSE(a);
  a = TypeParam{first};
  EXPECT_EQ(a(), 1);
}

TYPED_TEST(UniqueFunctionOf, AssignmentToItselfKeepsIt) {
  int alive = 0;
  UniqueFunction<int()> function{TypeParam{alive}};
  auto& same = function;
  function = std::move(same);
  ASSERT_TRUE(function);
  EXPECT_EQ(function(), 1);
}

TYPED_TEST(UniqueFunctionOf, TakesACallableByReferenceAsACopy) {
  int alive = 0;
  const TypeParam callable{alive};
  UniqueFunction<int()> function{callable};
  EXPECT_EQ(alive, 2);
  EXPECT_EQ(function(), 2);
}

TYPED_TEST(UniqueFunctionOf, MovesInAVector) {
  int alive = 0;
  std::vector<UniqueFunction<int()>> functions;
  for (int i = 0; i < 100; ++i) functions.emplace_back(TypeParam{alive});
  EXPECT_EQ(alive, 100);
  for (auto& function : functions) EXPECT_EQ(function(), 100);
  functions.erase(functions.begin(), functions.begin() + 50);
  EXPECT_EQ(alive, 50);
}

TEST(UniqueFunction, OwnsWhatItCaptures) {
  auto number = std::make_unique<int>(5);
  UniqueFunction<int(int)> add = [number = std::move(number)](int other) {
    *number += other;
    return *number;
  };
  EXPECT_EQ(add(1), 6);
  UniqueFunction<int(int)> moved = std::move(add);
  EXPECT_EQ(moved(1), 7);
  static_assert(!std::is_copy_constructible_v<UniqueFunction<void()>>);
  static_assert(!std::is_copy_assignable_v<UniqueFunction<void()>>);
  static_assert(std::is_nothrow_move_constructible_v<UniqueFunction<void()>>);
  static_assert(std::is_nothrow_move_assignable_v<UniqueFunction<void()>>);
}

TEST(UniqueFunction, ForwardsArgumentsAndResults) {
  UniqueFunction<std::unique_ptr<int>(std::unique_ptr<int>)> pass = [](std::unique_ptr<int> given) {
    ++*given;
    return given;
  };
  EXPECT_EQ(*pass(std::make_unique<int>(1)), 2);

  int number = 1;
  UniqueFunction<int&(int&)> same = [](int& given) -> int& { return given; };
  EXPECT_EQ(&same(number), &number);

  UniqueFunction<std::size_t(std::string)> by_value = [](const std::string& text) {
    return text.size();
  };
  const std::string text = "abc";
  EXPECT_EQ(by_value(text), 3U);
}

TEST(UniqueFunction, ForVoidDropsTheResult) {
  int calls = 0;
  UniqueFunction<void()> function = [&calls] { return ++calls; };
  function();
  EXPECT_EQ(calls, 1);
}

TEST(UniqueFunction, ConvertsTheResult) {
  UniqueFunction<std::string()> function = [] { return "literal"; };
  EXPECT_EQ(function(), "literal");
}

int twice(int number) { return 2 * number; }

TEST(UniqueFunction, TakesAFunctionAndAMember) {
  UniqueFunction<int(int)> function = twice;
  EXPECT_EQ(function(4), 8);
  UniqueFunction<int(int)> pointer = &twice;
  EXPECT_EQ(pointer(5), 10);
}

TEST(UniqueFunction, KeepsOverAlignedCallablesAligned) {
  struct alignas(64) Aligned {
    std::uint64_t operator()() const { return reinterpret_cast<std::uintptr_t>(this) % 64; }
  };
  UniqueFunction<std::uint64_t()> function = Aligned{};
  EXPECT_EQ(function(), 0U);
  UniqueFunction<std::uint64_t()> moved = std::move(function);
  EXPECT_EQ(moved(), 0U);
}

TEST(UniqueFunction, AnEmptyOneIsFalse) {
  const UniqueFunction<void()> none{};
  EXPECT_FALSE(none);
  const UniqueFunction<void()> null = nullptr;
  EXPECT_FALSE(null);
  UniqueFunction<void()> from;
  const UniqueFunction<void()> to = std::move(from);
  EXPECT_FALSE(to);
}

TEST(UniqueFunction, AThrowingCallableStaysWhole) {
  int alive = 0;
  {
    UniqueFunction<void(bool)> function = [counted = Small{alive}](bool fail) {
      if (fail) throw std::runtime_error{"asked to"};
    };
    EXPECT_THROW(function(true), std::runtime_error);
    function(false);
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(alive, 0);
}

// A chain whose head is replaced by its own tail: the old head, which owns the tail, must not be
// destroyed before the tail is out of it.
TEST(UniqueFunction, MayBeReplacedByWhatItOwns) {
  for (const bool on_heap : {false, true}) {
    int alive = 0;
    auto tail = std::make_unique<UniqueFunction<int()>>(
        [counted = Small{alive}, on_heap] { return on_heap ? 2 : 1; });
    auto* inside = tail.get();
    UniqueFunction<int()> head;
    if (on_heap) {
      head = [tail = std::move(tail), padding = std::array<int, 16>{}] { return padding[0]; };
    } else {
      head = [tail = std::move(tail)] { return 0; };
    }
    head = std::move(*inside);
    ASSERT_TRUE(head);
    EXPECT_EQ(head(), on_heap ? 2 : 1);
    EXPECT_EQ(alive, 1);
    head = nullptr;
    EXPECT_EQ(alive, 0);
  }
}

TEST(UniqueFunctionDeathTest, CallingAnEmptyOneAborts) {
  UniqueFunction<void()> none;
  EXPECT_DEATH(none(), "check failed");
  UniqueFunction<void()> from = [] {};
  const UniqueFunction<void()> to = std::move(from);
  EXPECT_DEATH(from(), "check failed");  // NOLINT(bugprone-use-after-move)
}

}  // namespace
}  // namespace tiercel
