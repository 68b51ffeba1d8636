// Observers of keyspaces.

#include "tiercel/cache/observer.h"

#include <memory>
#include <string>
#include <vector>

#include "cache_fixture.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::testing {
namespace {

using Texts = Keyspace<serialization::BytesCodec>;

// One line for each event, in the order in which they came.
class Notes : public KeyspaceObserver {
 public:
  void load_ended(const LoadEnded& load) noexcept override {
    EXPECT_EQ(load.error != nullptr, load.outcome == LoadOutcome::kFailed);
    add(std::string{load.key} + " " + std::string{to_string(load.outcome)} + " " +
        std::to_string(to_milliseconds(load.took)) + " ms" +
        (load.error != nullptr ? ": " + load.error->message : ""));
  }
  void load_refused(std::string_view key, LoadRefusal by) noexcept override {
    add(std::string{key} + " refused by " + std::string{to_string(by)});
  }
  void stale_served(std::string_view key) noexcept override { add(std::string{key} + " stale"); }
  void breaker_changed(BreakerState from, BreakerState to) noexcept override {
    add(std::string{to_string(from)} + " to " + std::string{to_string(to)});
  }

  std::vector<std::string> take() {
    MutexLock lock{mutex_};
    return std::exchange(lines_, {});
  }

 private:
  void add(std::string line) {
    MutexLock lock{mutex_};
    lines_.push_back(std::move(line));
  }
  Mutex mutex_;
  std::vector<std::string> lines_ TIERCEL_GUARDED_BY(mutex_);
};

class ObserverTest : public ::testing::Test {
 protected:
  using Lines = std::vector<std::string>;

  Texts open(FillPolicy policy) {
    policy.ttl_jitter = 0.0;
    auto opened = Texts::open(
        *cache_, {.name = "t",
                  .policy = policy,
                  .loader = [this](auto key, auto& old) { return load(key, old.view.has_value()); },
                  .observer = notes_});
    EXPECT_TRUE(opened) << opened.error().to_string();
    return std::move(opened).value();
  }
  Texts::Loaded load(std::string_view key, bool has_old) {
    clock_.advance(7ms);
    if (gate_) gate_->pass();
    if (fails_) return unavailable("away");
    if (key == "none") return std::nullopt;
    if (has_old) return Texts::Load::unchanged();
    return Texts::Load{"value"};
  }

  ManualClock clock_;
  std::shared_ptr<Notes> notes_ = std::make_shared<Notes>();
  bool fails_ = false;
  std::optional<Gate> gate_;
  // The last, for it is closed first: a load may still run.
  std::unique_ptr<Cache> cache_ = open_cache({.clock = &clock_});
};

TEST_F(ObserverTest, IsToldHowEachLoadEnded) {
  const auto texts = open({.ttl = 1s, .stale_max = 1h});
  EXPECT_TRUE(texts.get("a:b"));
  EXPECT_TRUE(texts.get("a:b"));
  EXPECT_TRUE(texts.get("none"));
  EXPECT_EQ(notes_->take(), (Lines{"a:b value 7 ms", "none nothing 7 ms"}));
  clock_.advance(2s);
  EXPECT_TRUE(texts.get("a:b"));
  EXPECT_EQ(notes_->take(), Lines{"a:b unchanged 7 ms"});
}

TEST_F(ObserverTest, IsToldOfStaleAnswersButNotByATickThread) {
  const auto texts = open({.ttl = 1s, .stale_max = 1h, .stale_throttle = 5s});
  EXPECT_TRUE(texts.get("a"));
  (void)notes_->take();
  clock_.advance(2s);
  fails_ = true;
  EXPECT_TRUE(texts.get("a"));
  EXPECT_EQ(notes_->take(), (Lines{"a failed 7 ms: away", "a stale"}));
  EXPECT_TRUE(texts.get("a"));
  EXPECT_EQ(notes_->take(), Lines{"a stale"}) << "from L1";
  EXPECT_TRUE(texts.try_get("a"));
  EXPECT_EQ(notes_->take(), Lines{});
}

TEST_F(ObserverTest, IsToldOfTheBreaker) {
  const auto texts = open({.breaker = BreakerOptions{.calls_min = 2, .open_for = 10s}});
  fails_ = true;
  EXPECT_FALSE(texts.get("a"));
  EXPECT_FALSE(texts.get("b"));
  EXPECT_FALSE(texts.get("c"));
  EXPECT_EQ(notes_->take(), (Lines{"a failed 7 ms: away", "b failed 7 ms: away", "closed to open",
                                   "c refused by breaker"}));
  clock_.advance(10s);
  EXPECT_FALSE(texts.get("d"));
  EXPECT_EQ(notes_->take(),
            (Lines{"open to half-open", "d failed 7 ms: away", "half-open to open"}));
  clock_.advance(10s);
  fails_ = false;
  EXPECT_TRUE(texts.get("d"));
  EXPECT_EQ(notes_->take(), (Lines{"open to half-open", "d value 7 ms", "half-open to closed"}));
}

TEST_F(ObserverTest, IsToldOfTheBulkhead) {
  Gate gate;
  gate_ = gate;
  const auto texts = open({.loads_running_max = 1, .loads_waiting_max = 0});
  Answer<Texts::FindResult> slow;
  texts.get_async("slow", {.timeout = kPatience}, slow.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  EXPECT_FALSE(texts.get("b", {.timeout = kPatience}));
  EXPECT_EQ(notes_->take(), Lines{"b refused by bulkhead"});
  gate.open();
  EXPECT_TRUE(slow.take());
}

TEST_F(ObserverTest, LivesAsLongAsALoadThatMayCallIt) {
  Gate gate;
  gate_ = gate;
  std::weak_ptr<Notes> watched = notes_;
  Answer<Texts::FindResult> slow;
  {
    const auto texts = open({});
    texts.get_async("slow", {.timeout = kPatience}, slow.callback());
    EXPECT_TRUE(gate.wait_until_arrived(1));
  }
  notes_.reset();
  EXPECT_FALSE(watched.expired());
  gate.open();
  EXPECT_TRUE(slow.take());
  cache_.reset();
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace tiercel::testing
