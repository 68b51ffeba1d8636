// Reads that come to ask Redis at the same moment do so by one MGET; each over a real Redis.

#include <atomic>

#include "cache_fixture.h"
#include "support/redis_server.h"

namespace tiercel::testing {
namespace {

std::string key_of(std::size_t i) { return "k" + std::to_string(i); }
std::string value_of(std::size_t i) { return "value of k" + std::to_string(i); }

Result<std::optional<Loaded>> load(std::string_view key) {
  return Loaded{"load of " + std::string{key}};
}

class LooksTest : public ::testing::Test {
 protected:
  using Read = Answer<ReadResult>;

  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    if (options.redis_url.empty()) options.redis_url = server_->url();
    options.clock = &clock_;
    options.ttl = std::nullopt;  // The end of a value is known then, and not asked for.
    return open_ready(with_long_lease(std::move(options)));
  }
  // By another instance, so that no other has them in L1.
  void store(std::size_t count) {
    const auto writer = open();
    for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(writer->set(key_of(i), value_of(i)));
  }
  static Read get(Cache& cache, const std::string& key, ReadOptions options = {}) {
    Read answer;
    if (!options.timeout) options.timeout = kPatience;
    const TestClock::Instant instant{LoopHold::held_at};
    cache.get_async(key, options, answer.callback());
    return answer;
  }

  const TestClock clock_{};
  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

TEST_F(LooksTest, ThoseThatComeTogetherAskInFewCommands) {
  constexpr std::size_t kKeys = 150;
  constexpr std::size_t kOthers = 150;
  store(kKeys + kOthers);
  for (const bool may_load : {false, true}) {
    const auto cache = open();
    ReadOptions options;
    if (may_load) options.loader = load;
    // Until it knows that values are small, fewer of them are asked for at a time.
    for (std::size_t i = 0; i < kOthers; ++i) (void)get(*cache, key_of(kKeys + i), options).take();
    const int before = server_->calls_of("mget");
    std::vector<Read> answers;
    {
      const LoopHold hold{*cache};
      for (std::size_t i = 0; i < kKeys; ++i) {
        answers.push_back(get(*cache, key_of(i), options));
      }
    }
    for (std::size_t i = 0; i < kKeys; ++i) {
      EXPECT_EQ(described(answers[i].take()), value_of(i) + "@l2");
      EXPECT_EQ(described(cache->try_get(key_of(i))), value_of(i) + "@l1");
    }
    EXPECT_EQ(server_->calls_of("mget") - before, 3) << "of 64, 64 and 22 keys";
  }
}

TEST_F(LooksTest, EachIsAnsweredForItself) {
  store(2);
  server_->command({"RPUSH", "tiercel:list", "foreign"});
  server_->command({"SET", "tiercel:foreign", "raw bytes"});
  server_->command({"SET", "tiercel:corrupt", std::string(8, '\1') + "\xf1TCL broken"});
  const std::vector<std::string> keys{"k0", "absent", "list", "foreign", "corrupt", "k1"};
  const auto described_all = [&](const ReadOptions& options) {
    const auto cache = open();
    std::vector<Read> answers;
    {
      const LoopHold hold{*cache};
      for (const std::string& key : keys) answers.push_back(get(*cache, key, options));
    }
    std::vector<std::string> described_one_by_one;
    for (Read& answer : answers) described_one_by_one.push_back(described(answer.take()));
    return described_one_by_one;
  };
  EXPECT_THAT(described_all({}),
              ::testing::ElementsAre("value of k0@l2", "(absent)", "(absent)", "raw bytes@l2",
                                     "(absent)", "value of k1@l2"));
  EXPECT_THAT(
      described_all({.loader = load}),
      ::testing::ElementsAre("value of k0@l2", "load of absent@loader", "load of list@loader",
                             "raw bytes@l2", "load of corrupt@loader", "value of k1@l2"));
}

// What is read together is bounded by its bytes, too, as far as the last values tell.
TEST_F(LooksTest, LargeValuesAreReadByFewAtATime) {
  const auto writer = open();
  const std::string large(100'000, 'v');
  for (std::size_t i = 0; i < 9; ++i) ASSERT_TRUE(writer->set(key_of(i), large));
  const auto cache = open();
  EXPECT_EQ(read_value(*cache, key_of(8)), large);
  const int before = server_->calls_of("mget");
  std::vector<Read> answers;
  {
    const LoopHold hold{*cache};
    for (std::size_t i = 0; i < 8; ++i) answers.push_back(get(*cache, key_of(i)));
  }
  for (Read& answer : answers) {
    const ReadResult found = answer.take();
    ASSERT_TRUE(found && *found);
    EXPECT_EQ((*found)->bytes(), large);
  }
  EXPECT_EQ(server_->calls_of("mget") - before, 4) << "of two values each";
}

// At first nothing is known of them.
TEST_F(LooksTest, AColdStartAsksForFewAtATime) {
  constexpr std::size_t kKeys = 45;
  store(kKeys);
  const auto cache = open();
  const int before = server_->calls_of("mget");
  std::vector<Read> answers;
  {
    const LoopHold hold{*cache};
    for (std::size_t i = 0; i < kKeys; ++i) answers.push_back(get(*cache, key_of(i)));
  }
  for (std::size_t i = 0; i < kKeys; ++i) {
    EXPECT_EQ(described(answers[i].take()), value_of(i) + "@l2");
  }
  EXPECT_EQ(server_->calls_of("mget") - before, 3)
      << "of 15 keys each: 256 KiB, if each value has 16";
}

// The server refuses an MGET of which one key is forbidden.
TEST_F(LooksTest, AForbiddenKeyFailsAlone) {
  store(3);
  server_->command(
      {"ACL", "SETUSER", "app", "on", ">secret", "+@all", "&*", "~tiercel:k*", "~tiercel/*"});
  const auto cache =
      open({.redis_url = "redis://app:secret@127.0.0.1:" + std::to_string(server_->port())});
  Read allowed, forbidden, too;
  {
    const LoopHold hold{*cache};
    allowed = get(*cache, "k0");
    forbidden = get(*cache, "secret");
    too = get(*cache, "k1");
  }
  EXPECT_EQ(described(allowed.take()), "value of k0@l2");
  EXPECT_EQ(described(too.take()), "value of k1@l2");
  const ReadResult refused = forbidden.take();
  EXPECT_EQ(code_of(refused), ErrorCode::kUnavailable);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("NOPERM"));
}

// They would share a deadline.
TEST_F(LooksTest, AnImpatientReadDoesNotWaitForThePatientBesideIt) {
  store(2);
  const auto cache = open();
  Read impatient, patient;
  {
    const LoopHold hold{*cache};
    server_->stop_process();
    impatient = get(*cache, "k0", {.timeout = 20ms});
    patient = get(*cache, "k1");
  }
  EXPECT_EQ(code_of(impatient.take()), ErrorCode::kUnavailable);
  EXPECT_FALSE(patient.arrived());
  server_->continue_process();
  EXPECT_EQ(described(patient.take()), "value of k1@l2");
}

TEST_F(LooksTest, AReadThatCanLoadDoesNotWaitForAPatientOneThatCannot) {
  store(2);
  const auto cache = open({.read_timeout_before_load = 20ms});
  Read patient, loads;
  {
    const LoopHold hold{*cache};
    server_->stop_process();
    patient = get(*cache, "k1");
    loads = get(*cache, "k0", {.loader = load});
  }
  EXPECT_EQ(described(loads.take()), "load of k0@loader");
  EXPECT_FALSE(patient.arrived());
  server_->continue_process();
  EXPECT_EQ(described(patient.take()), "value of k1@l2");
}

TEST_F(LooksTest, TheCloseAnswersWhatWaits) {
  store(20);
  auto cache = open();
  std::vector<Read> answers;
  LoopHold hold{*cache};
  for (std::size_t i = 0; i < 20; ++i) {
    answers.push_back(
        get(*cache, key_of(i), i % 2 == 0 ? ReadOptions{} : ReadOptions{.loader = load}));
  }
  std::thread closer{[&] { cache.reset(); }};
  hold.release();
  closer.join();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    ASSERT_TRUE(answers[i].arrived()) << i;
    const ReadResult answer = answers[i].take();
    if (answer) {
      EXPECT_EQ(described(answer), value_of(i) + "@l2");
    } else {
      EXPECT_EQ(answer.error().code, ErrorCode::kClosed) << answer.error().to_string();
    }
  }
}

// Answers that lead to further reads: all of a chain is answered, however long it is.
TEST_F(LooksTest, AnAnswerMayBeginTheNext) {
  constexpr std::size_t kKeys = 200;
  constexpr std::size_t kChains = 20;
  store(kKeys);
  const auto cache = open();
  struct Chain {
    explicit Chain(std::size_t first) : next(first) {}
    std::size_t next;
    std::atomic<bool> has_ended{false};
  };
  std::vector<std::unique_ptr<Chain>> chains;
  std::function<void(Chain&)> go_on = [&](Chain& chain) {
    const std::size_t key = chain.next;
    cache->get_async(key_of(key), {.timeout = kPatience}, [&, key](const ReadResult& found) {
      EXPECT_TRUE(found && *found && (*found)->to_string() == value_of(key)) << described(found);
      chain.next += kChains;
      if (chain.next < kKeys) return go_on(chain);
      chain.has_ended = true;
    });
  };
  for (std::size_t i = 0; i < kChains; ++i) {
    chains.push_back(std::make_unique<Chain>(i));
    go_on(*chains.back());
  }
  for (const auto& chain : chains) {
    EXPECT_TRUE(poll_until([&] { return chain->has_ended.load(); }, kPatience));
  }
}

}  // namespace
}  // namespace tiercel::testing
