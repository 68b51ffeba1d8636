#include "support/locks.h"

#include <pthread.h>

namespace {
constinit thread_local std::uint64_t count = 0;
}  // namespace

namespace tiercel::testing {
std::uint64_t locks() noexcept { return count; }
}  // namespace tiercel::testing

extern "C" {
int __real_pthread_mutex_lock(pthread_mutex_t* mutex);
int __real_pthread_mutex_trylock(pthread_mutex_t* mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t* mutex) {
  ++count;
  return __real_pthread_mutex_lock(mutex);
}
int __wrap_pthread_mutex_trylock(pthread_mutex_t* mutex) {
  ++count;
  return __real_pthread_mutex_trylock(mutex);
}
}
