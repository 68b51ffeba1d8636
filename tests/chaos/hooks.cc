#include <cstdlib>
#include <string>
#include <string_view>

#include "tiercel/base/bytes.h"
#include "tiercel/base/chaos_hooks.h"
#include "tiercel/base/check.h"

namespace tiercel {
namespace {

void set_hook(ChaosHooks& hooks, std::string_view word) {
  constexpr std::string_view kPause = "pause_before_clock_ms=";
  if (word == "fills_without_tokens") {
    hooks.fills_without_tokens = true;
  } else if (word == "lease_by_pings_alone") {
    hooks.lease_by_pings_alone = true;
  } else if (word == "clock_before_value") {
    hooks.clock_before_value = true;
  } else if (word.starts_with(kPause)) {
    const auto milliseconds = parse_u64(word.substr(kPause.size()));
    TIERCEL_CHECK(milliseconds);
    hooks.pause_before_clock = std::chrono::milliseconds{*milliseconds};
  } else {
    TIERCEL_CHECK(word.empty());  // Else a control would pass for want of its fault.
  }
}

}  // namespace

const ChaosHooks& chaos_hooks() {
  static const ChaosHooks hooks = [] {
    ChaosHooks found;
    const char* text = std::getenv("TIERCEL_CHAOS_HOOKS");
    std::string_view rest = text == nullptr ? "" : text;
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      set_hook(found, rest.substr(0, comma));
      rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    }
    return found;
  }();
  return hooks;
}

}  // namespace tiercel
