#pragma once

// AddressSanitizer knows nothing of memory that is managed here; so the arena tells it.

#include <cstddef>

#include "tiercel/base/sanitizers.h"

#if TIERCEL_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace tiercel::l1 {

#if TIERCEL_ASAN
inline void asan_poison(void* begin, std::size_t bytes) { ASAN_POISON_MEMORY_REGION(begin, bytes); }
inline void asan_unpoison(void* begin, std::size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(begin, bytes);
}
#else
inline void asan_poison(void* /*begin*/, std::size_t /*bytes*/) {}
inline void asan_unpoison(void* /*begin*/, std::size_t /*bytes*/) {}
#endif

}  // namespace tiercel::l1
