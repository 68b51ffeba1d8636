// Conditional writes, tags, clear, fences, copies, pushed values; each over a real Redis.

#include "cache_fixture.h"
#include "support/redis_server.h"

namespace tiercel::testing {
namespace {

class WriteOptionsTest : public ::testing::Test {
 protected:
  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    options.redis_url = server_->url();
    return open_ready(std::move(options));
  }

  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

ErrorCode code_of_write(const WriteResult& result) {
  return result ? ErrorCode::kInternal : result.error().code;
}

TEST_F(WriteOptionsTest, AConditionThatDoesNotHoldChangesNothing) {
  const auto cache = open();
  const auto first = cache->set("k", "1", {.if_version = WriteOptions::kAbsent});
  ASSERT_TRUE(first) << first.error().to_string();
  const auto again = cache->set("k", "2", {.if_version = WriteOptions::kAbsent});
  EXPECT_EQ(code_of_write(again), ErrorCode::kConflict);
  EXPECT_NE(again.error().message.find(std::to_string(first->version)), std::string::npos)
      << again.error().message;
  const auto second = cache->set("k", "2", {.if_version = first->version});
  ASSERT_TRUE(second) << second.error().to_string();
  EXPECT_EQ(code_of_write(cache->set("k", "3", {.if_version = first->version})),
            ErrorCode::kConflict);
  EXPECT_EQ(read_value(*cache, "k"), "2");
  EXPECT_EQ(code_of_write(cache->set("none", "v", {.if_version = second->version})),
            ErrorCode::kConflict);
}

TEST_F(WriteOptionsTest, AConditionSeesThatATagWasInvalidated) {
  const auto cache = open();
  const auto first = cache->set("k", "1", {.tags = {"red"}});
  ASSERT_TRUE(first) << first.error().to_string();
  ASSERT_TRUE(cache->invalidate_tag("red", {.timeout = kPatience}));
  EXPECT_EQ(code_of_write(cache->set("k", "2", {.if_version = first->version})),
            ErrorCode::kConflict);
  const auto anew = cache->set("k", "3", {.if_version = WriteOptions::kAbsent});
  ASSERT_TRUE(anew) << anew.error().to_string();
  EXPECT_EQ(read_value(*cache, "k"), "3");
  ASSERT_TRUE(cache->clear({.timeout = kPatience}));
  EXPECT_TRUE(cache->set("k", "4", {.if_version = WriteOptions::kAbsent}));
}

TEST_F(WriteOptionsTest, OfManyWhoAddOneEachNoneIsLost) {
  const auto one = open();
  const auto other = open();
  constexpr int kEach = 50;
  const auto add = [](Cache& cache) {
    for (int done = 0; done < kEach;) {
      const auto read = cache.get("n", {.timeout = kPatience, .freshness = Freshness::latest()});
      ASSERT_TRUE(read);
      const int value = *read ? std::stoi((*read)->to_string()) : 0;
      const auto version = *read ? (*read)->version() : WriteOptions::kAbsent;
      const auto written =
          cache.set("n", std::to_string(value + 1), {.timeout = kPatience, .if_version = version});
      if (written) ++done;
      ASSERT_TRUE(written || written.error().code == ErrorCode::kConflict);
    }
  };
  std::thread beside{[&] { add(*other); }};
  add(*one);
  beside.join();
  EXPECT_TRUE(poll_until([&] { return read_value(*one, "n") == std::to_string(2 * kEach); }));
}

TEST_F(WriteOptionsTest, ATagInvalidatesWhatCarriesItEverywhere) {
  const auto a = open(with_long_lease({}));
  const auto b = open(with_long_lease({}));
  ASSERT_TRUE(a->set("tagged", "v", {.tags = {"red", "blue"}}));
  ASSERT_TRUE(a->set("other", "v", {.tags = {"green"}}));
  ASSERT_TRUE(a->set("plain", "v"));
  for (const char* key : {"tagged", "other", "plain"}) {
    ASSERT_EQ(read_value(*b, key), "v");
    ASSERT_TRUE(poll_until([&] { return b->try_get(key).has_value(); }));
  }
  ASSERT_TRUE(a->invalidate_tag("blue", {.timeout = kPatience}));
  EXPECT_EQ(described(a->try_get("tagged")), "(none)") << "its own instance knows at once";
  EXPECT_EQ(described(a->get("tagged")), "(absent)") << "nor does Redis' copy count";
  EXPECT_TRUE(poll_until([&] { return described(b->get("tagged")) == "(absent)"; }));
  EXPECT_EQ(described(b->get("other")), "v@l1");
  EXPECT_EQ(described(b->get("plain")), "v@l1");
  ASSERT_TRUE(a->set("tagged", "w", {.tags = {"blue"}}));
  EXPECT_TRUE(poll_until([&] { return read_value(*b, "tagged") == "w"; }));
  const auto newcomer = open();
  EXPECT_EQ(read_value(*newcomer, "tagged"), "w");
}

TEST_F(WriteOptionsTest, ALoadThatBeganBeforeItsTagWasInvalidatedIsNotKept) {
  const auto cache = open(with_long_lease({}));
  Gate gate;
  int loads = 0;
  const Loader loader = [&](std::string_view) -> Result<std::optional<Loaded>> {
    if (++loads == 1) gate.pass();
    Loaded loaded{loads == 1 ? "old" : "new"};
    loaded.tags = {"t"};
    return std::optional{std::move(loaded)};
  };
  Answer<ReadResult> first;
  cache->get_async("k", {.timeout = kPatience, .loader = loader}, first.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  ASSERT_TRUE(cache->invalidate_tag("t", {.timeout = kPatience}));
  gate.open();
  EXPECT_EQ(described(first.take()), "old@loader") << "who asked before is given it";
  EXPECT_EQ(described(cache->try_get("k")), "(none)");
  EXPECT_EQ(read_value(*open(), "k"), "(absent)") << "nor was it stored";
  EXPECT_EQ(described(cache->get("k", {.timeout = kPatience, .loader = loader})), "new@loader");
  EXPECT_EQ(described(cache->get("k")), "new@l1");
}

TEST_F(WriteOptionsTest, ClearInvalidatesEverythingEverywhere) {
  const auto a = open();
  const auto b = open();
  ASSERT_TRUE(a->set("k", "v"));
  ASSERT_EQ(read_value(*b, "k"), "v");
  ASSERT_TRUE(a->clear({.timeout = kPatience}));
  EXPECT_EQ(described(a->get("k")), "(absent)");
  EXPECT_TRUE(poll_until([&] { return described(b->get("k")) == "(absent)"; }));
  EXPECT_EQ(read_value(*open(), "k"), "(absent)");
  ASSERT_TRUE(b->set("k", "w"));
  EXPECT_TRUE(poll_until([&] { return read_value(*a, "k") == "w"; }));
}

TEST_F(WriteOptionsTest, ManyKeysGoInOneStep) {
  const auto a = open();
  const auto b = open();
  std::vector<std::string> names;
  for (int i = 0; i < 200; ++i) names.push_back("k" + std::to_string(i));
  for (const auto& name : names) {
    ASSERT_TRUE(a->set(name, "v"));
    ASSERT_EQ(read_value(*b, name), "v");
  }
  const std::vector<std::string_view> keys{names.begin(), names.end()};
  // The last read may have overtaken its message.
  ASSERT_TRUE(poll_until([&] { return b->stats().messages >= names.size(); }));
  const auto before = b->stats().messages;
  ASSERT_TRUE(a->invalidate_many(keys));
  for (const auto& name : names) {
    EXPECT_TRUE(poll_until([&] { return read_value(*b, name) == "(absent)"; })) << name;
  }
  EXPECT_EQ(b->stats().messages, before + 1);
  EXPECT_EQ(code_of_write(a->invalidate_many({})), ErrorCode::kInvalidArgument);
}

TEST_F(WriteOptionsTest, AFenceWaitsForTheLongestLeaseInTheFleet) {
  const auto slow = open({.lease = 700ms});
  const auto fast = open({.lease = 50ms});
  const TimePoint before = Clock::system().now();
  ASSERT_TRUE(fast->set("k", "v", {.timeout = kPatience, .fence = true}));
  EXPECT_GE(Clock::system().now() - before, 700ms);
}

TEST_F(WriteOptionsTest, AFencedWriteIsAnsweredWhenItsCacheIsClosed) {
  const auto slow = open({.lease = 60s, .stream_timeout = 90s});
  auto fast = open({.lease = 50ms});
  Answer<WriteResult> answer;
  fast->set_async("k", "v", {.timeout = kPatience, .fence = true}, answer.callback());
  ASSERT_TRUE(poll_until([&] { return server_->command({"EXISTS", "tiercel:k"}) == "1"; }));
  std::this_thread::sleep_for(50ms);  // Its fence has begun, most likely.
  EXPECT_FALSE(answer.arrived());
  fast.reset();
  ASSERT_TRUE(answer.arrived());
  const WriteResult written = answer.take();
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kDeadlineExceeded) << written.error().to_string();
}

TEST_F(WriteOptionsTest, AValueThatIsPushedIsInL1OfThoseWhoHadTheKey) {
  const auto writer = open({.value_push_bytes_max = 200});
  const auto holder = open();
  const auto other = open();
  ASSERT_TRUE(writer->set("k", "1"));
  ASSERT_EQ(read_value(*holder, "k"), "1");
  ASSERT_TRUE(writer->set("k", "2"));
  EXPECT_TRUE(poll_until([&] { return described(holder->try_get("k")) == "2@l1"; }));
  EXPECT_EQ(holder->stats().reads_l2, 1U) << "it did not ask";
  EXPECT_EQ(holder->stats().refreshed, 1U);
  EXPECT_EQ(other->stats().l1.entries, 0U);
  ASSERT_TRUE(writer->set("k", std::string(300, 'x')));
  EXPECT_TRUE(poll_until([&] { return described(holder->try_get("k")) == "(none)"; }));
}

TEST_F(WriteOptionsTest, WithoutHistoryWritesWorkAndHaveNoVersion) {
  const auto a = open({.history = false});
  const auto b = open({.history = false});
  const auto written = a->set("k", "v");
  ASSERT_TRUE(written) << written.error().to_string();
  EXPECT_EQ(written->version, 0U);
  EXPECT_EQ(read_value(*a, "k"), "v");
  EXPECT_EQ(read_value(*b, "k"), "v");
  ASSERT_TRUE(a->set("k", "w"));
  EXPECT_TRUE(poll_until([&] { return read_value(*b, "k") == "w"; }));
  ASSERT_TRUE(a->invalidate("k"));
  EXPECT_TRUE(poll_until([&] { return read_value(*b, "k") == "(absent)"; }));
  EXPECT_EQ(code_of_write(a->set("k", "v", {.tags = {"t"}})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of_write(a->invalidate_tag("t")), ErrorCode::kInvalidArgument);
}

TEST_F(WriteOptionsTest, AnInvalidationThatCouldNotBeSentIsReplayed) {
  const auto writer = open();
  const auto reader = open();
  ASSERT_TRUE(writer->set("k", "old"));
  ASSERT_EQ(read_value(*reader, "k"), "old");
  server_->stop_process();
  const auto refused = writer->invalidate("k", {.timeout = 100ms});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("it is kept"), std::string::npos)
      << refused.error().message;
  EXPECT_EQ(writer->stats().invalidations_queued, 1U);
  server_->continue_process();
  EXPECT_TRUE(poll_until([&] { return writer->stats().invalidations_queued == 0; }));
  EXPECT_TRUE(poll_until([&] { return read_value(*reader, "k") == "(absent)"; }));
  EXPECT_TRUE(poll_until([&] { return writer->lease().held; }));
}

TEST(DurableWrites, WaitForCopiesAndSayHowMany) {
  const auto redis = SentinelSetup::start({.replicas = 2, .sentinels = 3});
  const auto cache = open_ready(with_long_lease({.redis_url = redis->url()}));
  const auto written = cache->set("k", "v", {.timeout = kPatience, .replicas = 2});
  ASSERT_TRUE(written) << written.error().to_string();
  EXPECT_EQ(written->replicas, 2U);
  EXPECT_EQ(described(cache->get("k")), "v@l1");
  for (auto timeout = 500ms;; timeout *= 2) {
    ASSERT_LT(timeout, kPatience);
    const auto too_many = cache->set("k", "w", {.timeout = timeout, .replicas = 3});
    ASSERT_FALSE(too_many);
    if (too_many.error().code == ErrorCode::kDeadlineExceeded) break;
    // There was no time to send it.
    ASSERT_EQ(too_many.error().code, ErrorCode::kUnavailable) << too_many.error().to_string();
  }
  EXPECT_EQ(read_value(*cache, "k"), "w") << "it stands on the master";
  EXPECT_EQ(code_of_write(cache->set("k", "x", {.replicas = 65})), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tiercel::testing
