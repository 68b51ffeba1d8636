// What does the Bloom filter cost? See bloom_cost.h, and docs/bench/bloom.md.
//
// Options: --quick (a smoke test), --keys-max=N (leave out the larger filters).

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "bloom_cost.h"
#include "figures.h"

int main(int argc, char** argv) {
  using namespace tiercel::bench;
  CLI::App app{"What the Bloom filter costs, beside a textbook one"};
  BloomSettings settings;
  bool quick = false;
  app.add_flag("--quick", quick, "A smoke test: times are too short to mean anything");
  app.add_option("--keys-max", settings.keys_max, "Leave out filters of more keys");
  CLI11_PARSE(app, argc, argv);
  if (quick) {
    const std::uint64_t keys_max = settings.keys_max;
    settings = BloomSettings::quick();
    settings.keys_max = std::min(settings.keys_max, keys_max);
  }
  const BloomCost cost = run_bloom(settings);
  print_figure("bloom_probe_ns", cost.probe_ns);
  std::printf("figure bloom_fpr %.5f\n", cost.false_positive_rate);
  return 0;
}
