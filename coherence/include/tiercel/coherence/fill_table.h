#pragma once

// FillTable: fill tokens, by which a fill that raced with a change is found out.
//
// Whoever is about to read a value in order to put it into L1 begins a token under the key first.
// Every invalidation of the key marks its tokens, and a new epoch marks all. At the end the
// insertion into L1 runs as part of commit(), which refuses where the token was marked: the value
// is then handed to its caller but not cached. The order "mark the tokens, then evict from L1" on
// the invalidating side and "check the token and insert under one lock" on the filling side leaves
// no gap: either the mark is seen, or the eviction comes after the insertion.
//
// A mark that carries a version only bars values that are older: a fill that read the change
// itself, whose invalidation merely arrived late, is still good.
//
// Any thread. Memory: one node for each key with a token under way, and up to 64 more in each
// stripe for those to come; callers bound their number (the cache by its limit of flights and the
// L2 queue). Lock order: a stripe of this table, then whatever the function given to commit() takes
// (L1's stripe). No I/O and no time, so it runs in a simulator as it is.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/key_table.h"
#include "tiercel/base/mutex.h"
#include "tiercel/coherence/version.h"

namespace tiercel::coherence {

class FillTable {
  struct Node;

 public:
  // A fill under way. Ends by commit() or by its destructor; must not outlive the table.
  class Token {
   public:
    Token() = default;
    Token(Token&& other) noexcept;
    Token& operator=(Token&& other) noexcept;
    ~Token();

    // Of a token that has not ended, and as long as it has not.
    [[nodiscard]] const std::string& key() const noexcept;

   private:
    friend class FillTable;
    FillTable* table_ = nullptr;
    Node* node_ = nullptr;
    std::uint64_t epoch_ = 0;
    std::uint64_t marks_ = 0;
    std::uint64_t marks_hard_ = 0;
  };

  explicit FillTable(std::size_t stripes = 64);  // A power of two.
  FillTable(const FillTable&) = delete;
  FillTable& operator=(const FillTable&) = delete;

  [[nodiscard]] Token begin(std::string_view key);

  // A change of `key` at `version`; kVersionUnknown bars every token that stands now. O(1).
  void mark(std::string_view key, Version version);

  // A change made here and now, where there is no Redis to order changes: bars every token of `key`
  // that stands now and runs apply() under the stripe's lock, in one step.
  template <typename Apply>
  void change(std::string_view key, Apply&& apply) {
    Stripe& stripe = stripe_of(key);
    MutexLock lock{stripe.mutex};
    mark_locked(stripe, key, kVersionUnknown);
    apply();
  }

  // mark(key, version) and apply() under the stripe's lock, in one step: what apply() puts in for
  // `version` is followed by no fill that is older.
  template <typename Apply>
  void mark_and(std::string_view key, Version version, Apply&& apply) {
    Stripe& stripe = stripe_of(key);
    MutexLock lock{stripe.mutex};
    mark_locked(stripe, key, version);
    apply();
  }

  // A new epoch: bars every token that stands now. When it has returned, no earlier token can
  // insert any more. O(stripes).
  void mark_all();

  // True while no change at all was seen since the token began: only then may a reader that arrives
  // now share its result.
  [[nodiscard]] bool untouched(const Token& token) const;

  // Ends the token. If it is still good for a value of `version`, runs insert() under the stripe's
  // lock and returns true.
  template <typename Insert>
  bool commit(Token token, Version version, Insert&& insert) {
    Stripe& stripe = stripe_of(token);
    MutexLock lock{stripe.mutex};
    const bool good = admits(stripe, token, version);
    if (good) insert();
    finish(stripe, token, good ? version : kVersionUnknown);
    return good;
  }

  [[nodiscard]] std::size_t tokens_under_way() const;  // O(stripes)

 private:
  // A key with tokens under way. Goes, or becomes a spare one, with the last of them.
  struct Node : KeyTableLink<Node> {
    std::uint64_t hash = 0;
    std::string key{};
    std::size_t tokens = 0;
    std::uint64_t marks = 0;          // All changes seen while a token was under way.
    std::uint64_t marks_hard = 0;     // Those without a version.
    Version floor = kVersionUnknown;  // The newest version seen: nothing older may be inserted.
  };
  struct Stripe {
    mutable Mutex mutex;
    KeyTable<Node> nodes TIERCEL_GUARDED_BY(mutex);
    std::vector<std::unique_ptr<Node>> spares TIERCEL_GUARDED_BY(mutex);
    std::uint64_t epoch TIERCEL_GUARDED_BY(mutex) = 0;
    std::size_t tokens TIERCEL_GUARDED_BY(mutex) = 0;
  };

  static std::uint64_t hash_of(std::string_view key) noexcept;
  Stripe& stripe_of(std::uint64_t hash) const;
  Stripe& stripe_of(std::string_view key) const { return stripe_of(hash_of(key)); }
  Stripe& stripe_of(const Token& token) const;
  static Node& node_of(Stripe& stripe, std::string_view key, std::uint64_t hash)
      TIERCEL_REQUIRES(stripe.mutex);
  static void remove(Stripe& stripe, Node& node) TIERCEL_REQUIRES(stripe.mutex);
  static bool admits(const Stripe& stripe, const Token& token, Version version)
      TIERCEL_REQUIRES(stripe.mutex);
  static void finish(Stripe& stripe, Token& token, Version inserted) TIERCEL_REQUIRES(stripe.mutex);
  static void mark_locked(Stripe& stripe, std::string_view key, Version version)
      TIERCEL_REQUIRES(stripe.mutex);
  void abandon(Token& token);

  std::vector<std::unique_ptr<Stripe>> stripes_;  // Immutable after construction.
};

}  // namespace tiercel::coherence
