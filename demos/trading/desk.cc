#include "trading/desk.h"

namespace tiercel::trading {

CacheOptions cache_options(const std::string& redis_url) {
  return {.name_space = "desk", .redis_url = redis_url, .lease = kLease};
}

Result<Rules> open_rules(Cache& cache) {
  // No loader: a rule that is not in Redis is not there, and without a rule there is no order.
  const FillPolicy for_ever{.ttl = std::nullopt};
  auto switches =
      Switches::open(cache, {.name = "switch",
                             .policy = for_ever,
                             .codec = serialization::TrivialCodec<KillSwitch>{"trading.switch.1"}});
  if (!switches) return switches.error();
  auto limits =
      Limits::open(cache, {.name = "limit",
                           .policy = for_ever,
                           .codec = serialization::TrivialCodec<Limit>{"trading.limit.1"}});
  if (!limits) return limits.error();
  return Rules{std::move(*switches), std::move(*limits)};
}

}  // namespace tiercel::trading
