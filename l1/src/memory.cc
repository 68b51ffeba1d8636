#include "memory.h"

#include <malloc.h>

namespace tiercel::l1 {

std::size_t allocation_charge(const void* block) noexcept {
  // The declaration lacks const; the function only looks.
  return malloc_usable_size(const_cast<void*>(block)) + sizeof(std::size_t);
}

}  // namespace tiercel::l1
