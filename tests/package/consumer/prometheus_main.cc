// A user of the installed package who collects metrics. Exit status 0 when all went well.

#include "tiercel/prometheus/collector.h"

int main() {
  const auto cache = tiercel::Cache::open({});
  if (!cache || !(*cache)->set("k", "v")) return 1;
  tiercel::PrometheusCollector collector;
  if (!collector.add("consumer", **cache)) return 1;
  for (const auto& family : collector.Collect()) {
    if (family.name == "tiercel_l1_entries") return family.metric.at(0).gauge.value == 1.0 ? 0 : 1;
  }
  return 1;
}
