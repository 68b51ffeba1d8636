#include "tiercel/cache/observer.h"

namespace tiercel {

std::string_view to_string(LoadOutcome outcome) noexcept {
  switch (outcome) {
    case LoadOutcome::kValue: return "value";
    case LoadOutcome::kUnchanged: return "unchanged";
    case LoadOutcome::kNothing: return "nothing";
    case LoadOutcome::kFailed: return "failed";
  }
  return "?";
}

std::string_view to_string(LoadRefusal by) noexcept {
  switch (by) {
    case LoadRefusal::kBulkhead: return "bulkhead";
    case LoadRefusal::kBreaker: return "breaker";
  }
  return "?";
}

}  // namespace tiercel
