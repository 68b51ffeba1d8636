#pragma once

// Gateway: a process that accepts or refuses orders by what L1 says of the rules, by try_get alone:
// what L1 cannot vouch for is refused. Lines on standard output: "traded R" after the first order
// on revision R of the kill switch; at the end, which is that of its standard input, what it has
// accepted (evidence.h), then "refused SWITCH LIMIT UNKNOWN".

#include <string>

namespace tiercel::trading {

// Returns the exit status.
int run_gateway(const std::string& redis_url);

}  // namespace tiercel::trading
