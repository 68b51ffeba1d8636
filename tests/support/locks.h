#pragma once

// How often this thread took a mutex, or tried to. Counted in programs with locks.cc that are
// linked with -Wl,--wrap=pthread_mutex_lock -Wl,--wrap=pthread_mutex_trylock, for all that is
// linked into them statically.

#include <cstdint>

namespace tiercel::testing {

[[nodiscard]] std::uint64_t locks() noexcept;

}  // namespace tiercel::testing
