// Invariant: whatever belongs to an ended run (a reply, a timer) finds another run_ and does
// nothing.

#include "chunk_pump.h"

#include <utility>

#include "tiercel/cache/bloom_filter.h"

namespace tiercel {

using namespace std::chrono_literals;

void ChunkPump::start(Work work) {
  ++run_;
  work_ = std::move(work);
  next_ = outstanding_ = 0;
  is_armed_ = false;
  began_at_ = clock_.now();
  if (work_.chunks == 0) return end({});
  pump();
}

double ChunkPump::bytes_allowed() const {
  const double seconds = std::chrono::duration<double>(clock_.now() - began_at_).count();
  return seconds * static_cast<double>(bytes_per_second_) +
         static_cast<double>(kOutstandingMax * BloomFilter::kChunkBytes);
}

void ChunkPump::pump() {
  const std::uint64_t run = run_;
  // Those for which there is nothing to do count, too: looking for that takes time.
  for (std::size_t turns = 0; next_ < work_.chunks && outstanding_ < kOutstandingMax; ++turns) {
    const bool is_early =
        static_cast<double>((next_ + 1) * BloomFilter::kChunkBytes) > bytes_allowed();
    if (is_early || turns == kOutstandingMax) {
      if (is_armed_) return;
      is_armed_ = true;
      loop_.run_after(1ms, [this, run] {
        if (run != run_) return;
        is_armed_ = false;
        pump();
      });
      return;
    }
    const std::size_t chunk = next_++;
    ++outstanding_;
    if (!work_.send(chunk, [this, run, chunk](Result<l2::Reply> reply) {
          arrived(run, chunk, std::move(reply));
        })) {
      --outstanding_;
    }
    if (run != run_) return;
  }
  if (next_ == work_.chunks && outstanding_ == 0) end({});
}

void ChunkPump::arrived(std::uint64_t run, std::size_t chunk, Result<l2::Reply> reply) {
  if (run != run_) return;
  --outstanding_;
  auto taken = work_.take(chunk, std::move(reply));
  if (run != run_) return;
  if (!taken) return end(std::move(taken));
  pump();
}

// Not at once: who calls is in the midst of its work.
void ChunkPump::end(Result<void> result) {
  const std::uint64_t run = ++run_;
  loop_.post([this, run, result = std::move(result)]() mutable {
    if (run != run_) return;
    ++run_;
    auto done = std::move(work_.done);
    done(std::move(result));
  });
}

}  // namespace tiercel
