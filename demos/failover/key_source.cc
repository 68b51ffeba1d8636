#include "failover/key_source.h"

#include <string>

#include "failover/trace.h"
#include "failover/zipf.h"
#include "tiercel/base/random.h"

namespace tiercel::failover {
namespace {

constexpr int kDrawsMax = 4096;

class ZipfSource final : public KeySource {
 public:
  ZipfSource(std::uint64_t keys, double skew, std::uint64_t seed)
      : zipf_(keys, skew), random_(seed) {}
  Result<std::uint32_t> next() override { return static_cast<std::uint32_t>(zipf_.draw(random_)); }

 private:
  Zipf zipf_;
  Random random_;
};

class TraceSource final : public KeySource {
 public:
  TraceSource(const Board& board, TraceStream stream) : board_(board), stream_(std::move(stream)) {}

  Result<std::uint32_t> next() override {
    const auto id = stream_.next();
    if (!id) return id.error();
    if (const auto key = board_.key_of_id(*id)) return *key;
    return invalid_argument("the trace has changed: it did not name " + std::to_string(*id));
  }

 private:
  const Board& board_;
  TraceStream stream_;
};

}  // namespace

Result<std::unique_ptr<KeySource>> KeySource::open(const Board& board, std::uint32_t slot,
                                                   std::uint32_t slots) {
  const BoardConfig& config = board.config();
  if (config.trace_bytes == 0) {
    return std::unique_ptr<KeySource>{
        std::make_unique<ZipfSource>(config.key_count, config.zipf, config.seed + slot)};
  }
  auto stream = TraceStream::open(config.trace_path.data(), config.trace_bytes, slot, slots);
  if (!stream) return stream.error();
  return std::unique_ptr<KeySource>{
      std::make_unique<TraceSource>(board, std::move(stream).value())};
}

Result<std::optional<std::uint32_t>> KeySource::next_owned(std::uint32_t instance,
                                                           std::uint32_t instances) {
  for (int draws = 0; draws < kDrawsMax; ++draws) {
    const auto key = next();
    if (!key) return key.error();
    if (owner_of(*key, instances) == instance) return std::optional<std::uint32_t>{*key};
  }
  return std::optional<std::uint32_t>{};
}

}  // namespace tiercel::failover
