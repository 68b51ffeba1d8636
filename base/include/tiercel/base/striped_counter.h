#pragma once

// StripedCounter: a count that many threads raise at the same time, each, mostly, in a cache line
// of its own. Exact. Any thread; reading costs kStripes loads.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tiercel {

class StripedCounter {
 public:
  static constexpr std::size_t kStripes = 16;

  void add(std::uint64_t count = 1) noexcept {
    stripes_[stripe_of_thread()].count.fetch_add(count, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t value() const noexcept {
    std::uint64_t sum = 0;
    for (const Stripe& stripe : stripes_) sum += stripe.count.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  struct alignas(64) Stripe {
    std::atomic<std::uint64_t> count{0};
  };

  // Threads take turns; one keeps its own.
  static std::size_t stripe_of_thread() noexcept {
    static std::atomic<std::size_t> threads{0};
    static thread_local const std::size_t own =
        threads.fetch_add(1, std::memory_order_relaxed) % kStripes;
    return own;
  }

  std::array<Stripe, kStripes> stripes_{};
};

}  // namespace tiercel
