#include "tiercel/cache/options.h"

#include <array>
#include <cmath>
#include <string>
#include <string_view>

#include "check_range.h"
#include "tiercel/coherence/names.h"
#include "tiercel/coherence/session.h"
#include "tiercel/l1/lru_cache.h"
#include "tiercel/serialization/limits.h"

namespace tiercel {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

// What is accepted here can be stored.
static_assert(kKeyBytesMax <= serialization::kKeyBytesMax && kTtlMax <= serialization::kTtlMax);

Result<void> check_surroundings(const CacheOptions& options) {
  if (!options.redis_url.empty() && options.redis) {
    return invalid_argument("redis_url and redis are both set; set at most one");
  }
  if (options.redis) {
    if (auto valid = l2::validate(*options.redis); !valid) return valid;
  }
  if (options.clock == nullptr) return invalid_argument("clock is null; leave its default");
  if (!(options.ttl_jitter >= 0.0 && options.ttl_jitter <= 0.9)) {  // Also refuses NaN.
    return invalid_argument("ttl_jitter is " + std::to_string(options.ttl_jitter) +
                            "; it must be 0 to 0.9");
  }
  return l1::validate({.capacity_bytes_max = options.l1_capacity_bytes_max,
                       .stripes = options.l1_stripes,
                       .clock = options.clock});
}

}  // namespace

Result<void> validate(const CacheOptions& options) {
  if (auto names = coherence::Names::create(options.name_space); !names) return names.error();
  if (auto valid = check_surroundings(options); !valid) return valid;
  if (auto valid = coherence::validate(coherence::SessionOptions{
          .lease = options.lease, .stream_timeout = options.stream_timeout});  // The rest at open.
      !valid) {
    return valid;
  }
  if (options.l2_breaker) {
    if (auto valid = validate(*options.l2_breaker); !valid) {
      return invalid_argument("l2_" + valid.error().message);
    }
  }
  const auto ttl = options.ttl.value_or(1ms);
  const auto negative_ttl = options.negative_ttl.value_or(1ms);
  const std::array checks{
      check_range("ttl", ttl, 1ms, kTtlMax),
      check_range("negative_ttl", negative_ttl, 1ms, kTtlMax),
      check_range("read_timeout", options.read_timeout, 1ms, kTimeoutMax),
      check_range("write_timeout", options.write_timeout, 1ms, kTimeoutMax),
      check_range("read_timeout_before_load", options.read_timeout_before_load, 1ms, kTimeoutMax),
      check_range("fill_lease", options.fill_lease, 10ms, 10min),
      check_range("reads_waiting_max", options.reads_waiting_max, 1, std::size_t{16} << 20),
      check_range("value_bytes_max", options.value_bytes_max, 1, serialization::kPayloadBytesMax),
      check_range("value_push_bytes_max", options.value_push_bytes_max, 0, 65536),
      check_range("invalidations_queued_max", options.invalidations_queued_max, 0, 1'000'000),
      check_range("hot_keys_max", options.hot_keys_max, 0, 100'000),
      check_range("hot_keys_every", options.hot_keys_every, 100ms, 1h),
      check_range("audit_one_in", options.audit_one_in.value_or(1), 1, 1'000'000'000),
      check_range("history_entries", options.history_entries, 16, 100'000'000),
  };
  for (const auto& check : checks) {
    if (!check) return check;
  }
  return {};
}

}  // namespace tiercel
