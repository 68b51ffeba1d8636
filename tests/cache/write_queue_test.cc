// Sets that wait at the same moment leave together; each over a real Redis.

#include <map>
#include <set>

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"

namespace tiercel::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::size_t kTogether = 16;  // Together::kMax.

class WriteQueueTest : public ::testing::Test {
 protected:
  using Written = Answer<WriteResult>;

  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    if (!options.redis) options.redis_url = server_->url();
    options.clock = &clock_;
    return open_ready(with_long_lease(std::move(options)));
  }
  static Written set(Cache& cache, const std::string& key, const std::string& value,
                     WriteOptions options = {}) {
    if (!options.timeout) options.timeout = kPatience;
    Written answer;
    const TestClock::Instant instant{LoopHold::held_at};
    cache.set_async(key, value, std::move(options), answer.callback());
    return answer;
  }
  static Written invalidate(Cache& cache, const std::string& key) {
    Written answer;
    const TestClock::Instant instant{LoopHold::held_at};
    cache.invalidate_async(key, {.timeout = kPatience}, answer.callback());
    return answer;
  }
  static Written invalidate_tag(Cache& cache, const std::string& tag) {
    Written answer;
    const TestClock::Instant instant{LoopHold::held_at};
    cache.invalidate_tag_async(tag, {.timeout = kPatience}, answer.callback());
    return answer;
  }
  // 0 where it was not acknowledged.
  static std::uint64_t version_of(Written& answer) {
    const WriteResult result = answer.take();
    EXPECT_TRUE(result) << result.error().to_string();
    return result ? result->version : 0;
  }
  static std::optional<Error> error_of(Written& answer) {
    const WriteResult result = answer.take();
    return result ? std::nullopt : std::optional{result.error()};
  }
  static ErrorCode code_of_write(Written& answer) {
    return error_of(answer).value_or(internal("it was acknowledged")).code;
  }
  // Every call of a script that writes leaves one.
  int history_entries() { return std::stoi(server_->command({"XLEN", "tiercel/history"})); }

  // So that what is sent is executed, also when its sender has given it up meanwhile.
  static void teach_scripts(Cache& cache) {
    LoopHold hold{cache};
    Written first = set(cache, "first", "v");
    Written second = set(cache, "second", "v");
    hold.release();
    EXPECT_EQ(version_of(first), version_of(second));
    EXPECT_TRUE(cache.set("alone", "v", {.timeout = kPatience}));
  }

  const TestClock clock_{};
  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

std::string key_of(std::size_t i) { return "k" + std::to_string(i); }

TEST_F(WriteQueueTest, ThoseOfAllThreadsLeaveInFewCalls) {
  constexpr std::size_t kThreads = 8;
  constexpr std::size_t kEach = 8;
  const auto cache = open();
  const auto other = open();
  for (std::size_t i = 0; i < kThreads * kEach; ++i) {
    ASSERT_TRUE(cache->set(key_of(i), "old"));
    ASSERT_EQ(read_value(*other, key_of(i)), "old");
  }
  const int before = history_entries();
  LoopHold hold{*cache};
  std::vector<std::vector<Written>> answers(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < kEach; ++i) {
        const std::string key = key_of(t * kEach + i);
        answers[t].push_back(set(*cache, key, "new of " + key));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  hold.release();
  std::map<std::uint64_t, std::size_t> keys_of_version;
  for (std::size_t t = 0; t < kThreads; ++t) {
    for (std::size_t i = 0; i < kEach; ++i) {
      const std::string key = key_of(t * kEach + i);
      const std::uint64_t version = version_of(answers[t][i]);
      ++keys_of_version[version];
      const auto own = cache->try_get(key);
      EXPECT_EQ(described(own), "new of " + key + "@l1");
      EXPECT_EQ(own ? own->version() : 0, version);
      EXPECT_TRUE(poll_until([&] { return read_value(*other, key) == "new of " + key; })) << key;
    }
  }
  EXPECT_EQ(history_entries() - before, int{kThreads * kEach / kTogether});
  EXPECT_EQ(keys_of_version.size(), kThreads * kEach / kTogether);
  for (const auto& [version, keys] : keys_of_version) EXPECT_EQ(keys, kTogether) << version;
  EXPECT_EQ(cache->stats().writes_acknowledged, 2 * kThreads * kEach);
}

// Blocking ones, and nothing that holds the loop: whoever leaves together, all is as if each had
// left alone.
TEST_F(WriteQueueTest, ManyThreadsWriteAFewKeys) {
  constexpr int kEach = 100;
  const auto cache = open();
  const auto other = open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      std::uint64_t last = 0;
      for (int i = 0; i < kEach; ++i) {
        const auto written = cache->set("shared", std::to_string(i), {.timeout = kPatience});
        const std::string own = "own" + std::to_string(t);
        const auto mine = cache->set(own, std::to_string(i), {.timeout = kPatience});
        ASSERT_TRUE(written && mine);
        EXPECT_GT(written->version, last);
        EXPECT_GT(mine->version, written->version);
        last = mine->version;
        EXPECT_EQ(read_value(*cache, own), std::to_string(i)) << "reads its own writes";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < 8; ++t) {
    const std::string own = "own" + std::to_string(t);
    EXPECT_TRUE(poll_until([&] { return read_value(*other, own) == std::to_string(kEach - 1); }));
  }
}

TEST_F(WriteQueueTest, OneKeyTwiceIsWrittenTwiceAndInOrder) {
  const auto cache = open();
  LoopHold hold{*cache};
  Written before = set(*cache, "beside", "v");
  Written first = set(*cache, "k", "1");
  Written second = set(*cache, "k", "2");
  Written after = set(*cache, "after", "v");
  Written third = set(*cache, "k", "3");
  hold.release();
  const std::uint64_t one = version_of(first);
  const std::uint64_t two = version_of(second);
  EXPECT_EQ(version_of(before), one);
  EXPECT_LT(one, two);
  EXPECT_EQ(version_of(after), two);
  EXPECT_LT(two, version_of(third));
  EXPECT_EQ(described(cache->get("k")), "3@l1");
  EXPECT_EQ(described(cache->get("k", {.freshness = Freshness::latest()})), "3@l2");
  EXPECT_EQ(history_entries(), 3);
}

// What leaves alone does not overtake what waits.
TEST_F(WriteQueueTest, OtherWritesKeepTheirPlace) {
  const auto cache = open();
  for (int round = 0; round < 5; ++round) {
    LoopHold hold{*cache};
    std::vector<Written> in_order;
    in_order.push_back(set(*cache, "k", "1"));
    in_order.push_back(invalidate(*cache, "k"));
    in_order.push_back(set(*cache, "k", "2", {.if_version = WriteOptions::kAbsent}));
    in_order.push_back(set(*cache, "dead", "1", {.tags = {"red"}}));
    in_order.push_back(invalidate_tag(*cache, "red"));
    in_order.push_back(set(*cache, "alive", "1", {.tags = {"red"}}));
    in_order.push_back(set(*cache, "large", std::string(100000, 'x')));
    in_order.push_back(set(*cache, "large", "small"));
    in_order.push_back(set(*cache, "large", std::string(100000, 'y')));
    in_order.push_back(set(*cache, "large", "small again"));
    Written conflict = set(*cache, "alive", "2", {.if_version = WriteOptions::kAbsent});
    hold.release();
    EXPECT_EQ(code_of_write(conflict), ErrorCode::kConflict);
    std::uint64_t last = 0;
    for (std::size_t i = 0; i < in_order.size(); ++i) {
      const std::uint64_t version = version_of(in_order[i]);
      EXPECT_GT(version, last) << i;
      last = version;
    }
    const ReadOptions latest{.timeout = kPatience, .freshness = Freshness::latest()};
    EXPECT_EQ(described(cache->get("k", latest)), "2@l2");
    EXPECT_EQ(described(cache->get("dead", latest)), "(absent)");
    EXPECT_EQ(described(cache->get("alive", latest)), "1@l2");
    EXPECT_EQ(described(cache->get("large", latest)), "small again@l2");
    ASSERT_TRUE(cache->invalidate("k"));
  }
}

TEST_F(WriteQueueTest, EachHasItsOwnTagsTtlAndFence) {
  // The fence waits for the longest lease.
  const CacheOptions options{.redis_url = server_->url(), .clock = &clock_};
  const auto cache = open_ready(options);
  const auto other = open_ready(options);
  LoopHold hold{*cache};
  std::vector<Written> answers;
  answers.push_back(set(*cache, "red", "v", {.tags = {"red"}}));
  answers.push_back(set(*cache, "both", "v", {.tags = {"blue", "red"}}));
  answers.push_back(set(*cache, "none", "v"));
  answers.push_back(set(*cache, "short", "v", {.ttl = 100s}));
  answers.push_back(set(*cache, "fenced", "v", {.fence = true}));
  hold.release();
  std::set<std::uint64_t> versions;
  for (Written& answer : answers) versions.insert(version_of(answer));
  EXPECT_EQ(versions.size(), 1U);
  EXPECT_GT(std::stoi(server_->command({"PTTL", "tiercel:none"})), 100000);  // The options' ttl.
  const int left = std::stoi(server_->command({"PTTL", "tiercel:short"}));
  EXPECT_GT(left, 0);
  EXPECT_LE(left, 100000);
  for (const char* key : {"red", "both", "none"}) EXPECT_EQ(read_value(*other, key), "v");
  Written invalidated = invalidate_tag(*cache, "red");
  EXPECT_GT(version_of(invalidated), *versions.begin());
  for (const auto& instance : {cache.get(), other.get()}) {
    EXPECT_TRUE(poll_until([&] { return read_value(*instance, "red") == "(absent)"; }));
    EXPECT_TRUE(poll_until([&] { return read_value(*instance, "both") == "(absent)"; }));
    EXPECT_EQ(read_value(*instance, "none"), "v");
  }
}

// The reply is lost. What they replaced has come back into L1 meanwhile, rightly; then it must go.
TEST_F(WriteQueueTest, ALostReplyLeavesAllOutcomesUnknown) {
  const auto cache = open({.stream_timeout = 60000ms});
  const auto writer = open();
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(cache->set(key_of(i), "old"));
  teach_scripts(*cache);
  for (auto timeout = 500ms;; timeout *= 2) {
    ASSERT_LT(timeout, kPatience);
    LoopHold hold{*cache};
    server_->command({"CLIENT", "PAUSE", "600000", "WRITE"});
    LoopHold::held_at = Clock::system().now();
    std::vector<Written> writes;
    std::vector<Answer<ReadResult>> reads(3);
    // Reads leave together: those that follow leave with this one, before the sets.
    Answer<ReadResult> first;
    cache->get_async("another", {.timeout = kPatience}, first.callback());
    for (std::size_t i = 0; i < 3; ++i) {
      writes.push_back(set(*cache, key_of(i), "new", {.timeout = timeout}));
      cache->get_async(key_of(i), {.timeout = kPatience}, reads[i].callback());
    }
    hold.release();
    for (auto& read : reads) EXPECT_EQ(described(read.take()), "old@l2");
    std::set<ErrorCode> codes;
    for (Written& write : writes) {
      const auto error = error_of(write);
      ASSERT_TRUE(error);
      codes.insert(error->code);
      if (error->code == ErrorCode::kDeadlineExceeded) {
        EXPECT_THAT(error->message, HasSubstr("outcome unknown"));
      }
    }
    ASSERT_EQ(codes.size(), 1U);
    if (codes.contains(ErrorCode::kDeadlineExceeded)) break;
    // There was no time to send them.
    ASSERT_TRUE(codes.contains(ErrorCode::kUnavailable));
    server_->command({"CLIENT", "UNPAUSE"});
  }
  EXPECT_EQ(cache->stats().writes_unknown, 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    // L1 has nothing that it could give, however old it may be.
    const auto read =
        cache->get(key_of(i), {.timeout = 20ms, .without_lease = WithoutLease::serve_stale(1h)});
    EXPECT_EQ(code_of(read), ErrorCode::kUnavailable) << described(read);
  }
  server_->command({"CLIENT", "UNPAUSE"});
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(poll_until([&] { return read_value(*cache, key_of(i)) == "new"; }));
  }
}

// Nothing was sent: known, and said so.
TEST_F(WriteQueueTest, WithoutRedisNoneIsUnknown) {
  const auto cache = open();
  server_->kill();
  // Until then it might still be sent.
  ASSERT_TRUE(poll_until([&] {
    const auto read = cache->get("k", {.timeout = 20ms, .freshness = Freshness::latest()});
    if (code_of(read) != ErrorCode::kUnavailable) return false;
    // Why there is no connection is said once it is known, and not where Redis is merely late.
    const std::string& message = read.error().message;
    return message.find("within the deadline: ") != std::string::npos ||
           (message.find("not sent before its deadline: ") != std::string::npos &&
            message.find("await their replies") == std::string::npos);
  }));
  std::vector<Written> answers;
  for (std::size_t i = 0; i < 20; ++i) {
    answers.push_back(set(*cache, key_of(i), "v", {.timeout = 100ms}));
  }
  for (Written& answer : answers) EXPECT_EQ(code_of_write(answer), ErrorCode::kUnavailable);
  server_->restart();
  ASSERT_TRUE(cache->wait_until_ready(kPatience));
  for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(read_value(*cache, key_of(i)), "(absent)");
}

// A set is given up at its own deadline, and not at that of its neighbour.
TEST_F(WriteQueueTest, DeadlinesThatAreApartStayApart) {
  const auto cache = open({.stream_timeout = 60000ms});
  teach_scripts(*cache);
  for (auto timeout = 300ms;; timeout *= 2) {
    ASSERT_LT(timeout, kPatience / 2);
    const int before = history_entries();
    LoopHold hold{*cache};
    server_->stop_process();
    LoopHold::held_at = Clock::system().now();
    Written patient = set(*cache, "patient", "v");
    Written hasty = set(*cache, "hasty", "v", {.timeout = timeout});
    Written as_patient = set(*cache, "as patient", "v");
    hold.release();
    const ErrorCode code = code_of_write(hasty);
    EXPECT_FALSE(patient.arrived());
    server_->continue_process();
    const std::uint64_t first = version_of(patient);
    const std::uint64_t last = version_of(as_patient);
    if (code == ErrorCode::kDeadlineExceeded) {
      EXPECT_LT(first, last);
      EXPECT_EQ(history_entries() - before, 3);
      break;
    }
    ASSERT_EQ(code, ErrorCode::kUnavailable) << "there was no time to send it";
  }
}

TEST_F(WriteQueueTest, PastItsBoundItIsOverloaded) {
  constexpr std::size_t kMax = 20;
  auto redis = l2::parse_url(server_->url());
  ASSERT_TRUE(redis);
  redis->queue_commands_max = kMax;
  const auto cache = open({.redis = *redis});
  for (int round = 0; round < 3; ++round) {  // Each leaves room for the next.
    const int before = history_entries();
    LoopHold hold{*cache};
    std::vector<Written> answers;
    for (std::size_t i = 0; i < kMax; ++i) answers.push_back(set(*cache, key_of(i), "v"));
    Written one_more = set(*cache, "one more", "v");
    ASSERT_TRUE(one_more.arrived()) << "at once";
    EXPECT_EQ(code_of_write(one_more), ErrorCode::kOverloaded);
    hold.release();
    for (Written& answer : answers) EXPECT_GT(version_of(answer), 0U);
    EXPECT_EQ(history_entries() - before, 2);
    EXPECT_EQ(read_value(*cache, "one more"), "(absent)");
  }
}

TEST_F(WriteQueueTest, BytesAreBoundedToo) {
  auto redis = l2::parse_url(server_->url());
  ASSERT_TRUE(redis);
  redis->queue_bytes_max = 100'000;
  const auto cache = open({.redis = *redis});
  for (int round = 0; round < 3; ++round) {
    const int before = history_entries();
    LoopHold hold{*cache};
    std::vector<Written> answers;
    for (std::size_t i = 0; i < 9; ++i) {
      answers.push_back(set(*cache, key_of(i), std::string(10'000, 'v')));
    }
    Written one_more = set(*cache, "one more", std::string(10'000, 'v'));
    ASSERT_TRUE(one_more.arrived()) << "at once";
    EXPECT_EQ(code_of_write(one_more), ErrorCode::kOverloaded);
    hold.release();
    for (Written& answer : answers) EXPECT_GT(version_of(answer), 0U);
    // Never more in one call than half of what may wait.
    EXPECT_EQ(history_entries() - before, 3);
  }
}

// A message has at most 64 KiB of keys.
TEST_F(WriteQueueTest, LongKeysLeaveInSeveralCalls) {
  const auto cache = open();
  const int before = history_entries();
  LoopHold hold{*cache};
  std::vector<Written> answers;
  for (char c = 'a'; c < 'e'; ++c) answers.push_back(set(*cache, std::string(30'000, c), "v"));
  hold.release();
  for (Written& answer : answers) EXPECT_GT(version_of(answer), 0U);
  EXPECT_EQ(history_entries() - before, 2);
  for (char c = 'a'; c < 'e'; ++c) EXPECT_EQ(read_value(*cache, std::string(30'000, c)), "v");
}

TEST_F(WriteQueueTest, WhatWaitsWhenTheCacheIsClosedIsAnswered) {
  auto cache = open();
  const int before = history_entries();
  LoopHold hold{*cache};
  std::vector<Written> answers;
  for (std::size_t i = 0; i < 20; ++i) answers.push_back(set(*cache, key_of(i), "v"));
  answers.push_back(invalidate(*cache, "k0"));
  std::thread closer{[&] { cache.reset(); }};
  for (Written& answer : answers) EXPECT_EQ(code_of_write(answer), ErrorCode::kClosed);
  hold.release();
  closer.join();
  EXPECT_EQ(history_entries(), before);
}

// Callbacks run on the loop thread while it sends; what they write is not lost, nor out of order.
TEST_F(WriteQueueTest, CallbacksWriteOn) {
  constexpr int kEach = 50;
  const auto cache = open();
  struct Chain {
    Cache* cache;
    std::string key;
    int left;
    std::uint64_t last = 0;
    Answer<WriteResult> over{};
    static void next(std::shared_ptr<Chain> chain) {
      Cache& cache = *chain->cache;
      cache.set_async(chain->key, std::to_string(chain->left), {.timeout = kPatience},
                      [chain](WriteResult written) mutable {
                        ASSERT_TRUE(written) << written.error().to_string();
                        EXPECT_GT(written->version, chain->last);
                        chain->last = written->version;
                        if (--chain->left > 0) return next(std::move(chain));
                        chain->over.callback()(written);
                      });
    }
  };
  std::vector<std::shared_ptr<Chain>> chains;
  {
    const LoopHold hold{*cache};
    for (std::size_t i = 0; i < 40; ++i) {
      chains.push_back(std::make_shared<Chain>(Chain{cache.get(), key_of(i), kEach}));
      Chain::next(chains.back());
    }
  }
  for (const auto& chain : chains) {
    EXPECT_TRUE(chain->over.take());
    EXPECT_EQ(read_value(*cache, chain->key), "1");
  }
}

// Who was not connected catches up from the history, key by key.
TEST_F(WriteQueueTest, TheHistoryHasAllTheirKeys) {
  TcpProxy proxy{server_->port()};
  const auto writer = open();
  const auto reader = open_ready({.redis_url = proxy.url()});
  ASSERT_TRUE(writer->set("untouched", "old"));
  for (std::size_t i = 0; i < kTogether; ++i) ASSERT_TRUE(writer->set(key_of(i), "old"));
  ASSERT_EQ(read_value(*reader, "untouched"), "old");
  for (std::size_t i = 0; i < kTogether; ++i) ASSERT_EQ(read_value(*reader, key_of(i)), "old");
  ASSERT_TRUE(poll_until([&] { return reader->stats().messages > kTogether; }));
  // The master was found to be ours when all of that had been heard.
  const TimePoint heard_at = Clock::system().now();
  ASSERT_TRUE(poll_until([&] {
    const TimePoint asked_at = Clock::system().now();
    const auto found = reader->try_get("untouched");
    return found && asked_at - found->age_bound() > heard_at;
  }));
  const auto before = reader->stats();
  proxy.set_accepting(false);
  proxy.reset_all();
  ASSERT_TRUE(poll_until([&] { return !reader->lease().held; }));

  LoopHold hold{*writer};
  std::vector<Written> answers;
  for (std::size_t i = 0; i < kTogether; ++i) answers.push_back(set(*writer, key_of(i), "new"));
  hold.release();
  std::set<std::uint64_t> versions;
  for (Written& answer : answers) versions.insert(version_of(answer));
  EXPECT_EQ(versions.size(), 1U);

  proxy.set_accepting(true);
  ASSERT_TRUE(reader->wait_until_ready(kPatience));
  const auto after = reader->stats();
  EXPECT_EQ(after.l1_drops, before.l1_drops);
  EXPECT_GT(after.epochs_warm, before.epochs_warm);
  for (std::size_t i = 0; i < kTogether; ++i) {
    EXPECT_EQ(described(reader->try_get(key_of(i))), "(none)");
    EXPECT_EQ(read_value(*reader, key_of(i)), "new");
  }
  EXPECT_TRUE(poll_until([&] { return described(reader->try_get("untouched")) == "old@l1"; }));
}

TEST_F(WriteQueueTest, ForeignWritersAreObservedAsBefore) {
  const auto cache = open({.foreign_writers = true});
  LoopHold hold{*cache};
  std::vector<Written> answers;
  for (std::size_t i = 0; i < kTogether; ++i) answers.push_back(set(*cache, key_of(i), "v"));
  hold.release();
  for (Written& answer : answers) EXPECT_GT(version_of(answer), 0U);
  for (std::size_t i = 0; i < kTogether; ++i) EXPECT_EQ(read_value(*cache, key_of(i)), "v");
  server_->command({"SET", "tiercel:" + key_of(3), "foreign"});
  EXPECT_TRUE(poll_until([&] { return read_value(*cache, key_of(3)) == "foreign"; }));
}

// What goes wrong for the call goes wrong for each of them.
TEST_F(WriteQueueTest, ARefusalIsToldToAll) {
  const auto cache = open();
  server_->command({"DEL", "tiercel/history"});
  server_->command({"SET", "tiercel/history", "no stream"});
  LoopHold hold{*cache};
  std::vector<Written> answers;
  for (std::size_t i = 0; i < 5; ++i) answers.push_back(set(*cache, key_of(i), "v"));
  hold.release();
  for (Written& answer : answers) {
    const auto error = error_of(answer);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, ErrorCode::kUnavailable);
    EXPECT_THAT(error->message, HasSubstr("WRONGTYPE"));
  }
  EXPECT_EQ(cache->stats().writes_failed, 5U);
}

}  // namespace
}  // namespace tiercel::testing
