#include "tiercel/base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

TEST(Result, HoldsAValue) {
  Result<int> result = 42;
  ASSERT_TRUE(result);
  EXPECT_TRUE(result.has_value());
  EXPECT_EQ(*result, 42);
  EXPECT_EQ(result.value(), 42);
  *result = 43;
  EXPECT_EQ(std::as_const(result).value(), 43);
}

TEST(Result, HoldsAnError) {
  const Result<int> result = unavailable("no route", "127.0.0.1:1");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), (Error{ErrorCode::kUnavailable, "no route", "127.0.0.1:1"}));
}

TEST(Result, MovesItsValueOut) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(7);
  std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 7);
  EXPECT_TRUE(result.has_value()) << "a moved-from value is still a value";
  EXPECT_EQ(*result, nullptr);

  Result<std::unique_ptr<int>> again = std::move(taken);
  Result<std::unique_ptr<int>> moved = std::move(again);
  EXPECT_EQ(**moved, 7);
  std::unique_ptr<int> dereferenced = *std::move(moved);
  EXPECT_EQ(*dereferenced, 7);
}

TEST(Result, MovesItsErrorOut) {
  Result<int> result = corrupt(std::string(100, 'x'));
  const Error error = std::move(result).error();
  EXPECT_EQ(error.message, std::string(100, 'x'));
  EXPECT_FALSE(result.has_value());
}

TEST(Result, IsAssignedFromEitherSideToEitherSide) {
  Result<std::string> result = std::string{"one"};
  result = closed("shut");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kClosed);
  result = std::string{"two"};
  ASSERT_TRUE(result);
  EXPECT_EQ(*result, "two");
  const Result<std::string> copy = result;
  EXPECT_EQ(*copy, *result);
}

TEST(Result, ConvertsAValueIntoAnOptional) {
  const auto found = []() -> Result<std::optional<std::string>> { return std::string{"v"}; }();
  ASSERT_TRUE(found);
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ(**found, "v");

  const auto miss = []() -> Result<std::optional<std::string>> { return std::nullopt; }();
  ASSERT_TRUE(miss) << "a miss is not an error";
  EXPECT_FALSE(miss->has_value());

  const auto failed = []() -> Result<std::optional<std::string>> { return internal("bug"); }();
  EXPECT_FALSE(failed);
}

TEST(Result, ConvertsFromWhatItsValueConvertsFrom) {
  const Result<std::string> text = "literal";
  EXPECT_EQ(*text, "literal");
  struct Base {
    virtual ~Base() = default;
    [[nodiscard]] virtual int number() const { return 1; }
  };
  struct Derived final : Base {
    [[nodiscard]] int number() const override { return 2; }
  };
  const Result<std::unique_ptr<Base>> object = std::make_unique<Derived>();
  EXPECT_EQ((*object)->number(), 2);
}

TEST(Result, DoesNotConvertFromTheUnrelated) {
  static_assert(!std::is_convertible_v<std::vector<int>, Result<int>>);
  static_assert(!std::is_convertible_v<Result<int>, int>);
  static_assert(!std::is_convertible_v<Result<int>, bool>, "only in a condition");
  static_assert(!std::is_constructible_v<Result<int>, std::string>);
  // An explicit constructor stays explicit: 5 is no vector of five.
  static_assert(!std::is_convertible_v<int, Result<std::vector<int>>>);
}

TEST(Result, ArrowReachesTheMembers) {
  Result<std::string> result = std::string{"abc"};
  EXPECT_EQ(result->size(), 3U);
  result->push_back('d');
  EXPECT_EQ(std::as_const(result)->size(), 4U);
}

TEST(Result, ValueOrTakesTheFallbackOnlyWithoutAValue) {
  EXPECT_EQ(Result<int>{1}.value_or(2), 1);
  EXPECT_EQ((Result<int>{overloaded("full")}.value_or(2)), 2);
  const Result<std::string> none = overloaded("full");
  EXPECT_EQ(none.value_or("fallback"), "fallback");
}

TEST(Result, OfVoidIsSuccessOrAnError) {
  const Result<void> fine;
  EXPECT_TRUE(fine);
  EXPECT_TRUE(fine.has_value());
  const Result<void> failed = protocol_error("gibberish", "h:1");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().endpoint, "h:1");
  const auto braces = []() -> Result<void> { return {}; }();
  EXPECT_TRUE(braces);
}

TEST(ResultDeathTest, ReadingTheWrongSideAborts) {
  Result<int> failed = unavailable("gone");
  const Result<int> fine = 1;
  EXPECT_DEATH(static_cast<void>(failed.value()), "check failed: has_value");
  EXPECT_DEATH(static_cast<void>(*failed), "check failed: has_value");
  EXPECT_DEATH(static_cast<void>(*std::as_const(failed)), "check failed: has_value");
  EXPECT_DEATH(static_cast<void>(std::move(failed).value()), "check failed: has_value");
  EXPECT_DEATH(static_cast<void>(fine.error()), "check failed: !has_value");
  const Result<std::string> text = unavailable("gone");
  EXPECT_DEATH(static_cast<void>(text->size()), "check failed: has_value");
  const Result<void> nothing;
  EXPECT_DEATH(static_cast<void>(nothing.error()), "check failed");
}

}  // namespace
}  // namespace tiercel
