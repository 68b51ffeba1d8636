#include "tiercel/base/key_table.h"

#include <gtest/gtest.h>

#include <deque>
#include <new>
#include <set>
#include <string>

#include "support/allocations.h"

namespace tiercel {
namespace {

struct Node : KeyTableLink<Node> {
  Node(std::string key_given, std::size_t hash_given)
      : key(std::move(key_given)), hash(hash_given) {}
  std::string key;
  std::size_t hash;
};

std::set<std::string> keys_of(const KeyTable<Node>& table) {
  std::set<std::string> keys;
  table.for_each([&](const Node& node) { EXPECT_TRUE(keys.insert(node.key).second) << node.key; });
  return keys;
}

TEST(KeyTable, FindsWhatWasPutWhileItGrows) {
  KeyTable<Node> table;
  std::deque<Node> nodes;
  std::set<std::string> keys;
  for (std::size_t i = 0; i < 1000; ++i) {
    // Every third hash is shared by three keys, and all of them by few buckets.
    nodes.emplace_back("k" + std::to_string(i), i / 3 * 4);
    table.put(nodes.back());
    keys.insert(nodes.back().key);
    ASSERT_EQ(table.size(), i + 1);
  }
  for (Node& node : nodes) EXPECT_EQ(table.find(node.key, node.hash), &node) << node.key;
  EXPECT_EQ(table.find("k0", 4), nullptr) << "of another hash";
  EXPECT_EQ(table.find("absent", 0), nullptr);
  EXPECT_EQ(keys_of(table), keys);
}

TEST(KeyTable, TheNewOneOfAKeyTakesThePlaceOfTheOld) {
  KeyTable<Node> table;
  Node old{"k", 3};
  Node other{"of the same bucket", 19};
  Node young{"k", 3};
  table.put(old);
  table.put(other);
  table.put(young);
  EXPECT_EQ(table.size(), 2U);
  EXPECT_EQ(table.find("k", 3), &young);
  EXPECT_EQ(table.find(other.key, 19), &other);
  EXPECT_FALSE(table.remove(old)) << "it is not there any more";
  EXPECT_EQ(table.find("k", 3), &young);
  table.put(old);  // And back.
  EXPECT_EQ(table.find("k", 3), &old);
  EXPECT_EQ(table.size(), 2U);
}

TEST(KeyTable, WhatWasRemovedIsNotFoundAndTheOthersAre) {
  KeyTable<Node> table;
  std::deque<Node> nodes;
  for (std::size_t i = 0; i < 100; ++i) {
    nodes.emplace_back(std::to_string(i), i % 5);
    table.put(nodes.back());
  }
  for (std::size_t i = 0; i < 100; i += 2) EXPECT_TRUE(table.remove(nodes[i]));
  for (std::size_t i = 0; i < 100; ++i) {
    EXPECT_EQ(table.find(nodes[i].key, nodes[i].hash), i % 2 == 0 ? nullptr : &nodes[i]) << i;
  }
  EXPECT_EQ(table.size(), 50U);
  EXPECT_FALSE(table.remove(nodes[0]));
  for (std::size_t i = 1; i < 100; i += 2) EXPECT_TRUE(table.remove(nodes[i]));
  EXPECT_EQ(table.size(), 0U);
  EXPECT_TRUE(keys_of(table).empty());
}

TEST(KeyTable, WhereThereIsNoMemoryToGrowNothingChanges) {
  KeyTable<Node> table;
  std::deque<Node> nodes;
  bool has_failed = false;
  while (!has_failed) {
    ASSERT_LT(nodes.size(), 1000U);
    Node& node = nodes.emplace_back(std::to_string(nodes.size()), nodes.size());
    const testing::NoMemory no_memory;
    try {
      table.put(node);
    } catch (const std::bad_alloc&) {
      has_failed = true;
    }
  }
  EXPECT_EQ(table.size(), nodes.size() - 1);
  EXPECT_EQ(table.find(nodes.back().key, nodes.back().hash), nullptr);
  {
    const testing::NoMemory no_memory;
    Node replacement{nodes.front().key, nodes.front().hash};
    table.put(replacement);  // Needs no more room.
    EXPECT_EQ(table.find(replacement.key, replacement.hash), &replacement);
    table.put(nodes.front());
  }
  table.put(nodes.back());
  EXPECT_EQ(keys_of(table).size(), nodes.size());
}

}  // namespace
}  // namespace tiercel
