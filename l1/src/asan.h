#pragma once

// AddressSanitizer knows nothing of memory that is managed here; so the arena tells it.

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define TIERCEL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TIERCEL_ASAN 1
#endif
#endif
#ifdef TIERCEL_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace tiercel::l1 {

#ifdef TIERCEL_ASAN
inline void asan_poison(void* begin, std::size_t bytes) { ASAN_POISON_MEMORY_REGION(begin, bytes); }
inline void asan_unpoison(void* begin, std::size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(begin, bytes);
}
#else
inline void asan_poison(void* /*begin*/, std::size_t /*bytes*/) {}
inline void asan_unpoison(void* /*begin*/, std::size_t /*bytes*/) {}
#endif

}  // namespace tiercel::l1
