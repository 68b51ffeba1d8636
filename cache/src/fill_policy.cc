#include "tiercel/cache/fill_policy.h"

#include <string>

#include "tiercel/cache/options.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

Result<void> check_life(std::string_view field, std::optional<milliseconds> life) {
  if (!life || (*life >= 1ms && *life <= kTtlMax)) return {};
  return invalid_argument(std::string{field} + " is " + std::to_string(life->count()) +
                          " ms; it must be 1 ms to 10 years");
}

Result<void> check_fraction(std::string_view field, double fraction) {
  if (fraction >= 0.0 && fraction <= 0.9) return {};
  return invalid_argument(std::string{field} + " is " + std::to_string(fraction) +
                          "; it must be 0 to 0.9");
}

Result<void> check_count(std::string_view field, std::size_t count, std::size_t least) {
  if (count >= least && count <= 1'000'000) return {};
  return invalid_argument(std::string{field} + " is " + std::to_string(count) + "; it must be " +
                          std::to_string(least) + " to 1,000,000");
}

}  // namespace

Result<void> validate(const FillPolicy& policy) {
  if (auto valid = check_life("ttl", policy.ttl); !valid) return valid;
  if (auto valid = check_life("negative_ttl", policy.negative_ttl); !valid) return valid;
  if (auto valid = check_life("stale_max", policy.stale_max); !valid) return valid;
  if (auto valid = check_fraction("ttl_jitter", policy.ttl_jitter); !valid) return valid;
  if (auto valid = check_fraction("refresh_ahead", policy.refresh_ahead); !valid) return valid;
  if (policy.refresh_ahead > 0 && !policy.ttl) {
    return invalid_argument("refresh_ahead is a part of the ttl, and there is no ttl");
  }
  if (policy.stale_max && !policy.ttl) {
    return invalid_argument("stale_max begins when the ttl ends, and there is no ttl");
  }
  if (policy.stale_throttle < 1ms || policy.stale_throttle > 1h) {
    return invalid_argument("stale_throttle is " + std::to_string(policy.stale_throttle.count()) +
                            " ms; it must be 1 ms to 1 h");
  }
  if (policy.soft_deadline) {
    if (!policy.stale_max) {
      return invalid_argument(
          "soft_deadline gives readers the stale value, and without stale_max there is none");
    }
    if (*policy.soft_deadline < 0ms || *policy.soft_deadline > 1h) {
      return invalid_argument("soft_deadline is " + std::to_string(policy.soft_deadline->count()) +
                              " ms; it must be 0 ms to 1 h");
    }
  }
  if (auto valid = check_count("loads_running_max", policy.loads_running_max, 1); !valid) {
    return valid;
  }
  if (auto valid = check_count("loads_waiting_max", policy.loads_waiting_max, 0); !valid) {
    return valid;
  }
  if (policy.breaker) return validate(*policy.breaker);
  return {};
}

}  // namespace tiercel
