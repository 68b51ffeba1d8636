#include "tiercel/cache/bloom_generations.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "bloom_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::testing {
namespace {

using Next = BloomGenerations::Next;

// Three chunks.
BloomOptions options(std::uint64_t generation) {
  return {.keys_expected = 130'000, .bits_per_key = 10, .generation = generation};
}

ErrorCode code_of(const Result<void>& result) {
  return result ? ErrorCode::kInternal : result.error().code;
}

// The example of bloom_generations.h.
Result<bool> example(const std::vector<std::string>& all_keys) {
  BloomGenerations guard{{}};
  auto built = guard.begin_building({.keys_expected = 1'000'000, .generation = 1});
  if (!built) return built.error();
  for (const std::string& key : all_keys) (*built)->add(key);
  if (auto done = guard.finish(); !done) return done.error();
  return guard.may_contain("user:7") && !guard.may_contain("user:8");
}

TEST(BloomGenerations, TheExampleOfTheHeader) { EXPECT_TRUE(example({"user:7"}).value()); }

TEST(BloomGenerations, RefusesNothingBeforeItIsPrimed) {
  BloomGenerations guard{{}};
  const auto stored = make_filter(options(1));
  const auto passes = [&] { return guard.may_contain("absent"); };
  EXPECT_TRUE(passes());
  ASSERT_TRUE(guard.begin_priming());
  EXPECT_TRUE(passes());
  ASSERT_TRUE(guard.take_header(stored->header()));
  EXPECT_EQ(guard.chunks_missing(), 3U);
  for (const std::size_t chunk : {1U, 1U, 2U, 1U}) {
    ASSERT_TRUE(guard.take_chunk(chunk, stored->copy_chunk(chunk)));
    EXPECT_TRUE(passes());
    EXPECT_EQ(code_of(guard.finish()), ErrorCode::kConflict);
  }
  EXPECT_EQ(guard.chunks_missing(), 1U);
  ASSERT_TRUE(guard.take_chunk(0, stored->copy_chunk(0)));
  EXPECT_TRUE(passes()) << "before finish()";
  ASSERT_TRUE(guard.finish());
  EXPECT_FALSE(passes());
  EXPECT_EQ(guard.next(), Next::kNothing);
  EXPECT_EQ(guard.current()->generation(), 1U);
}

TEST(BloomGenerations, WhatIsAddedDuringAPrimingIsNotRefusedAfterIt) {
  BloomGenerations guard{{}};
  const auto stored = make_filter(options(1));
  ASSERT_TRUE(guard.begin_priming());
  guard.add("before the header");
  ASSERT_TRUE(guard.take_header(stored->header()));
  guard.add("after the header");
  for (std::size_t chunk = 0; chunk < 3; ++chunk) {
    ASSERT_TRUE(guard.take_chunk(chunk, stored->copy_chunk(chunk)));
  }
  guard.add("before the end");
  ASSERT_TRUE(guard.finish());
  guard.add("after the end");
  for (const char* key :
       {"before the header", "after the header", "before the end", "after the end"}) {
    EXPECT_TRUE(guard.may_contain(key)) << key;
  }
  EXPECT_FALSE(guard.may_contain("absent"));
}

TEST(BloomGenerations, ARebuildForgetsWhatWasDeletedAndNothingElse) {
  BloomGenerations guard{{}};
  ASSERT_TRUE(guard.begin_building(options(1)));
  guard.add("stays");
  guard.add("is deleted");
  ASSERT_TRUE(guard.finish());

  const auto built = guard.begin_building(options(2));
  ASSERT_TRUE(built);
  (*built)->add("stays");  // What the enumerator finds.
  guard.add("comes meanwhile");
  EXPECT_TRUE(guard.may_contain("is deleted")) << "the old one answers";
  EXPECT_TRUE(guard.may_contain("comes meanwhile")) << "and gets adds, too";
  EXPECT_FALSE(guard.may_contain("absent"));
  ASSERT_TRUE(guard.finish());
  EXPECT_TRUE(guard.may_contain("stays"));
  EXPECT_TRUE(guard.may_contain("comes meanwhile"));
  EXPECT_FALSE(guard.may_contain("is deleted"));
  EXPECT_EQ(guard.current()->generation(), 2U);
}

TEST(BloomGenerations, AfterLostNothingIsRefusedAndWhatWasBeingMadeIsNotUsed) {
  for (const bool priming : {false, true}) {
    BloomGenerations guard{{}};
    ASSERT_TRUE(guard.begin_building(options(1)));
    ASSERT_TRUE(guard.finish());
    ASSERT_FALSE(guard.may_contain("absent"));
    const auto stored = make_filter(options(2));
    if (priming) {
      ASSERT_TRUE(guard.begin_priming());
      guard.add("kept for the old priming");
      ASSERT_TRUE(guard.take_header(stored->header()));
    } else {
      ASSERT_TRUE(guard.begin_building(options(2)));
    }
    guard.lost();
    EXPECT_TRUE(guard.may_contain("absent"));
    EXPECT_EQ(guard.current(), nullptr);
    EXPECT_EQ(guard.next(), Next::kNothing);
    EXPECT_EQ(code_of(guard.finish()), ErrorCode::kConflict);
    EXPECT_EQ(code_of(guard.take_chunk(0, stored->copy_chunk(0))), ErrorCode::kConflict);
    ASSERT_TRUE(guard.begin_building(options(1))) << "any generation may come after it";
    ASSERT_TRUE(guard.finish());
    EXPECT_FALSE(guard.may_contain("absent"));
  }
}

TEST(BloomGenerations, AnAbandonedOneLeavesTheOldOneAnswering) {
  BloomGenerations guard{{}};
  ASSERT_TRUE(guard.begin_building(options(1)));
  guard.add("old");
  ASSERT_TRUE(guard.finish());
  ASSERT_TRUE(guard.begin_priming());
  guard.abandon();
  ASSERT_TRUE(guard.begin_building(options(2)));
  guard.abandon();
  EXPECT_EQ(guard.current()->generation(), 1U);
  EXPECT_TRUE(guard.may_contain("old"));
  EXPECT_FALSE(guard.may_contain("absent"));
}

TEST(BloomGenerations, EachStepHasItsTurn) {
  BloomGenerations guard{{}};
  const BloomHeader header = make_filter(options(1))->header();
  EXPECT_EQ(code_of(guard.take_header(header)), ErrorCode::kConflict);
  EXPECT_EQ(code_of(guard.take_chunk(0, "")), ErrorCode::kConflict);
  EXPECT_EQ(code_of(guard.finish()), ErrorCode::kConflict);
  ASSERT_TRUE(guard.begin_priming());
  EXPECT_EQ(code_of(guard.begin_priming()), ErrorCode::kConflict);
  EXPECT_FALSE(guard.begin_building(options(1)));
  EXPECT_EQ(code_of(guard.take_chunk(0, "")), ErrorCode::kConflict);
  EXPECT_EQ(code_of(guard.finish()), ErrorCode::kConflict);
  EXPECT_EQ(guard.next(), Next::kAwaitingHeader) << "a step out of turn changes nothing";
  ASSERT_TRUE(guard.take_header(header));
  EXPECT_EQ(code_of(guard.take_header(header)), ErrorCode::kConflict);
  EXPECT_EQ(guard.next(), Next::kPriming);
  guard.abandon();
  ASSERT_TRUE(guard.begin_building(options(5)));
  EXPECT_EQ(code_of(guard.begin_priming()), ErrorCode::kConflict);
  EXPECT_EQ(code_of(guard.take_header(header)), ErrorCode::kConflict);
  EXPECT_EQ(guard.next(), Next::kBuilding);
  ASSERT_TRUE(guard.finish());

  EXPECT_FALSE(guard.begin_building(options(5))) << "generations rise";
  EXPECT_EQ(guard.next(), Next::kNothing);
  ASSERT_TRUE(guard.begin_priming());
  EXPECT_EQ(code_of(guard.take_header(header)), ErrorCode::kConflict) << "an older one";
  EXPECT_EQ(guard.next(), Next::kNothing);
  EXPECT_EQ(guard.current()->generation(), 5U);
}

TEST(BloomGenerations, APrimingThatDidNotGetAllBitsFails) {
  BloomGenerations guard{{}};
  const auto stored = make_filter(options(1));
  add_keys(*stored, 0, 1000);
  ASSERT_TRUE(guard.begin_priming());
  ASSERT_TRUE(guard.take_header(stored->header()));
  for (std::size_t chunk = 0; chunk < 3; ++chunk) {
    // One was overwritten with zeros.
    const std::string bytes =
        chunk == 1 ? std::string(stored->chunk_bytes(1), '\0') : stored->copy_chunk(chunk);
    ASSERT_TRUE(guard.take_chunk(chunk, bytes));
  }
  EXPECT_EQ(code_of(guard.finish()), ErrorCode::kCorrupt);
  EXPECT_TRUE(guard.may_contain("absent"));
  EXPECT_EQ(guard.next(), Next::kNothing);
}

TEST(BloomGenerations, ABadHeaderOrChunkEndsThePriming) {
  BloomGenerations guard{{.bytes_max = 200'000}};
  ASSERT_TRUE(guard.begin_priming());
  BloomHeader huge = make_filter(options(1))->header();
  huge.blocks = std::uint64_t{1} << 32;
  EXPECT_EQ(code_of(guard.take_header(huge)), ErrorCode::kOverloaded);
  EXPECT_EQ(guard.next(), Next::kNothing);

  ASSERT_TRUE(guard.begin_priming());
  ASSERT_TRUE(guard.take_header(make_filter(options(1))->header()));
  EXPECT_EQ(code_of(guard.take_chunk(0, "short")), ErrorCode::kCorrupt);
  EXPECT_EQ(guard.next(), Next::kNothing);
}

TEST(BloomGenerations, MoreAddsThanCanBeKeptEndThePriming) {
  const BloomHeader header = make_filter(options(1))->header();
  for (const std::uint64_t adds : {3U, 4U}) {
    BloomGenerations guard{{.adds_kept_max = 3}};
    ASSERT_TRUE(guard.begin_priming());
    for (std::uint64_t i = 0; i < adds; ++i) guard.add(key_of(i));
    const auto taken = guard.take_header(header);
    ASSERT_EQ(taken.has_value(), adds == 3);
    EXPECT_EQ(guard.next(), adds == 3 ? Next::kPriming : Next::kNothing);
    if (taken) continue;
    EXPECT_EQ(taken.error().code, ErrorCode::kOverloaded);
    ASSERT_TRUE(guard.begin_priming());
    EXPECT_TRUE(guard.take_header(header)) << "what was too much is forgotten";
  }
}

// ---------------------------------------------------------------- the model

// One instance and its surroundings: a database of keys, a filter stored in Redis that every write
// extends (and during a rebuild the next one, too), writers of which each is somewhere on its way,
// and the controller with a rebuild or a priming under way. Steps are drawn at random.
class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {}

  void step() {
    switch (random_.below(10)) {
      case 0:
      case 1:
      case 2: return begin_write();
      case 3:
      case 4:
      case 5: return advance_write();
      case 6: return remove();
      case 7:
      case 8: return control();
      default: return random_.below(12) == 0 ? lose() : abandon();
    }
  }

  // Every key that exists and whose write was acknowledged passes.
  void check() {
    for (const std::uint64_t key : acknowledged_) {
      ASSERT_TRUE(guard_.may_contain(key_of(key))) << "key " << key;
    }
    for (std::uint64_t key = 1'000'000; key < 1'000'010; ++key) {
      if (!guard_.may_contain(key_of(key))) ++refusals_;
    }
  }

  [[nodiscard]] std::uint64_t refusals() const { return refusals_; }
  [[nodiscard]] std::uint64_t primings() const { return primings_; }
  [[nodiscard]] std::uint64_t rebuilds() const { return rebuilds_; }

 private:
  struct Write {
    std::uint64_t key;
    bool committed;
  };

  void begin_write() { writes_.push_back({random_.below(500), false}); }

  // Commit, then add, then acknowledge.
  void advance_write() {
    if (writes_.empty()) return;
    const std::size_t at = random_.below(writes_.size());
    Write& write = writes_[at];
    if (!write.committed) {
      write.committed = true;
      database_.insert(write.key);
      stored_->add(key_of(write.key));
      if (stored_next_) stored_next_->add(key_of(write.key));
      return;
    }
    guard_.add(key_of(write.key));
    if (database_.contains(write.key)) acknowledged_.insert(write.key);
    writes_.erase(writes_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  void remove() {
    if (acknowledged_.empty()) return;
    auto at = acknowledged_.lower_bound(random_.below(500));
    if (at == acknowledged_.end()) at = acknowledged_.begin();
    const std::uint64_t key = *at;
    // A write of the same key that is under way comes after the removal.
    for (const Write& write : writes_) {
      if (write.key == key && write.committed) return;
    }
    database_.erase(key);
    acknowledged_.erase(key);
  }

  void control() {
    switch (guard_.next()) {
      case Next::kNothing:
        return random_.below(2) == 0 ? begin_building() : (void)guard_.begin_priming();
      case Next::kAwaitingHeader:
        ASSERT_TRUE(guard_.take_header(stored_->header()));
        missing_ = {0, 1, 2};
        return;
      case Next::kPriming: return prime();
      case Next::kBuilding: return build();
    }
  }

  void prime() {
    if (missing_.empty()) {
      ASSERT_TRUE(guard_.finish());
      ++primings_;
      return;
    }
    const std::size_t at = random_.below(missing_.size());
    const std::size_t chunk = missing_[at];
    missing_.erase(missing_.begin() + static_cast<std::ptrdiff_t>(at));
    ASSERT_TRUE(guard_.take_chunk(chunk, stored_->copy_chunk(chunk)));
  }

  void begin_building() {
    const BloomOptions next = options(++generation_);
    auto built = guard_.begin_building(next);
    ASSERT_TRUE(built);
    built_ = *built;
    stored_next_ = make_filter(next);
    cursor_ = 0;
  }

  // The enumerator goes over the database as it is, some keys at a time.
  void build() {
    for (int i = 0; i < 100; ++i) {
      const auto at = database_.lower_bound(cursor_);
      if (at == database_.end()) {
        ASSERT_TRUE(guard_.finish());
        ASSERT_TRUE(stored_next_->merge(*built_));
        stored_ = std::move(stored_next_);
        ++rebuilds_;
        return;
      }
      built_->add(key_of(*at));
      cursor_ = *at + 1;
    }
  }

  void abandon() {
    if (random_.below(10) != 0) return;
    guard_.abandon();
    stored_next_ = nullptr;
  }

  // Some adds do not arrive, as the stream is broken; the writes are acknowledged all the same, as
  // the instance has no lease. It is told before it is asked again.
  void lose() {
    for (const Write& write : writes_) {
      if (write.committed && database_.contains(write.key)) acknowledged_.insert(write.key);
    }
    std::erase_if(writes_, [](const Write& write) { return write.committed; });
    guard_.lost();
    stored_next_ = nullptr;
  }

  Random random_;
  BloomGenerations guard_{{}};
  std::set<std::uint64_t> database_;
  std::set<std::uint64_t> acknowledged_;
  std::vector<Write> writes_;
  std::uint64_t generation_ = 1;
  std::unique_ptr<BloomFilter> stored_ = make_filter(options(1));
  std::unique_ptr<BloomFilter> stored_next_;
  std::shared_ptr<BloomFilter> built_;
  std::uint64_t cursor_ = 0;
  std::vector<std::size_t> missing_;
  std::uint64_t refusals_ = 0;
  std::uint64_t primings_ = 0;
  std::uint64_t rebuilds_ = 0;
};

TEST(BloomGenerationsModel, NoKeyThatWasAddedIsEverRefused) {
  std::uint64_t refusals = 0;
  std::uint64_t primings = 0;
  std::uint64_t rebuilds = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    World world{seed};
    for (int i = 0; i < 400; ++i) {
      world.step();
      world.check();
      if (HasFatalFailure()) FAIL() << "seed " << seed << ", step " << i;
    }
    refusals += world.refusals();
    primings += world.primings();
    rebuilds += world.rebuilds();
  }
  EXPECT_GT(refusals, 20'000U) << "or it shows nothing";
  EXPECT_GT(primings, 100U);
  EXPECT_GT(rebuilds, 100U);
}

TEST(BloomGenerationsThreads, NoKeyIsRefusedWhileGenerationsChange) {
  constexpr std::uint64_t kKeys = 4'000;
  constexpr std::uint64_t kKeysEach = 100;  // To each generation, so that there are forty.
  std::atomic<std::uint64_t> generations{0};
  BloomGenerations guard{{}};
  std::mutex mutex;  // Of the source.
  std::vector<std::uint64_t> source;
  std::atomic<std::uint64_t> acknowledged{0};
  std::atomic<std::uint64_t> refusals{0};
  std::thread writer{[&] {
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      while (generations < key / kKeysEach) std::this_thread::yield();
      {
        const std::lock_guard lock{mutex};
        source.push_back(key);
      }
      guard.add(key_of(key));
      acknowledged.store(key + 1, std::memory_order_release);
    }
  }};
  std::thread reader{[&] {
    for (std::uint64_t round = 0, known = 0; known < kKeys; ++round) {
      known = acknowledged.load(std::memory_order_acquire);
      for (std::uint64_t back = 1; back <= 20 && back <= known; ++back) {
        if (!guard.may_contain(key_of(known - back))) ++refusals;
      }
      if (known > 0 && !guard.may_contain(key_of(round % known))) ++refusals;
    }
  }};
  std::uint64_t generation = 0;
  while (acknowledged < kKeys) {
    const auto built =
        guard.begin_building({.keys_expected = kKeys, .generation = ++generation}).value();
    for (std::size_t i = 0;; ++i) {
      const std::lock_guard lock{mutex};
      if (i >= source.size()) break;
      built->add(key_of(source[i]));
    }
    ASSERT_TRUE(guard.finish());
    generations = generation;
  }
  writer.join();
  reader.join();
  EXPECT_EQ(refusals, 0U);
  EXPECT_FALSE(guard.may_contain("absent"));
}

}  // namespace
}  // namespace tiercel::testing
