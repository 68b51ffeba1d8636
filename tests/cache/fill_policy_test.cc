// What a policy of fills does, without Redis: on a hand-driven clock, by sources of our own.

#include "tiercel/cache/fill_policy.h"

#include <atomic>
#include <functional>
#include <mutex>

#include "cache_fixture.h"
#include "fill_source.h"

namespace tiercel::testing {
namespace {

// A source whose loader can be told what to do.
class FillPolicyTest : public ::testing::Test {
 protected:
  FillPolicyTest()
      : cache_(open_cache({.ttl_jitter = 0.0, .executor = &pool_, .clock = &clock_})) {}

  void use(FillPolicy policy) {
    policy.ttl_jitter = 0.0;
    ASSERT_TRUE(validate(policy)) << validate(policy).error().to_string();
    source_ = std::make_shared<FillSource>(
        "test", policy, [this](const LoadRequest& request) { return load(request); },
        BatchLoader{});
  }
  LoadResult load(const LoadRequest& request) {
    const int call = ++calls_;
    if (gate_) gate_->pass();
    if (fails_) return unavailable("the database is away");
    if (is_unchanged_) {
      EXPECT_EQ(request.old_value.value_or("nothing"), "value 1");
      return Loaded::unchanged();
    }
    return Loaded{"value " + std::to_string(call)};
  }
  ReadResult get(std::string_view key = "k") {
    return cache_->get(key, {.timeout = kPatience, .source = source_});
  }
  bool becomes(std::string_view value, std::string_view key = "k") {
    return poll_until([&] {
      const auto found = cache_->try_get(key);
      return found && found->bytes() == value;
    });
  }

  ManualClock clock_;
  CountingPool pool_;
  std::atomic<int> calls_{0};
  std::atomic<bool> fails_{false};
  std::atomic<bool> is_unchanged_{false};
  std::optional<Gate> gate_;
  std::shared_ptr<FillSource> source_;
  std::unique_ptr<Cache> cache_;  // The last, for it is closed first: a load may still run.
};

TEST_F(FillPolicyTest, AReadThatFindsALifeAboutToEndRenewsItBesideItself) {
  use({.ttl = 1000ms, .refresh_ahead = 0.4});
  EXPECT_EQ(described(get()), "value 1@loader");
  clock_.advance(599ms);
  EXPECT_EQ(described(get()), "value 1@l1");
  EXPECT_EQ(calls_, 1) << "there is enough left";
  clock_.advance(2ms);
  EXPECT_EQ(described(get()), "value 1@l1") << "the reader does not wait";
  EXPECT_TRUE(becomes("value 2"));
  clock_.advance(500ms);
  EXPECT_EQ(described(get()), "value 2@l1") << "its life began anew";
  EXPECT_EQ(calls_, 2);
}

TEST_F(FillPolicyTest, ARenewalThatFailsIsTriedAgainNoSoonerThanInASecond) {
  use({.ttl = 100s, .refresh_ahead = 0.5});
  EXPECT_EQ(described(get()), "value 1@loader");
  fails_ = true;
  clock_.advance(60s);
  EXPECT_EQ(described(get()), "value 1@l1");
  ASSERT_TRUE(pool_.wait_until_ended(2)) << "it is known to have failed";
  for (int i = 0; i < 10; ++i) EXPECT_EQ(described(get()), "value 1@l1");
  EXPECT_EQ(calls_, 2);
  clock_.advance(1s);
  EXPECT_EQ(described(get()), "value 1@l1");
  EXPECT_TRUE(poll_until([&] { return calls_ == 3; }));
}

TEST_F(FillPolicyTest, WhatIsStaleIsGivenWhenTheLoaderFails) {
  use({.ttl = 1s, .stale_max = 1h, .stale_throttle = 5s});
  EXPECT_EQ(described(get()), "value 1@loader");
  clock_.advance(2s);
  EXPECT_EQ(described(cache_->try_get("k")), "(none)") << "its life has ended";
  EXPECT_EQ(described(get()), "value 2@loader") << "a load that succeeds comes first";
  clock_.advance(2s);
  fails_ = true;
  const auto stale = get();
  EXPECT_EQ(described(stale), "value 2@l1");
  ASSERT_TRUE(stale && *stale);
  EXPECT_TRUE((*stale)->is_stale());
  EXPECT_EQ(calls_, 3);
  for (int i = 0; i < 10; ++i) {
    const auto again = get();
    ASSERT_TRUE(again && *again);
    EXPECT_TRUE((*again)->is_stale());
  }
  EXPECT_EQ(calls_, 3) << "for a while nobody tries again";
  clock_.advance(5s);
  fails_ = false;
  EXPECT_EQ(described(get()), "value 4@loader");
  EXPECT_FALSE((*get())->is_stale());
}

TEST_F(FillPolicyTest, WhatIsStaleEnds) {
  use({.ttl = 1s, .stale_max = 10s, .breaker = std::nullopt});
  EXPECT_EQ(described(get()), "value 1@loader");
  fails_ = true;
  clock_.advance(10s);
  EXPECT_EQ(described(get()), "value 1@l1");
  clock_.advance(2s);
  EXPECT_EQ(code_of(get()), ErrorCode::kUnavailable);
}

TEST_F(FillPolicyTest, WhatWasInvalidatedIsNotGivenAsStale) {
  use({.ttl = 1s, .stale_max = 1h});
  EXPECT_EQ(described(get()), "value 1@loader");
  clock_.advance(2s);
  fails_ = true;
  ASSERT_TRUE(cache_->invalidate("k"));
  EXPECT_EQ(code_of(get()), ErrorCode::kUnavailable);

  fails_ = false;
  EXPECT_EQ(described(get()), "value 3@loader");
  clock_.advance(2s);
  fails_ = true;
  Gate gate;
  gate_ = gate;
  Answer<ReadResult> answer;
  cache_->get_async("k", {.timeout = kPatience, .source = source_}, answer.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  ASSERT_TRUE(cache_->invalidate("k")) << "while the load runs";
  gate.open();
  EXPECT_EQ(code_of(answer.take()), ErrorCode::kUnavailable);
}

// F0 loads; a flight behind it at the gate has something stale to offer; then the key is
// invalidated, and a reader that comes after that joins the flight.
TEST_F(FillPolicyTest, WhoJoinsAtTheGateIsNotGivenWhatWasInvalidatedBefore) {
  use({.ttl = 1s, .stale_max = 1h, .soft_deadline = 100ms, .breaker = std::nullopt});
  EXPECT_EQ(described(get()), "value 1@loader");
  clock_.advance(2s);
  Gate gate;
  gate_ = gate;
  const auto get_later = [&](Answer<ReadResult>& answer) {
    cache_->get_async("k", {.timeout = kPatience, .source = source_}, answer.callback());
  };
  Answer<ReadResult> first;
  get_later(first);
  EXPECT_TRUE(gate.wait_until_arrived(1));
  ASSERT_TRUE(cache_->invalidate_tag("another"));  // Nobody may join what was begun before.
  Answer<ReadResult> second;
  get_later(second);  // Waits at the gate, and has value 1 to offer.
  ASSERT_TRUE(cache_->invalidate("k"));
  Answer<ReadResult> third;
  get_later(third);  // Joins it there.
  clock_.advance(200ms);
  fails_ = true;
  gate.open();
  EXPECT_EQ(code_of(third.take()), ErrorCode::kUnavailable);
  (void)first.take();
  (void)second.take();
  EXPECT_EQ(described(cache_->try_get("k")), "(none)");
}

TEST_F(FillPolicyTest, AReaderWithoutASourceWhoseFlightAKeyspacesJoinsFailsAlone) {
  use({.ttl = 1s, .stale_max = 1h});
  EXPECT_EQ(described(get()), "value 1@loader");
  clock_.advance(2s);
  Gate gate;
  Answer<ReadResult> plain;
  cache_->get_async("k",
                    {.timeout = kPatience,
                     .loader = [&](std::string_view) -> Result<std::optional<Loaded>> {
                       gate.pass();
                       return unavailable("away");
                     }},
                    plain.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  Answer<ReadResult> joined;
  cache_->get_async("k", {.timeout = kPatience, .source = source_}, joined.callback());
  gate.open();
  (void)plain.take();
  (void)joined.take();  // The stale value, or the error: it is the other's flight.
}

TEST_F(FillPolicyTest, ASlowLoadIsAnsweredWithWhatIsStaleAndGoesOn) {
  use({.ttl = 1s, .stale_max = 1h, .soft_deadline = 100ms});
  EXPECT_EQ(described(get()), "value 1@loader");
  clock_.advance(2s);
  Gate gate;
  gate_ = gate;
  Answer<ReadResult> answer;
  cache_->get_async("k", {.timeout = kPatience, .source = source_}, answer.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  EXPECT_FALSE(answer.arrived());
  clock_.advance(101ms);
  EXPECT_EQ(described(answer.take()), "value 1@l1");
  gate.open();
  EXPECT_TRUE(becomes("value 2")) << "the load was not for nothing";
}

TEST_F(FillPolicyTest, WithoutPatienceWhatIsStaleIsGivenAtOnce) {
  use({.ttl = 1s, .stale_max = 1h, .soft_deadline = 0ms});
  EXPECT_EQ(described(get()), "value 1@loader");
  clock_.advance(2s);
  const auto stale = get();
  EXPECT_EQ(described(stale), "value 1@l1");
  EXPECT_TRUE((*stale)->is_stale());
  EXPECT_TRUE(becomes("value 2"));
}

TEST_F(FillPolicyTest, ALoaderThatIsToldOfTheOldValueMayKeepIt) {
  use({.ttl = 1s, .stale_max = 1h});
  EXPECT_EQ(described(get()), "value 1@loader");
  clock_.advance(2s);
  is_unchanged_ = true;
  EXPECT_EQ(described(get()), "value 1@loader");
  EXPECT_FALSE((*get())->is_stale());
  clock_.advance(999ms);
  EXPECT_EQ(described(get()), "value 1@l1") << "for a life anew";
  EXPECT_EQ(calls_, 2);
}

TEST_F(FillPolicyTest, UnchangedFromNothingIsAnError) {
  use({.ttl = 1s});
  source_ = std::make_shared<FillSource>(
      "test", FillPolicy{}, [](const LoadRequest&) { return Loaded::unchanged(); }, BatchLoader{});
  EXPECT_EQ(code_of(get()), ErrorCode::kInternal);
}

TEST_F(FillPolicyTest, AnOpenBreakerSparesTheLoader) {
  use({.ttl = 1s,
       .breaker = BreakerOptions{.failure_ratio = 0.5, .calls_min = 3, .open_for = 10s}});
  fails_ = true;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(code_of(get()), ErrorCode::kUnavailable);
  EXPECT_EQ(calls_, 3);
  const auto refused = get();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("circuit"), std::string::npos)
      << refused.error().to_string();
  EXPECT_EQ(calls_, 3);
  EXPECT_EQ(source_->breaker_state(clock_.now()), BreakerState::kOpen);
  clock_.advance(10s);
  fails_ = false;
  EXPECT_EQ(described(get()), "value 4@loader") << "a probe, which closes it";
  EXPECT_EQ(source_->breaker_state(clock_.now()), BreakerState::kClosed);
}

TEST_F(FillPolicyTest, LoadsAreBoundedAndTheRestRefused) {
  use({.loads_running_max = 2, .loads_waiting_max = 1});
  Gate gate;
  gate_ = gate;
  std::vector<Answer<ReadResult>> answers(4);
  for (int i = 0; i < 4; ++i) {
    cache_->get_async("k" + std::to_string(i), {.timeout = kPatience, .source = source_},
                      answers[static_cast<std::size_t>(i)].callback());
  }
  EXPECT_TRUE(gate.wait_until_arrived(2));
  const auto refused = answers[3].take();
  EXPECT_EQ(code_of(refused), ErrorCode::kOverloaded);
  EXPECT_NE(refused.error().message.find("loads_waiting_max"), std::string::npos);
  EXPECT_EQ(calls_, 2);
  gate.open();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(answers[static_cast<std::size_t>(i)].take());
}

TEST_F(FillPolicyTest, AnythingStaleIsBetterThanOverloaded) {
  use({.ttl = 1s, .stale_max = 1h, .loads_running_max = 1, .loads_waiting_max = 0});
  EXPECT_EQ(described(get("stale")), "value 1@loader");
  clock_.advance(2s);
  Gate gate;
  gate_ = gate;
  Answer<ReadResult> slow;
  cache_->get_async("slow", {.timeout = kPatience, .source = source_}, slow.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  EXPECT_EQ(described(get("stale")), "value 1@l1");
  gate.open();
  EXPECT_TRUE(slow.take());
}

TEST_F(FillPolicyTest, ALifeOfItsOwnAndNothingFound) {
  source_ = std::make_shared<FillSource>(
      "test", FillPolicy{.ttl = 1h, .ttl_jitter = 0.0, .negative_ttl = 1s},
      [this](const LoadRequest& request) -> LoadResult {
        ++calls_;
        if (request.key == "none") return std::optional<Loaded>{};
        return Loaded{"v", 500ms};
      },
      BatchLoader{});
  EXPECT_EQ(described(get("k")), "v@loader");
  EXPECT_EQ(described(get("none")), "(absent)");
  clock_.advance(501ms);
  EXPECT_EQ(described(get("k")), "v@loader");
  EXPECT_EQ(described(get("none")), "(absent)");
  EXPECT_EQ(calls_, 3);
  clock_.advance(501ms);
  EXPECT_EQ(described(get("none")), "(absent)");
  EXPECT_EQ(calls_, 4);
}

TEST_F(FillPolicyTest, WhatIsLoadedTogetherDoesNotExpireTogether) {
  constexpr int kKeys = 1000;
  source_ = std::make_shared<FillSource>(
      "test", FillPolicy{.ttl = 100s, .ttl_jitter = 0.5},
      [](const LoadRequest&) -> LoadResult { return Loaded{"v"}; }, BatchLoader{});
  for (int i = 0; i < kKeys; ++i) ASSERT_TRUE(get("k" + std::to_string(i)));
  const auto alive = [&] {
    int count = 0;
    for (int i = 0; i < kKeys; ++i) count += cache_->try_get("k" + std::to_string(i)) ? 1 : 0;
    return count;
  };
  clock_.advance(50s - 1ms);
  int before = alive();
  EXPECT_EQ(before, kKeys);
  for (int fifth = 0; fifth < 5; ++fifth) {
    clock_.advance(10s);
    const int now = alive();
    EXPECT_GT(before - now, kKeys / 10) << "a fifth of them, more or less";
    EXPECT_LT(before - now, kKeys / 10 * 3);
    before = now;
  }
  clock_.advance(1ms);
  EXPECT_EQ(alive(), 0);
}

// ---- batches

class BatchTest : public FillPolicyTest {
 protected:
  void use_batches(FillPolicy policy = {}) {
    source_ = std::make_shared<FillSource>(
        "test", policy, RequestLoader{}, [this](std::span<const LoadRequest> requests) {
          MutexLock lock{mutex_};
          std::vector<LoadResult> results;
          batches_.emplace_back();
          for (const LoadRequest& request : requests) {
            batches_.back().emplace_back(request.key);
            if (request.key.starts_with("bad")) {
              results.push_back(LoadResult{unavailable("no")});
            } else {
              results.push_back(LoadResult{Loaded{"of " + std::string{request.key}}});
            }
          }
          if (is_short_) results.pop_back();
          return results;
        });
  }
  std::vector<ReadResult> get_many(std::vector<std::string_view> keys) {
    return cache_->get_many(keys, {.timeout = kPatience, .source = source_});
  }
  std::vector<std::vector<std::string>> batches() {
    MutexLock lock{mutex_};
    return batches_;
  }

  Mutex mutex_;
  std::vector<std::vector<std::string>> batches_;
  bool is_short_ = false;
};

TEST_F(BatchTest, AllThatIsMissingIsLoadedByOneCall) {
  use_batches();
  EXPECT_EQ(described(get("b")), "of b@loader");
  const auto results = get_many({"a", "b", "c", "bad", "a"});
  ASSERT_EQ(results.size(), 5U);
  EXPECT_EQ(described(results[0]), "of a@loader");
  EXPECT_EQ(described(results[1]), "of b@l1");
  EXPECT_EQ(described(results[2]), "of c@loader");
  EXPECT_EQ(code_of(results[3]), ErrorCode::kUnavailable) << "alone";
  EXPECT_EQ(described(results[4]), "of a@loader");
  EXPECT_EQ(batches(), (std::vector<std::vector<std::string>>{{"b"}, {"a", "c", "bad"}}));
  for (const auto& result : get_many({"a", "b", "c"})) {
    ASSERT_TRUE(result && *result);
    EXPECT_EQ((*result)->tier(), Tier::kL1);
  }
}

TEST_F(BatchTest, WhoAnswersTooFewFailsAll) {
  use_batches();
  is_short_ = true;
  for (const auto& result : get_many({"a", "b"})) EXPECT_EQ(code_of(result), ErrorCode::kInternal);
}

TEST_F(BatchTest, AKeyThatIsBeingLoadedDoesNotHoldUpTheOthers) {
  use({});
  Gate gate;
  gate_ = gate;
  Answer<ReadResult> slow;
  cache_->get_async("slow", {.timeout = kPatience, .source = source_}, slow.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  ASSERT_TRUE(cache_->invalidate("slow")) << "so that nobody joins that load";
  use_batches();
  Answer<std::vector<ReadResult>> both;
  const std::vector<std::string_view> keys{"slow", "fast"};
  cache_->get_many_async(keys, {.timeout = kPatience, .source = source_}, both.callback());
  EXPECT_TRUE(becomes("of fast", "fast"));
  EXPECT_FALSE(both.arrived());
  gate.open();
  const auto results = both.take();
  EXPECT_EQ(described(results[0]), "of slow@loader");
  EXPECT_EQ(described(results[1]), "of fast@loader");
  EXPECT_EQ(batches(), (std::vector<std::vector<std::string>>{{"fast"}, {"slow"}}));
}

TEST_F(BatchTest, ManyAtOnceEndAll) {
  use_batches({.loads_running_max = 2});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int round = 0; round < 50; ++round) {
        std::vector<std::string> names;
        for (int i = 0; i < 20; ++i)
          names.push_back("k" + std::to_string((i * (t + 1) + round) % 30));
        const std::vector<std::string_view> keys{names.begin(), names.end()};
        for (const auto& result :
             cache_->get_many(keys, {.timeout = kPatience, .source = source_})) {
          EXPECT_TRUE(result && *result) << described(result);
        }
        if (round % 5 == t) {
          EXPECT_TRUE(cache_->invalidate_many(keys));
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

// ---- options

TEST(FillPolicyOptions, ContradictionsAreRefusedWithTheReason) {
  const auto refused = [](FillPolicy policy, std::string_view word) {
    const auto valid = validate(policy);
    return !valid && valid.error().code == ErrorCode::kInvalidArgument &&
           valid.error().message.find(word) != std::string::npos;
  };
  EXPECT_TRUE(validate(FillPolicy{}));
  EXPECT_TRUE(refused({.ttl = 0ms}, "ttl"));
  EXPECT_TRUE(refused({.ttl_jitter = 0.91}, "ttl_jitter"));
  EXPECT_TRUE(refused({.negative_ttl = 0ms}, "negative_ttl"));
  EXPECT_TRUE(refused({.refresh_ahead = 1.0}, "refresh_ahead"));
  EXPECT_TRUE(refused({.ttl = std::nullopt, .refresh_ahead = 0.1}, "no ttl"));
  EXPECT_TRUE(refused({.ttl = std::nullopt, .stale_max = 1s}, "no ttl"));
  EXPECT_TRUE(refused({.soft_deadline = 1s}, "stale_max"));
  EXPECT_TRUE(refused({.stale_max = 1s, .soft_deadline = -1ms}, "soft_deadline"));
  EXPECT_TRUE(refused({.stale_throttle = 0ms}, "stale_throttle"));
  EXPECT_TRUE(refused({.loads_running_max = 0}, "loads_running_max"));
  EXPECT_TRUE(refused({.loads_waiting_max = 2'000'000}, "loads_waiting_max"));
  EXPECT_TRUE(refused({.breaker = BreakerOptions{.probes = 0}}, "breaker.probes"));
}

}  // namespace
}  // namespace tiercel::testing
