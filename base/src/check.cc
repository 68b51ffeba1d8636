#include "tiercel/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace tiercel::detail {

void check_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "tiercel: check failed: %s at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace tiercel::detail
