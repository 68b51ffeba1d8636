#include "tiercel/coherence/fill_table.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "tiercel/base/check.h"

// Invariants, under a stripe's lock:
//   a key has a KeyState exactly while at least one token of it is under way;
//   marks, marks_hard and floor of a KeyState only grow while it lives;
//   a token is current when its epoch is the stripe's.

namespace tiercel::coherence {

FillTable::Token::Token(Token&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)),
      key_(std::move(other.key_)),
      epoch_(other.epoch_),
      marks_(other.marks_),
      marks_hard_(other.marks_hard_) {}

FillTable::Token& FillTable::Token::operator=(Token&& other) noexcept {
  if (this != &other) {
    if (table_ != nullptr) table_->abandon(*this);
    table_ = std::exchange(other.table_, nullptr);
    key_ = std::move(other.key_);
    epoch_ = other.epoch_;
    marks_ = other.marks_;
    marks_hard_ = other.marks_hard_;
  }
  return *this;
}

FillTable::Token::~Token() {
  if (table_ != nullptr) table_->abandon(*this);
}

FillTable::FillTable(std::size_t stripes) {
  TIERCEL_CHECK(std::has_single_bit(stripes));
  stripes_.reserve(stripes);
  for (std::size_t i = 0; i < stripes; ++i) stripes_.push_back(std::make_unique<Stripe>());
}

FillTable::Stripe& FillTable::stripe_of(std::string_view key) const {
  // The low bits choose the bucket inside the stripe's map, so the stripe takes high ones.
  const std::uint64_t spread = std::uint64_t{Hash{}(key)} * 0x9e3779b97f4a7c15ULL;
  return *stripes_[(spread >> 32) & (stripes_.size() - 1)];
}

FillTable::Token FillTable::begin(std::string_view key) {
  Token token;
  token.table_ = this;
  token.key_ = key;
  Stripe& stripe = stripe_of(key);
  MutexLock lock{stripe.mutex};
  KeyState& state = stripe.keys[token.key_];
  ++state.tokens;
  ++stripe.tokens;
  token.epoch_ = stripe.epoch;
  token.marks_ = state.marks;
  token.marks_hard_ = state.marks_hard;
  return token;
}

void FillTable::mark(std::string_view key, Version version) {
  Stripe& stripe = stripe_of(key);
  MutexLock lock{stripe.mutex};
  mark_locked(stripe, key, version);
}

void FillTable::mark_locked(Stripe& stripe, std::string_view key, Version version) {
  const auto found = stripe.keys.find(key);
  if (found == stripe.keys.end()) return;
  KeyState& state = found->second;
  ++state.marks;
  if (version == kVersionUnknown) {
    ++state.marks_hard;
  } else {
    state.floor = std::max(state.floor, version);
  }
}

void FillTable::mark_all() {
  for (auto& stripe : stripes_) {
    MutexLock lock{stripe->mutex};
    ++stripe->epoch;
    // Versions of the ended epoch mean nothing in the new one.
    for (auto& [key, state] : stripe->keys) state.floor = kVersionUnknown;
  }
}

bool FillTable::untouched(const Token& token) const {
  TIERCEL_CHECK(token.table_ == this);
  const Stripe& stripe = stripe_of(token.key_);
  MutexLock lock{stripe.mutex};
  const auto found = stripe.keys.find(token.key_);
  TIERCEL_CHECK(found != stripe.keys.end());
  return token.epoch_ == stripe.epoch && token.marks_ == found->second.marks;
}

bool FillTable::admits(const Stripe& stripe, const Token& token, Version version) {
  TIERCEL_CHECK(token.table_ != nullptr);  // Ended or moved from.
  const auto found = stripe.keys.find(token.key_);
  TIERCEL_CHECK(found != stripe.keys.end());
  const KeyState& state = found->second;
  if (token.epoch_ != stripe.epoch || token.marks_hard_ != state.marks_hard) return false;
  // Another fill's newer value may be in L1 already, so the floor counts even without a mark.
  if (version != kVersionUnknown) return version >= state.floor;
  return token.marks_ == state.marks && state.floor == kVersionUnknown;
}

void FillTable::finish(Stripe& stripe, Token& token, Version inserted) {
  const auto found = stripe.keys.find(token.key_);
  TIERCEL_CHECK(found != stripe.keys.end());
  KeyState& state = found->second;
  // Whoever comes from now on may have seen this one, and must not join a fill that could bring an
  // older one.
  if (inserted != kVersionUnknown) ++state.marks;
  state.floor = std::max(state.floor, inserted);
  --stripe.tokens;
  if (--state.tokens == 0) stripe.keys.erase(found);
  token.table_ = nullptr;
}

void FillTable::abandon(Token& token) {
  Stripe& stripe = stripe_of(token.key_);
  MutexLock lock{stripe.mutex};
  finish(stripe, token, kVersionUnknown);
}

std::size_t FillTable::tokens_under_way() const {
  std::size_t tokens = 0;
  for (const auto& stripe : stripes_) {
    MutexLock lock{stripe->mutex};
    tokens += stripe->tokens;
  }
  return tokens;
}

}  // namespace tiercel::coherence
