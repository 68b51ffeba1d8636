#include "support/allocations.h"

#include <cstdlib>
#include <new>

namespace {
thread_local std::uint64_t count = 0;
thread_local bool fails = false;

void* allocate(std::size_t bytes) noexcept {
  ++count;
  if (fails) return nullptr;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
}  // namespace

namespace tiercel::testing {
std::uint64_t allocations() noexcept { return count; }
NoMemory::NoMemory() noexcept { fails = true; }
NoMemory::~NoMemory() { fails = false; }
}  // namespace tiercel::testing

void* operator new(std::size_t bytes) {
  if (void* memory = allocate(bytes)) return memory;
  throw std::bad_alloc{};
}
void* operator new[](std::size_t bytes) { return operator new(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
