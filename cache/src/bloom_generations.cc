// Invariants:
//   - A filter that current_ has been set to has every key that was given to an add() which began
//     after its priming or building did, or had returned by then and is in what it was made from.
//   - next_ is null but in kPriming and kBuilding. Nothing is taken out of a filter.
//
// Why an add() that is under way during a step does no harm: it puts its key into the filters that
// it found at one moment, under the mutex. If next_ came after that moment, the key was in the
// source before next_ came (the caller's duty 1), so what fills next_ finds it there.

#include "tiercel/cache/bloom_generations.h"

#include <string>
#include <utility>

namespace tiercel {
namespace {

Error out_of_turn(std::string_view what) {
  return conflict("Bloom generations: " + std::string{what});
}

}  // namespace

void BloomGenerations::add(KeyHash hash) {
  std::shared_ptr<BloomFilter> current;
  std::shared_ptr<BloomFilter> next;
  {
    const MutexLock lock{mutex_};
    current = current_;
    next = next_;
    if (state_ == Next::kAwaitingHeader && kept_all_) {
      if (kept_.size() < options_.adds_kept_max) {
        kept_.push_back(hash);
      } else {
        kept_all_ = false;
        kept_ = {};
      }
    }
  }
  if (current) current->add(hash);
  if (next) next->add(hash);
}

bool BloomGenerations::may_contain(KeyHash hash) const {
  const std::shared_ptr<const BloomFilter> filter = current();
  return !filter || filter->may_contain(hash);
}

std::shared_ptr<const BloomFilter> BloomGenerations::current() const {
  const MutexLock lock{mutex_};
  return current_;
}

BloomGenerations::Next BloomGenerations::next() const {
  const MutexLock lock{mutex_};
  return state_;
}

std::size_t BloomGenerations::chunks_missing() const {
  const MutexLock lock{mutex_};
  return chunks_missing_;
}

Result<void> BloomGenerations::expect(Next next) const {
  if (state_ == next) return {};
  switch (state_) {
    case Next::kNothing: return out_of_turn("nothing is being primed or built");
    case Next::kAwaitingHeader: return out_of_turn("the header has not come");
    case Next::kPriming: return out_of_turn("a priming is under way");
    case Next::kBuilding: return out_of_turn("a building is under way");
  }
  return {};
}

void BloomGenerations::drop_next() {
  state_ = Next::kNothing;
  next_ = nullptr;
  kept_ = {};
  kept_all_ = true;
  has_chunk_ = {};
  chunks_missing_ = 0;
}

Error BloomGenerations::fail(Error error) {
  abandon();
  return error;
}

// ---------------------------------------------------------------- priming

Result<void> BloomGenerations::begin_priming() {
  const MutexLock lock{mutex_};
  if (auto turn = expect(Next::kNothing); !turn) return turn;
  state_ = Next::kAwaitingHeader;
  return {};
}

Result<void> BloomGenerations::take_header(const BloomHeader& header) {
  {
    const MutexLock lock{mutex_};
    if (auto turn = expect(Next::kAwaitingHeader); !turn) return turn;
  }
  if (const auto answering = current(); answering && header.generation < answering->generation()) {
    return fail(conflict("a Bloom filter of generation " + std::to_string(header.generation) +
                         " is older than the one that answers, " +
                         std::to_string(answering->generation())));
  }
  auto created = BloomFilter::create(header, options_.bytes_max);
  if (!created) return fail(std::move(created).error());
  const std::shared_ptr<BloomFilter> filter = *std::move(created);
  std::vector<KeyHash> kept;
  bool kept_all = false;
  {
    const MutexLock lock{mutex_};
    state_ = Next::kPriming;
    next_ = filter;  // From here on adds go to it themselves.
    kept.swap(kept_);
    kept_all = kept_all_;
    bits_announced_ = header.bits_set;
    has_chunk_.assign(filter->chunks(), false);
    chunks_missing_ = filter->chunks();
  }
  if (!kept_all) {
    return fail(overloaded("more than adds_kept_max, " + std::to_string(options_.adds_kept_max) +
                           ", keys were added before the header came"));
  }
  filter->add_many(kept);
  return {};
}

Result<void> BloomGenerations::take_chunk(std::size_t chunk, std::string_view bytes) {
  std::shared_ptr<BloomFilter> filter;
  {
    const MutexLock lock{mutex_};
    if (auto turn = expect(Next::kPriming); !turn) return turn;
    filter = next_;
  }
  if (auto merged = filter->merge_chunk(chunk, bytes); !merged) return fail(merged.error());
  const MutexLock lock{mutex_};
  if (!has_chunk_[chunk]) {
    has_chunk_[chunk] = true;
    --chunks_missing_;
  }
  return {};
}

// ---------------------------------------------------------------- building

Result<std::shared_ptr<BloomFilter>> BloomGenerations::begin_building(const BloomOptions& options) {
  {
    const MutexLock lock{mutex_};
    if (auto turn = expect(Next::kNothing); !turn) return turn.error();
    if (current_ && options.generation <= current_->generation()) {
      return conflict("generation " + std::to_string(options.generation) +
                      " is not above that of the Bloom filter that answers, " +
                      std::to_string(current_->generation()));
    }
  }
  auto created = BloomFilter::create(options);
  if (!created) return created.error();
  std::shared_ptr<BloomFilter> filter = *std::move(created);
  const MutexLock lock{mutex_};
  state_ = Next::kBuilding;
  next_ = filter;
  return filter;
}

// ---------------------------------------------------------------- ends

Result<void> BloomGenerations::finish() {
  std::shared_ptr<BloomFilter> old;  // Goes after the lock: giving its memory back takes a while.
  std::uint64_t bits_set = 0;
  std::uint64_t bits_announced = 0;
  {
    const MutexLock lock{mutex_};
    if (state_ != Next::kBuilding) {
      if (auto turn = expect(Next::kPriming); !turn) return turn;
      if (chunks_missing_ > 0) {
        return out_of_turn(std::to_string(chunks_missing_) + " chunks are missing");
      }
      bits_announced = bits_announced_;
    }
    bits_set = next_->bits_set();
    if (bits_set >= bits_announced) {
      old = std::exchange(current_, next_);
      drop_next();
      return {};
    }
  }
  return fail(corrupt("all chunks of a Bloom filter came, with " + std::to_string(bits_set) +
                      " bits set instead of " + std::to_string(bits_announced) + " or more"));
}

void BloomGenerations::abandon() {
  std::shared_ptr<BloomFilter> next;
  const MutexLock lock{mutex_};
  next = next_;
  drop_next();
}

void BloomGenerations::lost() {
  std::shared_ptr<BloomFilter> old;
  std::shared_ptr<BloomFilter> next;
  const MutexLock lock{mutex_};
  old = std::exchange(current_, nullptr);
  next = next_;
  drop_next();
}

}  // namespace tiercel
