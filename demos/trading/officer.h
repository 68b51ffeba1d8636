#pragma once

// Officer: changes the rules while the gateways trade, and afterwards examines on what they did.
// One of them is reached through a proxy that, in some rounds, holds everything up that is sent to
// it: it does not hear of the change.

#include <string>

namespace tiercel::trading {

// `program` is this one, for the gateways. Returns the exit status: 0 when every promise held.
int run_officer(const std::string& program);

}  // namespace tiercel::trading
