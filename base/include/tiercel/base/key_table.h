#pragma once

// KeyTable: a hash table of nodes that the caller makes, owns and can find again by their key. A
// node hangs in its bucket by a link of its own, so the table allocates nothing for it, and what
// points to a node stays good while the table grows. Not for two threads at once.
//
// A Node derives from KeyTableLink<Node> and has `key`, to be compared with a std::string_view, and
// `hash`, of that key; neither changes while it is in a table. The low bits of the hash choose the
// bucket. All is O(1) but growing and for_each(), which are O(size).

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace tiercel {

template <typename Node>
class KeyTable;

template <typename Node>
class KeyTableLink {
  friend class KeyTable<Node>;
  Node* next_in_bucket_ = nullptr;
};

template <typename Node>
class KeyTable {
 public:
  KeyTable() : buckets_(kBucketsFirst) {}
  KeyTable(const KeyTable&) = delete;
  KeyTable& operator=(const KeyTable&) = delete;

  // nullptr: there is none.
  [[nodiscard]] Node* find(std::string_view key, std::size_t hash) const noexcept {
    Node* node = bucket_of(hash);
    while (node != nullptr && (node->hash != hash || node->key != key)) node = next_of(*node);
    return node;
  }

  // Takes the place of the one of the same key, if there is one, which is no longer in the table
  // then. `node` must not be in it. Throws std::bad_alloc, having changed nothing, where there is
  // no memory to grow.
  void put(Node& node) {
    if (Node* const before = find(node.key, node.hash); before != nullptr) {
      remove(*before);
    } else if (size_ == buckets_.size()) {
      grow();
    }
    hang(node);
    ++size_;
  }

  // False: it is not in the table.
  bool remove(Node& node) noexcept {
    Node** place = &bucket_of(node.hash);
    while (*place != nullptr && *place != &node) place = &next_of(**place);
    if (*place == nullptr) return false;
    *place = std::exchange(next_of(node), nullptr);
    --size_;
    return true;
  }

  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (Node* node : buckets_) {
      for (; node != nullptr; node = next_of(*node)) visit(*node);
    }
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  static constexpr std::size_t kBucketsFirst = 16;

  static Node*& next_of(Node& node) noexcept {
    return static_cast<KeyTableLink<Node>&>(node).next_in_bucket_;
  }
  [[nodiscard]] Node* bucket_of(std::size_t hash) const noexcept {
    return buckets_[hash & (buckets_.size() - 1)];
  }
  Node*& bucket_of(std::size_t hash) noexcept { return buckets_[hash & (buckets_.size() - 1)]; }
  void hang(Node& node) noexcept {
    Node*& bucket = bucket_of(node.hash);
    next_of(node) = std::exchange(bucket, &node);
  }
  void grow() {
    const std::vector<Node*> narrower =
        std::exchange(buckets_, std::vector<Node*>(2 * buckets_.size()));
    for (Node* node : narrower) {
      while (node != nullptr) hang(*std::exchange(node, next_of(*node)));
    }
  }

  std::vector<Node*> buckets_;  // A power of two of them.
  std::size_t size_ = 0;
};

}  // namespace tiercel
