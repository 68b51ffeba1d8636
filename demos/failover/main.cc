// The failover demo: several processes read and write through Tiercel while the Redis master is
// killed, and every answer is checked. coordinator.h and instance.h are the two halves.

#include "failover/coordinator.h"
#include "failover/instance.h"
#include "failover/options.h"

int main(int argc, char** argv) {
  const auto command_line = tiercel::failover::parse_command_line(argc, argv);
  if (command_line.instance) return tiercel::failover::run_instance(*command_line.instance);
  if (command_line.options) return tiercel::failover::run_coordinator(*command_line.options);
  return command_line.exit_status;
}
