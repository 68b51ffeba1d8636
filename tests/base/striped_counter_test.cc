#include "tiercel/base/striped_counter.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace tiercel {
namespace {

TEST(StripedCounter, CountsExactlyWhateverTheThreads) {
  StripedCounter counter;
  EXPECT_EQ(counter.value(), 0U);
  counter.add(5);
  std::vector<std::thread> threads;
  for (int t = 0; t < 40; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) counter.add();
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 40'005U);
}

}  // namespace
}  // namespace tiercel
