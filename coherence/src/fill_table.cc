#include "tiercel/coherence/fill_table.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

#include "tiercel/base/check.h"

// Invariants, under a stripe's lock:
//   a key has a node in the table exactly while at least one token of it is under way, so a
//   token's node stays where it is;
//   marks, marks_hard and floor of a node only grow while it is there;
//   a token is current when its epoch is the stripe's.

namespace tiercel::coherence {
namespace {

constexpr std::size_t kSparesMax = 64;
constexpr std::size_t kSpareKeyBytesMax = 256;

}  // namespace

FillTable::Token::Token(Token&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)),
      node_(other.node_),
      epoch_(other.epoch_),
      marks_(other.marks_),
      marks_hard_(other.marks_hard_) {}

FillTable::Token& FillTable::Token::operator=(Token&& other) noexcept {
  if (this != &other) {
    if (table_ != nullptr) table_->abandon(*this);
    table_ = std::exchange(other.table_, nullptr);
    node_ = other.node_;
    epoch_ = other.epoch_;
    marks_ = other.marks_;
    marks_hard_ = other.marks_hard_;
  }
  return *this;
}

FillTable::Token::~Token() {
  if (table_ != nullptr) table_->abandon(*this);
}

const std::string& FillTable::Token::key() const noexcept {
  TIERCEL_CHECK(table_ != nullptr);  // Ended or moved from.
  return node_->key;
}

FillTable::FillTable(std::size_t stripes) {
  TIERCEL_CHECK(std::has_single_bit(stripes));
  stripes_.reserve(stripes);
  for (std::size_t i = 0; i < stripes; ++i) {
    stripes_.push_back(std::make_unique<Stripe>());
    MutexLock lock{stripes_.back()->mutex};
    stripes_.back()->spares.reserve(kSparesMax);  // A token's end must not throw.
  }
}

std::uint64_t FillTable::hash_of(std::string_view key) noexcept {
  return std::uint64_t{std::hash<std::string_view>{}(key)} * 0x9e3779b97f4a7c15ULL;
}

// The low bits choose the bucket inside the stripe, so the stripe takes high ones.
FillTable::Stripe& FillTable::stripe_of(std::uint64_t hash) const {
  return *stripes_[(hash >> 32) & (stripes_.size() - 1)];
}

FillTable::Stripe& FillTable::stripe_of(const Token& token) const {
  TIERCEL_CHECK(token.table_ == this);  // Else it has ended, was moved from, or is another's.
  return stripe_of(token.node_->hash);
}

FillTable::Node& FillTable::node_of(Stripe& stripe, std::string_view key, std::uint64_t hash) {
  if (Node* const node = stripe.nodes.find(key, hash); node != nullptr) return *node;
  std::unique_ptr<Node> made;
  if (stripe.spares.empty()) {
    made = std::make_unique<Node>();
  } else {
    made = std::move(stripe.spares.back());
    stripe.spares.pop_back();
  }
  made->hash = hash;
  made->key.assign(key);
  stripe.nodes.put(*made);
  return *made.release();
}

void FillTable::remove(Stripe& stripe, Node& node) {
  stripe.nodes.remove(node);
  std::unique_ptr<Node> removed{&node};
  if (stripe.spares.size() == kSparesMax || removed->key.capacity() > kSpareKeyBytesMax) return;
  removed->marks = removed->marks_hard = 0;
  removed->floor = kVersionUnknown;
  stripe.spares.push_back(std::move(removed));
}

FillTable::Token FillTable::begin(std::string_view key) {
  const std::uint64_t hash = hash_of(key);
  Stripe& stripe = stripe_of(hash);
  MutexLock lock{stripe.mutex};
  Node& node = node_of(stripe, key, hash);
  ++node.tokens;
  ++stripe.tokens;
  Token token;
  token.table_ = this;
  token.node_ = &node;
  token.epoch_ = stripe.epoch;
  token.marks_ = node.marks;
  token.marks_hard_ = node.marks_hard;
  return token;
}

void FillTable::mark(std::string_view key, Version version) {
  Stripe& stripe = stripe_of(key);
  MutexLock lock{stripe.mutex};
  mark_locked(stripe, key, version);
}

void FillTable::mark_locked(Stripe& stripe, std::string_view key, Version version) {
  Node* const node = stripe.nodes.find(key, hash_of(key));
  if (node == nullptr) return;
  ++node->marks;
  if (version == kVersionUnknown) {
    ++node->marks_hard;
  } else {
    node->floor = std::max(node->floor, version);
  }
}

void FillTable::mark_all() {
  for (auto& stripe : stripes_) {
    MutexLock lock{stripe->mutex};
    ++stripe->epoch;
    // Versions of the ended epoch mean nothing in the new one.
    stripe->nodes.for_each([](Node& node) { node.floor = kVersionUnknown; });
  }
}

bool FillTable::untouched(const Token& token) const {
  const Stripe& stripe = stripe_of(token);
  MutexLock lock{stripe.mutex};
  return token.epoch_ == stripe.epoch && token.marks_ == token.node_->marks;
}

bool FillTable::admits(const Stripe& stripe, const Token& token, Version version) {
  const Node& node = *token.node_;
  if (token.epoch_ != stripe.epoch || token.marks_hard_ != node.marks_hard) return false;
  // Another fill's newer value may be in L1 already, so the floor counts even without a mark.
  if (version != kVersionUnknown) return version >= node.floor;
  return token.marks_ == node.marks && node.floor == kVersionUnknown;
}

void FillTable::finish(Stripe& stripe, Token& token, Version inserted) {
  Node& node = *token.node_;
  // Whoever comes from now on may have seen this one, and must not join a fill that could bring an
  // older one.
  if (inserted != kVersionUnknown) ++node.marks;
  node.floor = std::max(node.floor, inserted);
  --stripe.tokens;
  if (--node.tokens == 0) remove(stripe, node);
  token.table_ = nullptr;
}

void FillTable::abandon(Token& token) {
  Stripe& stripe = stripe_of(token);
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
