#pragma once

// Coordinator: starts the servers and the instances, watches the run, and reports.

#include "failover/options.h"

namespace tiercel::failover {

// Returns the exit status: 0, 1 when a promise was broken or the run failed, 2 when the trace is
// bad.
int run_coordinator(const Options& options);

}  // namespace tiercel::failover
