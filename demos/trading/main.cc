// The trading demo. Gateways, processes of their own, accept orders by what L1 says of a kill
// switch and of limits. A risk officer changes these by fenced writes: when such a write is
// acknowledged, no gateway acts on the old rule any more, not even one that can hear nothing. The
// demo checks that, prints the evidence, and shows for comparison what a write without a fence
// gives.
//
//   tiercel_trading
//
// Exit status: 0 when the promises held, 1 when not, 2 for wrong options or no Redis.

#include <cstdio>
#include <filesystem>
#include <string_view>

#include "trading/gateway.h"
#include "trading/officer.h"

int main(int argc, char** argv) {
  using namespace tiercel::trading;
  if (argc == 3 && std::string_view{argv[1]} == "gateway") return run_gateway(argv[2]);
  if (argc == 1) return run_officer(std::filesystem::read_symlink("/proc/self/exe").string());
  return std::fprintf(stderr, "usage: tiercel_trading\n"), 2;
}
