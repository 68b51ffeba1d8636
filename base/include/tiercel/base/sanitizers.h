#pragma once

// TIERCEL_ASAN and TIERCEL_TSAN: 1 if the file that asks is compiled for AddressSanitizer or
// ThreadSanitizer, else 0, with g++ and clang. Macros, as what to include may depend on them. Only
// for private headers, sources and tests: users may well compile for another sanitizer than the
// library was compiled for, so no public header may mean something else by it.

#ifdef __has_feature
#define TIERCEL_HAS_FEATURE(feature) __has_feature(feature)
#else
#define TIERCEL_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || TIERCEL_HAS_FEATURE(address_sanitizer)
#define TIERCEL_ASAN 1
#else
#define TIERCEL_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || TIERCEL_HAS_FEATURE(thread_sanitizer)
#define TIERCEL_TSAN 1
#else
#define TIERCEL_TSAN 0
#endif

#undef TIERCEL_HAS_FEATURE
