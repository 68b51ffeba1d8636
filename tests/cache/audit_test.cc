// The auditor on a real Redis: what is in order it finds in order, and writes that nobody was told
// of it finds out.

#include <algorithm>
#include <atomic>
#include <numeric>
#include <string>
#include <thread>

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "tiercel/coherence/names.h"
#include "tiercel/coherence/scripts.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/message.h"

namespace tiercel::testing {
namespace {

using serialization::MessageKind;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The script of a writer that forgot to publish.
std::string silent(std::string_view script) {
  std::string text{script};
  const auto begin = text.find("redis.call('PUBLISH'");
  EXPECT_NE(begin, std::string::npos);
  return text.erase(begin, text.find('\n', begin) - begin);
}

// Samples: the ring's, and those under audit. After so many, what was read before has been judged.
constexpr std::uint64_t kMoreThanWait = 200;

class Audit : public ::testing::Test {
 protected:
  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    options.redis_url = server_->url();
    return open_ready(std::move(options));
  }
  // Audits each hit.
  std::unique_ptr<Cache> open_audited(CacheOptions options = {}) {
    options.audit_one_in = 1;
    return open(std::move(options));
  }

  // Reads the key from L1 until the audit says so.
  template <typename Condition>
  static bool read_until(Cache& cache, std::string_view key, Condition&& condition) {
    return poll_until(
        [&] {
          (void)cache.try_get(key);
          return condition(cache.stats().audit);
        },
        kPatience);
  }
  static bool finds_a_violation(Cache& cache, std::string_view key) {
    return read_until(cache, key, [](const AuditStats& audit) { return audit.violations > 0; });
  }
  // Judged in order, as what was read before was judged before.
  static bool finds_fresh(Cache& cache, std::string_view key, std::uint64_t more = 1) {
    const auto before = cache.stats().audit.fresh;
    return read_until(cache, key,
                      [&](const AuditStats& audit) { return audit.fresh >= before + more; });
  }
  static std::uint64_t waiting(const AuditStats& audit) {
    return audit.sampled - audit.voided - audit.fresh - audit.stale_within_bound -
           audit.violations - audit.inconclusive;
  }
  // Into L1, as a reader without a loader has it.
  static void fetch(Cache& cache, std::string_view key) {
    ASSERT_TRUE(poll_until(
        [&] {
          const auto result = cache.get(key, {.timeout = kPatience});
          return result && *result && (*result)->tier() == Tier::kL1;
        },
        kPatience));
  }

  // Likewise, as a loader brings it: what is loaded while no lease vouches is not kept.
  static void load(Cache& cache, std::string_view key, const std::optional<Loaded>& what) {
    ASSERT_TRUE(poll_until(
        [&] {
          const auto drawn = [&] {
            const AuditStats audit = cache.stats().audit;
            return audit.sampled + audit.dropped;
          };
          const auto before = drawn();
          (void)cache.get(key, {.loader = [&](std::string_view) { return what; }});
          return drawn() > before;
        },
        kPatience));
  }

  std::string silently(std::string_view script, const std::vector<std::string>& keys,
                       const std::vector<std::string>& arguments) {
    std::vector<std::string> words{"EVAL", silent(script), std::to_string(keys.size())};
    words.insert(words.end(), keys.begin(), keys.end());
    words.insert(words.end(), arguments.begin(), arguments.end());
    const std::string reply = server_->command(words);
    EXPECT_FALSE(reply.starts_with("-")) << reply;
    return reply;
  }
  static std::string message(MessageKind kind, std::vector<std::string> keys) {
    return serialization::encode_message({.origin = 1, .nonce = 1, .kind = kind, .keys = keys})
        .value();
  }
  void set_silently(const std::string& key, std::string_view value) {
    silently(coherence::kWriteScript,
             {names_.value_key(key), names_.fill_key(key), names_.history_key()},
             {serialization::encode_envelope({.payload = value}).value(), "0",
              message(MessageKind::kSet, {key}), names_.channel(), "10000"});
  }
  void invalidate_silently(const std::string& key) {
    silently(coherence::kWriteScript,
             {names_.value_key(key), names_.fill_key(key), names_.history_key()},
             {"", "0", message(MessageKind::kInvalidate, {key}), names_.channel(), "10000"});
  }

  const std::unique_ptr<RedisServer> server_ = RedisServer::start();
  const coherence::Names names_ = coherence::Names::create("tiercel").value();
};

// --- in health

TEST_F(Audit, HealthyTrafficHasNoViolations) {
  const auto reader = open_audited({.lease = 200ms});
  const auto writer = open_audited({.lease = 200ms, .value_push_bytes_max = 64});
  std::atomic<bool> is_over{false};
  std::thread writing([&] {
    for (int i = 0; !is_over; ++i) {
      const std::string key = "key:" + std::to_string(i % 301);
      switch (i % 1000) {
        case 50: (void)writer->invalidate_tag("even"); break;
        case 60: (void)writer->clear(); break;
        case 70: (void)writer->invalidate(key); break;
        default: (void)writer->set(key, std::to_string(i), {.tags = {i % 2 == 0 ? "even" : "odd"}});
      }
    }
  });
  const ReadOptions loading{.timeout = kPatience,
                            .loader = [](std::string_view) { return Loaded{"loaded"}; }};
  int reads = 0;
  EXPECT_TRUE(poll_until(
      [&] {
        for (int i = 0; i < 20; ++i) {
          const std::string key = "key:" + std::to_string(++reads % 307);
          for (const auto& cache : {&*reader, &*writer}) {
            (void)cache->get(key, loading);
            for (int again = 0; again < 5; ++again) (void)cache->try_get(key);
          }
        }
        return reader->stats().audit.fresh > 300 && writer->stats().audit.fresh > 100;
      },
      60s));
  is_over = true;
  writing.join();
  for (const auto& cache : {&*reader, &*writer}) {
    EXPECT_TRUE(poll_until([&] { return waiting(cache->stats().audit) == 0; }, kPatience));
  }
  for (const auto* cache : {&*reader, &*writer}) {
    const AuditStats audit = cache->stats().audit;
    EXPECT_EQ(audit.violations, 0U);
    EXPECT_EQ(std::accumulate(audit.staleness.begin(), audit.staleness.end(), std::uint64_t{0}),
              audit.stale_within_bound);
  }
}

TEST_F(Audit, WhatNobodyChangesIsFreshWhateverItIs) {
  const auto cache =
      open_audited({.l1_capacity_bytes_max = std::size_t{64} << 20, .negative_ttl = 600000ms});
  ASSERT_TRUE(cache->set("plain", "v"));
  ASSERT_TRUE(cache->set("empty", ""));
  ASSERT_TRUE(cache->set("tagged", "v", {.tags = {"a", "b"}}));
  ASSERT_TRUE(cache->set("at the limit", std::string(65536, 'x')));
  ASSERT_TRUE(cache->set("large", std::string(100000, 'x')));
  load(*cache, "loaded", Loaded{"v"});
  load(*cache, "nothing", std::nullopt);
  server_->command({"SET", "tiercel:foreign", "raw"});
  fetch(*cache, "foreign");
  for (const std::string key :
       {"plain", "empty", "tagged", "at the limit", "large", "loaded", "nothing", "foreign"}) {
    EXPECT_TRUE(finds_fresh(*cache, key, 3)) << key;
  }
  const AuditStats audit = cache->stats().audit;
  EXPECT_EQ(audit.violations, 0U);
  EXPECT_EQ(audit.inconclusive, 0U);
  EXPECT_EQ(audit.stale_within_bound, 0U);
}

TEST_F(Audit, WithoutHistoryTheBytesAreCompared) {
  const auto cache = open_audited({.history = false});
  ASSERT_TRUE(cache->set("k", "v"));
  fetch(*cache, "k");
  EXPECT_TRUE(finds_fresh(*cache, "k", 3));
  EXPECT_EQ(cache->stats().audit.inconclusive, 0U);
  // Nobody can say since when it is another.
  silently(coherence::kWriteUnversionedScript, {names_.value_key("k"), names_.fill_key("k")},
           {serialization::encode_envelope({.payload = "w"}).value(), "0",
            message(MessageKind::kSet, {"k"}), names_.channel()});
  EXPECT_TRUE(read_until(*cache, "k", [](const auto& audit) { return audit.inconclusive > 0; }));
  EXPECT_EQ(cache->stats().audit.violations, 0U);
}

TEST_F(Audit, ForeignWritersAreInconclusive) {
  const auto cache = open_audited();
  ASSERT_TRUE(cache->set("k", "v"));
  server_->command({"SET", "tiercel:k", "raw"});
  EXPECT_TRUE(read_until(*cache, "k", [](const auto& audit) { return audit.inconclusive > 0; }));
  EXPECT_EQ(cache->stats().audit.violations, 0U);
}

// Expired in Redis, or evicted, and loaded anew: the value is another, its version that of some
// other write, and nobody has changed anything.
TEST_F(Audit, AnotherLoadIsNoChange) {
  const auto reader = open_audited();
  const auto other = open();
  load(*reader, "k", Loaded{"first"});
  server_->command({"DEL", "tiercel:k"});
  EXPECT_TRUE(finds_fresh(*reader, "k", 3)) << "expired";
  ASSERT_TRUE(other->set("another", "v"));
  (void)other->get("k", {.loader = [](std::string_view) { return Loaded{"second"}; }});
  ASSERT_NE(server_->command({"GET", "tiercel:k"}).find("second"), std::string::npos);
  EXPECT_TRUE(finds_fresh(*reader, "k", kMoreThanWait)) << "and reloaded";
  EXPECT_EQ(described(reader->try_get("k")), "first@l1");
  EXPECT_EQ(reader->stats().audit.violations, 0U);
  EXPECT_EQ(reader->stats().audit.inconclusive, 0U);
}

// Whoever finds no base writes one, which says nothing of what is in L1.
TEST_F(Audit, ABaseThatWasMadeAnewIsNoChange) {
  const auto reader = open_audited();
  const auto other = open();
  ASSERT_TRUE(other->set("k", "v"));
  fetch(*reader, "k");
  ASSERT_TRUE(other->set("another", "v"));
  server_->command({"DEL", names_.tags_key()});
  (void)other->get("third", {.loader = [](std::string_view) { return Loaded{"v"}; }});
  ASSERT_EQ(server_->command({"HEXISTS", names_.tags_key(), "base"}), "1");
  EXPECT_TRUE(finds_fresh(*reader, "k", kMoreThanWait));
  EXPECT_EQ(described(reader->try_get("k")), "v@l1");
  EXPECT_EQ(reader->stats().audit.violations, 0U);
  EXPECT_EQ(reader->stats().audit.inconclusive, 0U);
}

TEST_F(Audit, CanBeSwitchedOffAndIsNotThereWithoutRedis) {
  for (const auto& cache : {open({.audit_one_in = std::nullopt}), open_ready({.audit_one_in = 1}),
                            open({.audit_one_in = 1'000'000'000})}) {
    ASSERT_TRUE(cache->set("k", "v"));
    for (int i = 0; i < 1000; ++i) (void)cache->try_get("k");
    EXPECT_EQ(cache->stats().audit.sampled + cache->stats().audit.dropped, 0U);
  }
}

TEST_F(Audit, DrawsAboutOneInSoMany) {
  const auto cache = open({.lease = 60000ms, .stream_timeout = 60000ms, .audit_one_in = 100});
  ASSERT_TRUE(cache->set("k", "v"));
  // More than 8 standard deviations on either side; each thread for itself.
  for (int thread = 0; thread < 2; ++thread) {
    const auto before = cache->stats().audit;
    std::thread{[&] {
      for (int i = 0; i < 100'000; ++i) ASSERT_TRUE(cache->try_get("k"));
    }}.join();
    const auto after = cache->stats().audit;
    const auto drawn = after.sampled + after.dropped - before.sampled - before.dropped;
    EXPECT_GT(drawn, 700U);
    EXPECT_LT(drawn, 1300U);
  }
}

// --- broken on purpose

TEST_F(Audit, AWriteThatWasNotPublishedIsAViolation) {
  Mutex mutex;
  std::vector<std::string> errors;
  const auto reader =
      open_audited({.lease = 100ms, .log = [&](LogLevel level, std::string_view text) {
                      MutexLock lock{mutex};
                      if (level == LogLevel::kError) errors.emplace_back(text);
                    }});
  const auto writer = open();
  ASSERT_TRUE(writer->set("k", "old"));
  fetch(*reader, "k");
  EXPECT_TRUE(finds_fresh(*reader, "k"));
  EXPECT_EQ(reader->stats().audit.violations, 0U);
  set_silently("k", "new");
  EXPECT_TRUE(finds_a_violation(*reader, "k"));
  EXPECT_TRUE(read_until(*reader, "k", [&](const AuditStats& audit) {
    MutexLock lock{mutex};
    // It goes on, and not each is logged.
    return audit.worst_at_least > 200ms && !errors.empty() && audit.violations > errors.size();
  }));
  const AuditStats audit = reader->stats().audit;
  EXPECT_GE(audit.worst_at_most, audit.worst_at_least);
  EXPECT_EQ(std::accumulate(audit.staleness.begin(), audit.staleness.end(), std::uint64_t{0}),
            audit.stale_within_bound + audit.violations);
  EXPECT_GT(std::accumulate(audit.staleness.begin() + 8, audit.staleness.end(), std::uint64_t{0}),
            0U)
      << "more than 128 ms";
  MutexLock lock{mutex};
  ASSERT_FALSE(errors.empty());
  EXPECT_THAT(errors.front(), HasSubstr("L1 broke its contract"));
  EXPECT_THAT(errors.front(), HasSubstr("key of 1 bytes"));
  EXPECT_THAT(errors.front(), HasSubstr("\"k\""));
}

TEST_F(Audit, ALongKeyIsNotSpeltOutInTheLog) {
  Mutex mutex;
  std::string error;
  const auto reader =
      open_audited({.lease = 100ms, .log = [&](LogLevel level, std::string_view text) {
                      MutexLock lock{mutex};
                      if (level == LogLevel::kError) error = text;
                    }});
  const std::string key(256, 'x');
  ASSERT_TRUE(open()->set(key, "old"));
  fetch(*reader, key);
  set_silently(key, "new");
  EXPECT_TRUE(finds_a_violation(*reader, key));
  EXPECT_TRUE(poll_until([&] {
    MutexLock lock{mutex};
    return !error.empty();
  }));
  MutexLock lock{mutex};
  EXPECT_THAT(error, HasSubstr("key of 256 bytes, XXH3 "));
  EXPECT_THAT(error, Not(HasSubstr("xxx")));
}

TEST_F(Audit, AnInvalidationThatWasNotPublishedIsAViolation) {
  const auto reader = open_audited({.lease = 100ms});
  ASSERT_TRUE(open()->set("k", "old"));
  fetch(*reader, "k");
  invalidate_silently("k");
  EXPECT_TRUE(finds_a_violation(*reader, "k"));
}

TEST_F(Audit, ATagThatWasNotPublishedIsAViolation) {
  const auto reader = open_audited({.lease = 100ms});
  ASSERT_TRUE(open()->set("k", "old", {.tags = {"a", "team"}}));
  fetch(*reader, "k");
  silently(coherence::kInvalidateTagsScript, {names_.history_key(), names_.tags_key()},
           {message(MessageKind::kTag, {"team"}), names_.channel(), "10000",
            std::to_string(serialization::tag_slot("team"))});
  EXPECT_TRUE(finds_a_violation(*reader, "k"));
}

TEST_F(Audit, AClearThatWasNotPublishedIsAViolation) {
  const auto reader = open_audited({.lease = 100ms});
  ASSERT_TRUE(open()->set("k", "old"));
  fetch(*reader, "k");
  silently(coherence::kClearScript, {names_.history_key(), names_.tags_key()},
           {message(MessageKind::kClear, {}), names_.channel(), "10000"});
  EXPECT_TRUE(finds_a_violation(*reader, "k"));
}

TEST_F(Audit, ANegativeEntryThatIsOutdatedIsAViolation) {
  const auto reader = open_audited({.lease = 100ms, .negative_ttl = 600000ms});
  load(*reader, "k", std::nullopt);
  set_silently("k", "new");
  EXPECT_TRUE(finds_a_violation(*reader, "k"));
}

// Long ago, and much was written since: what is stored says which entry of the history to ask for.
TEST_F(Audit, AnOldWriteThatWasNotPublishedIsFoundBehindManyOthers) {
  const auto reader = open_audited({.lease = 100ms});
  const auto writer = open();
  ASSERT_TRUE(writer->set("k", "old"));
  ASSERT_TRUE(writer->set("gone", "old"));
  fetch(*reader, "k");
  fetch(*reader, "gone");
  set_silently("k", "new");
  invalidate_silently("gone");
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(writer->set("other", std::to_string(i)));
  const auto before = reader->stats().audit.violations;
  EXPECT_TRUE(
      read_until(*reader, "k", [&](const auto& audit) { return audit.violations > before; }));
  // An invalidation leaves nothing that tells where to look, so nothing is claimed.
  EXPECT_TRUE(
      read_until(*reader, "gone", [](const auto& audit) { return audit.inconclusive > 0; }));
}

TEST_F(Audit, AHistoryThatWasTrimmedProvesNothing) {
  const auto reader = open_audited({.lease = 100ms});
  ASSERT_TRUE(open()->set("k", "old"));
  fetch(*reader, "k");
  invalidate_silently("k");
  server_->command({"XTRIM", names_.history_key(), "MAXLEN", "0"});
  const auto before = reader->stats().audit.inconclusive;
  EXPECT_TRUE(
      read_until(*reader, "k", [&](const auto& audit) { return audit.inconclusive > before; }));
}

// --- bounds

TEST_F(Audit, WhatTheRingCannotHoldIsDropped) {
  const auto cache = open_audited({.lease = 60000ms, .stream_timeout = 60000ms});
  ASSERT_TRUE(cache->set("k", "v"));
  EXPECT_TRUE(poll_until(
      [&] {
        // So many that the loop cannot keep up.
        for (int i = 0; i < 1000; ++i) (void)cache->try_get("k");
        return cache->stats().audit.dropped > 0;
      },
      kPatience));
  EXPECT_TRUE(finds_fresh(*cache, "k")) << "and it goes on";
}

// A sample that is torn would be of another key, or version, or of other bytes.
TEST_F(Audit, ManyThreadsShareTheRing) {
  const auto cache = open_audited({.lease = 200ms});
  std::atomic<bool> is_over{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, key = std::string(static_cast<std::size_t>(1 + 60 * t), 'k')] {
      EXPECT_TRUE(cache->set(key, key, {.timeout = kPatience}));
      while (!is_over) (void)cache->try_get(key);
    });
  }
  EXPECT_TRUE(poll_until([&] { return cache->stats().audit.fresh > 500; }, kPatience));
  is_over = true;
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(poll_until([&] { return waiting(cache->stats().audit) == 0; }, kPatience));
  const AuditStats audit = cache->stats().audit;
  EXPECT_GT(audit.dropped, 0U);
  EXPECT_EQ(audit.violations + audit.inconclusive + audit.stale_within_bound, 0U);
}

TEST_F(Audit, LongKeysAreSkipped) {
  const auto cache = open_audited();
  const std::string longest(256, 'k');
  const std::string too_long(257, 'k');
  ASSERT_TRUE(cache->set(longest, "v"));
  ASSERT_TRUE(cache->set(too_long, "v"));
  EXPECT_TRUE(finds_fresh(*cache, longest));
  EXPECT_EQ(cache->stats().audit.skipped, 0U);
  const auto before = cache->stats().audit.sampled;
  EXPECT_TRUE(read_until(*cache, too_long, [](const auto& audit) { return audit.skipped > 0; }));
  EXPECT_EQ(cache->stats().audit.sampled, before);
}

TEST_F(Audit, AnEpochThatEndsVoidsItsSamples) {
  const auto cache = open_audited();
  ASSERT_TRUE(cache->set("k", "v"));
  ASSERT_TRUE(finds_fresh(*cache, "k"));
  EXPECT_TRUE(poll_until(
      [&] {
        fetch(*cache, "k");
        for (int i = 0; i < 100; ++i) (void)cache->try_get("k");
        const auto epochs = cache->stats().epochs;
        server_->command({"CLIENT", "KILL", "TYPE", "pubsub"});
        (void)poll_until([&] { return cache->stats().epochs > epochs; }, kPatience);
        (void)poll_until([&] { return waiting(cache->stats().audit) == 0; }, kPatience);
        return cache->stats().audit.voided > 0;
      },
      kPatience));
  fetch(*cache, "k");
  EXPECT_TRUE(finds_fresh(*cache, "k")) << "and the next one goes on";
  EXPECT_EQ(cache->stats().audit.violations, 0U);
}

// Answers that were wanted without a lease are no matter of the lease.
TEST_F(Audit, StaleAnswersOnDemandAreNotSampled) {
  const auto cache = open_audited({.lease = 100ms, .stream_timeout = 60000ms});
  ASSERT_TRUE(cache->set("k", "v"));
  server_->stop_process();
  ASSERT_TRUE(poll_until([&] { return !cache->lease().held; }, kPatience));
  const ReadOptions stale{.freshness = Freshness::at_most(3600000ms)};
  const auto before = cache->stats().audit;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(described(cache->get("k", stale)), "v@l1");
  const auto after = cache->stats().audit;
  EXPECT_EQ(after.sampled + after.dropped, before.sampled + before.dropped);
  server_->continue_process();
}

}  // namespace
}  // namespace tiercel::testing
