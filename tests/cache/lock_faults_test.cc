// Locks while Redis, the links to it, or the holder fail.

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "cache_fixture.h"
#include "lock_service.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"

namespace tiercel::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kTtlMost = 10min;

class LockFaults : public ::testing::Test {
 protected:
  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    options.redis_url = server_->url();
    return open_ready(std::move(options));
  }
  // Its data connection alone goes through the proxy's faults.
  std::unique_ptr<Cache> open_by_proxy() {
    proxy_.set_marker("SUBSCRIBE");
    proxy_.set_only_marked(false);
    auto cache = open_ready({.redis_url = proxy_.url(), .write_timeout = 200ms});
    // The server knows the scripts then: the first answer is that of a script, and no NOSCRIPT.
    EXPECT_TRUE(cache->lock("first", {.ttl = kTtlMost, .wait = kPatience}));
    EXPECT_TRUE(poll_until([&] { return !is_at("first"); }));
    server_->command({"DEL", "tiercel/lock_number"});
    return cache;
  }
  bool is_at(const std::string& name) {
    return server_->command({"EXISTS", "tiercel/lock:" + name}) == "1";
  }

  std::unique_ptr<RedisServer> server_ = RedisServer::start();
  TcpProxy proxy_{server_->port()};
};

// The loop stands still, as in a process that is stopped; the clock goes on.
TEST_F(LockFaults, AHolderWhoseLoopStandsStillLosesItAndIsTold) {
  const auto holder = open();
  const auto other = open();
  std::atomic<int> lost{0};
  for (auto ttl = 300ms;; ttl *= 2) {
    ASSERT_LT(ttl, kPatience);
    const std::string name = "l" + std::to_string(ttl.count());
    lost = 0;
    auto lock = holder->lock(name, {.ttl = ttl, .wait = kPatience, .on_lost = [&] { ++lost; }});
    ASSERT_TRUE(lock) << lock.error().to_string();
    Gate gate;
    holder->lock_async("of " + name, {.wait = kPatience},
                       [gate](const Result<Lock>&) { gate.pass(); });
    ASSERT_TRUE(gate.wait_until_arrived(1));
    if (lost > 0) {  // Before the loop stood still.
      gate.open();
      continue;
    }
    auto next = other->lock(name, {.ttl = kTtlMost, .wait = kPatience});
    ASSERT_TRUE(next) << next.error().to_string();
    EXPECT_FALSE(lock->is_held()) << "before anyone else has it";
    EXPECT_EQ(lost, 0);
    gate.open();
    EXPECT_TRUE(poll_until([&] { return lost == 1; }));
    EXPECT_FALSE(lock->is_held());
    EXPECT_GT(next->fencing_number(), lock->fencing_number());
    EXPECT_FALSE(*lock->release());
    EXPECT_TRUE(next->is_held());
    EXPECT_TRUE(is_at(name));
    break;
  }
}

TEST_F(LockFaults, AHolderWhoseRedisHangsLosesItAndIsTold) {
  const auto cache = open();
  std::atomic<int> lost{0};
  auto lock = cache->lock("l", {.ttl = 500ms, .wait = kPatience, .on_lost = [&] { ++lost; }});
  ASSERT_TRUE(lock) << lock.error().to_string();
  server_->stop_process();
  EXPECT_TRUE(poll_until([&] { return !lock->is_held(); }));
  EXPECT_TRUE(poll_until([&] { return lost == 1; }));
  const auto waited = cache->lock("l", {.wait = 50ms});
  ASSERT_FALSE(waited);
  EXPECT_NE(waited.error().code, ErrorCode::kConflict) << waited.error().to_string();
  server_->continue_process();
  // A renewal that was late is no reason to hold it again; and what was given back unasked is free.
  EXPECT_TRUE(cache->lock("m", {.wait = kPatience}));
  EXPECT_FALSE(lock->is_held());
  (void)lock->release();
  EXPECT_TRUE(cache->lock("l", {.ttl = kTtlMost, .wait = kPatience}));
}

// The ttl is so long that only what is asked at the new connection can tell.
TEST_F(LockFaults, AServerThatForgotItIsAskedAtOnce) {
  const auto cache = open();
  std::atomic<int> lost{0};
  auto lock = cache->lock("l", {.ttl = kTtlMost, .on_lost = [&] { ++lost; }});
  ASSERT_TRUE(lock);
  const std::uint64_t number = lock->fencing_number();
  server_->restart();
  EXPECT_TRUE(poll_until([&] { return lost == 1; }));
  EXPECT_FALSE(lock->is_held());
  auto next = cache->lock("l", {.wait = kPatience});
  ASSERT_TRUE(next) << next.error().to_string();
  EXPECT_GT(next->fencing_number(), number) << "though the number was forgotten, too";
  EXPECT_FALSE(*lock->release());
}

TEST_F(LockFaults, AServerThatHasGrantedItToAnotherIsAskedAtOnce) {
  const auto cache = open_by_proxy();
  std::atomic<int> lost{0};
  auto lock = cache->lock("l", {.ttl = kTtlMost, .wait = kPatience, .on_lost = [&] { ++lost; }});
  ASSERT_TRUE(lock) << lock.error().to_string();
  const std::string others = "another's token.8 bytes.";
  server_->command({"SET", "tiercel/lock:l", others, "PX", "300000"});
  proxy_.reset_all();
  EXPECT_TRUE(poll_until([&] { return lost == 1; }));
  EXPECT_FALSE(lock->is_held());
  (void)lock->release();
  EXPECT_EQ(server_->command({"GET", "tiercel/lock:l"}), others);
  EXPECT_LE(std::stol(server_->command({"PTTL", "tiercel/lock:l"})), 300000) << "nor prolonged";
}

// As after it was set back.
TEST_F(LockFaults, NumbersRiseThoughTheServersClockIsBehindTheLast) {
  const auto cache = open();
  server_->command({"SET", "tiercel/lock_number", std::string{"\x70\0\0\0\0\0\0\x05", 8}});
  for (const std::uint64_t number : {0x7000000000000006U, 0x7000000000000007U}) {
    auto lock = cache->lock("l", {.wait = kPatience});
    ASSERT_TRUE(lock) << lock.error().to_string();
    EXPECT_EQ(lock->fencing_number(), number);
  }
}

TEST_F(LockFaults, RedisIsKilledAtEachStep) {
  const auto cache = open({.write_timeout = 200ms});
  server_->kill();
  EXPECT_TRUE(poll_until([&] {  // Until it is noticed it may be sent.
    const auto never_sent = cache->lock("l", {.wait = 50ms});
    return !never_sent && never_sent.error().code == ErrorCode::kUnavailable;
  }));
  EXPECT_FALSE(cache->try_lock("l"));

  Answer<Result<Lock>> asks;  // Before it is up.
  cache->lock_async("l", {.ttl = kTtlMost, .wait = kPatience}, asks.callback());
  server_->restart();
  auto lock = asks.take();
  ASSERT_TRUE(lock) << lock.error().to_string();

  Answer<Result<Lock>> waits;  // While it is held, which is then forgotten.
  cache->lock_async("l", {.ttl = kTtlMost, .wait = kPatience}, waits.callback());
  ASSERT_TRUE(poll_until([&] { return cache->stats().locks_waiting == 1; }));
  server_->kill();
  server_->restart();
  auto next = waits.take();
  ASSERT_TRUE(next) << next.error().to_string();
  EXPECT_FALSE(lock->is_held());
  EXPECT_GT(next->fencing_number(), lock->fencing_number());

  server_->kill();  // While it is given back.
  const auto released = next->release();
  ASSERT_FALSE(released);
  // Whether it was sent depends on who notices the end first.
  EXPECT_TRUE(released.error().code == ErrorCode::kUnavailable ||
              released.error().code == ErrorCode::kDeadlineExceeded)
      << released.error().to_string();
  EXPECT_FALSE(next->is_held());
  server_->restart();
  EXPECT_TRUE(cache->lock("l", {.wait = kPatience}));
}

TEST_F(LockFaults, AGrantWhoseReplyIsLostIsAskedForAgain) {
  const auto cache = open_by_proxy();
  proxy_.set_server_to_client({.blackhole = true});
  Answer<Result<Lock>> asks;
  cache->lock_async("l", {.ttl = kTtlMost, .wait = kPatience}, asks.callback());
  ASSERT_TRUE(poll_until([&] { return is_at("l"); }));
  const std::string granted = server_->command({"GET", "tiercel/lock_number"});
  server_->command({"PEXPIRE", "tiercel/lock:l", "300000"});  // As if it had been long ago.
  EXPECT_FALSE(asks.arrived());
  proxy_.reset_all();  // Before anything comes through that would be taken for the lost reply.
  proxy_.heal();
  auto lock = asks.take();
  ASSERT_TRUE(lock) << lock.error().to_string();
  EXPECT_TRUE(lock->is_held());
  EXPECT_EQ(server_->command({"GET", "tiercel/lock_number"}), granted) << "it is the same grant";
  EXPECT_GT(std::stol(server_->command({"PTTL", "tiercel/lock:l"})), 300000)
      << "it is vouched for from when it was asked for again";
  EXPECT_TRUE(*lock->release());
}

TEST_F(LockFaults, WhatIsVouchedForBeginsWhenItIsAskedFor) {
  const auto cache = open_by_proxy();
  proxy_.set_server_to_client({.delay = 500ms});
  auto lock = cache->lock("l", {.ttl = 60s, .wait = kPatience});
  ASSERT_TRUE(lock) << lock.error().to_string();
  EXPECT_LE(lock->remaining(), 60s - 500ms);
  // Nothing is left of a grant whose reply takes longer than its life.
  const auto useless = cache->lock("m", {.ttl = 100ms, .wait = 1500ms});
  ASSERT_FALSE(useless);
  EXPECT_NE(useless.error().code, ErrorCode::kConflict) << useless.error().to_string();
}

TEST_F(LockFaults, AGrantThatNobodyLearntOfIsGivenBack) {
  const auto cache = open_by_proxy();
  for (auto wait = 300ms;; wait *= 2) {
    ASSERT_LT(wait, kPatience);
    proxy_.set_server_to_client({.blackhole = true});
    const auto lock = cache->lock("l", {.ttl = kTtlMost, .wait = wait});
    ASSERT_FALSE(lock);
    if (lock.error().code == ErrorCode::kDeadlineExceeded) {
      EXPECT_THAT(lock.error().message, HasSubstr("not held by us"));
      break;
    }
    // There was no time to send it.
    EXPECT_EQ(lock.error().code, ErrorCode::kUnavailable) << lock.error().to_string();
    proxy_.reset_all();  // Before anything comes through that would be taken for the lost reply.
    proxy_.heal();
    ASSERT_TRUE(cache->wait_until_ready(kPatience));
  }
  EXPECT_TRUE(poll_until([&] {
    return server_->command({"EXISTS", "tiercel/lock_number"}) == "1";
  })) << "it had been granted";
  EXPECT_TRUE(poll_until([&] { return !is_at("l"); })) << "long before its ttl ends";
  EXPECT_EQ(cache->stats().locks_held, 0U);
}

TEST_F(LockFaults, WhatTooFewReplicasHaveIsRefusedAndGivenBack) {
  const auto cache = open();
  const LockOptions wanted{.ttl = kTtlMost, .wait = 3s, .replicas = 1};
  // On a slow machine the count can come too late, and is then not known.
  const auto refuse = [&](const auto& ask) {
    for (int i = 0; i < 10; ++i) {
      const Error error = ask().error();
      EXPECT_EQ(error.code, ErrorCode::kUnavailable) << error.to_string();
      auto free = cache->lock("l", {.wait = kPatience});
      ASSERT_TRUE(free) << "long before its ttl ends";
      // Whoever asks next does so on another connection.
      EXPECT_TRUE(free->release().value_or(false));
      if (error.message.find("an unknown number of 1 replicas have it") != std::string::npos) {
        continue;
      }
      EXPECT_THAT(error.message,
                  HasSubstr("0 of 1 replicas have it; the lock 'l' is not held by us"));
      return;
    }
    FAIL() << "the count never came in time";
  };
  refuse([&] { return cache->lock("l", wanted); });
  refuse([&] { return cache->try_lock("l", wanted); });
}

// A question that stands behind another's WAIT is run after it was given up, and its release by the
// quick connection.
TEST_F(LockFaults, WhatIsGrantedTooLateBehindAWaitIsGivenBack) {
  const auto cache = open();
  // There is no replica: these questions hold up the connection nearly all the time.
  cache->lock_async("slow", {.ttl = kTtlMost, .wait = 1h, .replicas = 1},
                    [](const Result<Lock>&) {});
  ASSERT_TRUE(poll_until([&] { return is_at("slow"); }));
  const auto newest = [&] { return server_->command({"GET", "tiercel/lock_number"}); };
  int given_up = 0;
  for (int i = 0; i < 50 && given_up < 3; ++i) {
    const std::string name = "l" + std::to_string(i);
    const std::string before = newest();
    const auto lock = cache->lock(name, {.ttl = kTtlMost, .wait = 200ms, .replicas = 1});
    ASSERT_FALSE(lock);
    if (lock.error().code != ErrorCode::kDeadlineExceeded) continue;  // Not sent, or answered.
    ++given_up;
    EXPECT_TRUE(poll_until([&] { return newest() != before; })) << "it is granted all the same";
    EXPECT_TRUE(poll_until([&] { return !is_at(name); })) << "long before its ttl ends";
  }
  EXPECT_GT(given_up, 0);
}

// The last question gets no answer at all. What the ones before it learnt is the better reason.
TEST_F(LockFaults, ThatThereWereTooFewCopiesIsSaidThoughTheLastQuestionIsLost) {
  const auto cache = open();
  // Whenever it is asked for again its life begins anew: what was asked before was answered.
  auto is_asked_again = [&, left = std::numeric_limits<long>::max()]() mutable {
    const long before =
        std::exchange(left, std::stol(server_->command({"PTTL", "tiercel/lock:l"})));
    return before > 0 && left > before;
  };
  for (auto wait = 6s;; wait *= 2) {
    ASSERT_LT(wait, 2 * kPatience);
    Answer<Result<Lock>> asks;
    cache->lock_async("l", {.ttl = kTtlMost, .wait = wait, .replicas = 1}, asks.callback());
    if (poll_until([&] { return asks.arrived() || is_asked_again(); }, wait) && !asks.arrived()) {
      server_->stop_process();
    }
    const auto lock = asks.take();
    server_->continue_process();
    ASSERT_FALSE(lock);
    EXPECT_EQ(lock.error().code, ErrorCode::kUnavailable) << lock.error().to_string();
    if (!lock.error().message.starts_with("the master agreed, but ")) continue;  // Slow.
    EXPECT_THAT(lock.error().message,
                HasSubstr(" of 1 replicas have it; the lock 'l' is not held"));
    break;
  }
  EXPECT_TRUE(cache->lock("l", {.wait = kPatience})) << "the master's grant was given back";
}

TEST_F(LockFaults, AReleaseWhoseReplyIsLostIsUnknownAndDone) {
  const auto cache = open_by_proxy();
  auto lock = cache->lock("l", {.ttl = kTtlMost, .wait = kPatience});
  ASSERT_TRUE(lock) << lock.error().to_string();
  proxy_.set_client_to_server({.blackhole = true});  // It does not even arrive.
  const auto released = lock->release();
  ASSERT_FALSE(released);
  EXPECT_EQ(released.error().code, ErrorCode::kDeadlineExceeded) << released.error().to_string();
  EXPECT_FALSE(lock->is_held());
  EXPECT_TRUE(is_at("l"));
  proxy_.reset_all();  // Before anything comes through that would be taken for the lost reply.
  proxy_.heal();
  EXPECT_TRUE(poll_until([&] { return !is_at("l"); })) << "long before its ttl ends";
}

TEST_F(LockFaults, WhatTheServerRefusesIsSaid) {
  const auto cache = open();
  server_->command({"LPUSH", "tiercel/lock:l", "of another type"});
  const auto lock = cache->lock("l", {.wait = kPatience});
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(lock.error().message, HasSubstr("WRONGTYPE"));
  server_->command({"SET", "tiercel/lock:m", "foreign"});
  const auto tried = cache->try_lock("m");
  ASSERT_TRUE(tried) << tried.error().to_string();
  EXPECT_FALSE(*tried) << "a foreign value is someone else's lock";
}

// Two instances: one passes the lock among its own threads, and the other still gets it.
TEST_F(LockFaults, NobodyIsStarvedByAnotherInstancesThreads) {
  const auto busy = open();
  const auto patient = open();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        auto lock = busy->lock("l", {.wait = kPatience});
        EXPECT_TRUE(lock);
        if (lock) (void)lock->release();
      }
    });
  }
  ASSERT_TRUE(poll_until([&] { return busy->stats().locks_granted > 50; }));
  for (int i = 0; i < 5; ++i) {
    const auto lock = patient->lock("l", {.wait = kPatience});
    EXPECT_TRUE(lock) << lock.error().to_string();
  }
  stop = true;
  for (auto& thread : threads) thread.join();
}

// By a clock that stands still the pause has no end.
TEST_F(LockFaults, WhileAnotherInstanceWaitsNobodyAsksForAWhileAfterARowOfGrants) {
  ManualClock clock;
  const auto cache = open_cache({.redis_url = server_->url(), .clock = &clock});
  auto first = cache->lock("l", {.ttl = kTtlMost, .wait = 1h});
  ASSERT_TRUE(first) << first.error().to_string();
  server_->command({"APPEND", "tiercel/lock:l", "w"});  // As the other's question does.
  constexpr int kWaiters = 40;
  std::atomic<int> granted{0};
  for (int i = 0; i < kWaiters; ++i) {
    cache->lock_async("l", {.ttl = kTtlMost, .wait = 1h}, [&](const Result<Lock>& lock) {
      if (lock) ++granted;
    });
  }
  ASSERT_TRUE(poll_until([&] { return cache->stats().locks_waiting == kWaiters; }));
  EXPECT_TRUE(first->release());
  // Rows of 16 (of the first, `first` is one), or 17: the next may have asked when one is counted.
  for (const int row : {1, 2}) {
    EXPECT_TRUE(poll_until([&] { return granted >= 16 * row - 1; }));
    EXPECT_FALSE(poll_until([&] { return granted > 17 * row - 1; }, 1s));
    clock.advance(250ms);
  }
  EXPECT_TRUE(poll_until([&] { return granted == kWaiters; }));
}

// Who waits asks seldom, however many wait.
TEST_F(LockFaults, WaitersAskSeldomAndOnlyForOthersLocks) {
  // Without the auditor's questions, which would be counted.
  const auto holder = open({.audit_one_in = std::nullopt});
  const auto waiting = open({.audit_one_in = std::nullopt});
  auto lock = holder->lock("l", {.ttl = kTtlMost});
  ASSERT_TRUE(lock);
  const auto idle = open({.audit_one_in = std::nullopt});
  const auto asked_by = [](Cache& cache) { return cache.stats().l2.commands_submitted; };
  // The lease asks for itself, as it does in an idle cache.
  const std::array caches{idle.get(), holder.get(), waiting.get()};
  std::array<std::uint64_t, 3> asked{};
  for (std::size_t i = 0; i < 3; ++i) asked[i] = asked_by(*caches[i]);
  const TimePoint began = Clock::system().now();
  for (int i = 0; i < 200; ++i) {
    waiting->lock_async("l", {.wait = 1h}, [](const Result<Lock>&) {});
    holder->lock_async("l", {.wait = 1h}, [](const Result<Lock>&) {});
  }
  EXPECT_TRUE(poll_until([&] {
    return Clock::system().now() - began > 2s && waiting->stats().locks_waiting == 200 &&
           holder->stats().locks_waiting == 200;
  }));
  for (std::size_t i = 0; i < 3; ++i) asked[i] = asked_by(*caches[i]) - asked[i];
  const auto pauses = static_cast<std::uint64_t>((Clock::system().now() - began) / 50ms);
  EXPECT_LE(asked[1], asked[0] + 6) << "its own lock is not asked for";
  EXPECT_LE(asked[2], asked[0] + 6 + pauses);
}

// The service by itself: the test answers its questions, when it likes, and its clock stands still.
class LockServiceFaults : public ::testing::Test {
 protected:
  using Granted = Result<std::optional<Lock>>;

  // Loop thread only. What is given back is answered at once.
  class Store final : public LockStore {
   public:
    void acquire(const LockTicket& /*ticket*/, bool /*waits*/, TimePoint /*deadline*/,
                 AnswerCallback callback) override {
      acquires.push_back(std::move(callback));
    }
    void renew(const LockTicket& /*ticket*/, TimePoint /*deadline*/,
               RenewedCallback callback) override {
      renewals.push_back(std::move(callback));
    }
    void release(const LockTicket& /*ticket*/, l2::Retry /*retry*/, TimePoint /*deadline*/,
                 ReleasedCallback callback) override {
      ++releases;
      callback(Released::kDone);
    }

    std::deque<AnswerCallback> acquires{};
    std::deque<RenewedCallback> renewals{};
    int releases = 0;
  };

  LockServiceFaults() {
    auto store = std::make_unique<Store>();
    store_ = store.get();
    service_ = std::make_shared<LockService>(
        LockService::Config{.clock = clock_, .loop = loop_, .store = std::move(store)});
  }
  ~LockServiceFaults() override {
    service_->close();
    on_loop([this] {  // What they hold holds the service.
      store_->acquires.clear();
      store_->renewals.clear();
    });
    loop_.stop();
  }

  // Runs it there, behind all that was posted before, and returns then.
  void on_loop(const std::function<void()>& task) {
    Answer<bool> done;
    loop_.post([&task, tell = done.callback()]() mutable {
      task();
      tell(true);
    });
    done.take();
  }
  // Returns when it has been asked for.
  Answer<Granted> ask(const LockOptions& options) {
    Answer<Granted> asks;
    service_->lock("l", options, /*waits=*/true, asks.callback());
    expect_questions(1, 0);
    return asks;
  }
  void expect_questions(std::size_t acquires, std::size_t renewals) {
    on_loop([&] {
      EXPECT_EQ(store_->acquires.size(), acquires);
      EXPECT_EQ(store_->renewals.size(), renewals);
    });
  }
  void answer(Result<LockStore::Answer> result) {
    on_loop([&] { answer_first(store_->acquires, std::move(result)); });
  }
  void grant() { answer(LockStore::Answer{.is_granted = true, .fencing_number = 7}); }
  Lock granted(const LockOptions& options) {
    auto asks = ask(options);
    grant();
    return taken(asks);
  }
  static Lock taken(Answer<Granted>& asks) {
    auto lock = asks.take();
    EXPECT_TRUE(lock) << lock.error().to_string();
    return lock && *lock ? std::move(**lock) : Lock{};
  }
  // Has it renewed, as a new connection does.
  void ask_for_renewal() {
    on_loop([this] { service_->data_is_up(); });
    expect_questions(0, 1);
  }
  void answer_renewal(bool is_ours) {
    on_loop([&] { answer_first(store_->renewals, Result<bool>{is_ours}); });
  }
  template <typename Callback, typename R>
  static void answer_first(std::deque<Callback>& questions, R result) {
    if (questions.empty()) {
      ADD_FAILURE() << "nothing was asked";
      return;
    }
    Callback callback = std::move(questions.front());
    questions.pop_front();
    callback(std::move(result));
  }

  ManualClock clock_;
  l2::EventLoop loop_;
  Store* store_ = nullptr;  // The service's.
  std::shared_ptr<LockService> service_;
};

TEST_F(LockServiceFaults, GrantsAndRenewalsAreVouchedForFromWhenTheyWereSent) {
  constexpr auto kWhole = 599'399ms;  // Of kTtlMost: 0.1 % and 1 ms less.
  auto asks = ask({.ttl = kTtlMost, .wait = 1h});
  clock_.advance(1min);
  grant();
  const Lock lock = taken(asks);
  EXPECT_EQ(lock.remaining(), kWhole - 1min);
  ask_for_renewal();
  clock_.advance(2min);
  EXPECT_EQ(lock.remaining(), kWhole - 3min);
  answer_renewal(true);
  EXPECT_EQ(lock.remaining(), kWhole - 2min);
}

TEST_F(LockServiceFaults, ARenewalThatIsAnsweredAfterTheEndDoesNotCount) {
  std::atomic<int> lost{0};
  const Lock lock = granted({.ttl = kTtlMost, .wait = 1h, .on_lost = [&] { ++lost; }});
  clock_.advance(1min);
  ask_for_renewal();
  clock_.advance(kTtlMost - 30s);
  EXPECT_FALSE(lock.is_held());
  answer_renewal(true);
  EXPECT_FALSE(lock.is_held()) << "though it would be by the renewal";
  on_loop([] {});  // What the answer has posted is done then.
  EXPECT_EQ(lost, 1);
}

// Its time is up while its question is under way. (The loop's timers go by the system's clock.)
TEST_F(LockServiceFaults, WhatIsGrantedAtTheEndOfTheWaitIsNotForgotten) {
  auto asks = ask({.ttl = kTtlMost, .wait = 10ms});
  Answer<bool> is_past;
  on_loop([&] { loop_.run_after(20ms, [tell = is_past.callback()]() mutable { tell(true); }); });
  is_past.take();
  EXPECT_FALSE(asks.arrived());
  grant();
  EXPECT_TRUE(taken(asks).is_held());
}

TEST_F(LockServiceFaults, WhoSeesAnothersGrantKnowsThatItHasNone) {
  auto asks = ask({.ttl = kTtlMost, .wait = 1h});
  answer(outcome_unknown("the reply was lost"));
  expect_questions(1, 0);  // Again.
  clock_.advance(1h);
  answer(LockStore::Answer{.left = 1min});
  const auto refused = asks.take();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict) << refused.error().to_string();
  on_loop([this] { EXPECT_EQ(store_->releases, 0); });
}

TEST_F(LockServiceFaults, OneOfOurOwnIsAskedForWhenItIsGivenBackAndNotBefore) {
  Lock lock = granted({.ttl = kTtlMost, .wait = 1h});
  Answer<Granted> asks;
  service_->lock("l", {.ttl = kTtlMost, .wait = 1h}, /*waits=*/true, asks.callback());
  expect_questions(0, 0);
  lock = Lock{};
  expect_questions(1, 0);
  grant();
  EXPECT_TRUE(taken(asks).is_held());
}

TEST_F(LockServiceFaults, WhoIsWokenWhileItAsksAsksAgainAtOnce) {
  const auto asks = ask({.ttl = kTtlMost, .wait = 1h});
  on_loop([this] {
    service_->wake("l");
    answer_first(store_->acquires, Result<LockStore::Answer>{LockStore::Answer{.left = 1min}});
    EXPECT_EQ(store_->acquires.size(), 1U) << "before any pause";
  });
}

TEST_F(LockServiceFaults, AnothersLockIsAskedForWhenItsLifeEnds) {
  const auto asks = ask({.ttl = kTtlMost, .wait = 1h});
  Answer<std::size_t> asked;
  on_loop([&] {
    answer_first(store_->acquires, Result<LockStore::Answer>{LockStore::Answer{.left = 1ms}});
    // The timers run in the order of their times, however late they are.
    loop_.run_after(40ms,
                    [this, tell = asked.callback()]() mutable { tell(store_->acquires.size()); });
  });
  EXPECT_EQ(asked.take(), 1U) << "before the shortest pause is over";
}

}  // namespace
}  // namespace tiercel::testing
