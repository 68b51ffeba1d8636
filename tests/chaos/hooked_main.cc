// Instances of the library's variant with test hooks, for those faults that need them.

#include <cstdio>
#include <string>

#include "chaos/instance.h"
#include "tiercel/base/bytes.h"

int main(int argc, char** argv) {
  const auto number = argc == 3 && std::string{argv[1]} == "instance"
                          ? tiercel::parse_u64(argv[2])
                          : tiercel::Result<std::uint64_t>{tiercel::invalid_argument("")};
  if (number) return tiercel::chaos::run_instance(static_cast<std::uint32_t>(*number));
  std::fputs("only the coordinator of a chaos run starts this\n", stderr);
  return 2;
}
