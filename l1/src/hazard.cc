// Invariants:
//   - g_records only grows; `next` of a record is constant once it is published.
//   - A record belongs to one thread from the moment at which `taken` became true until it becomes
//     false, when all its slots are null and depth is 0.
//   - g_completed is the number of a barrier that is complete, the latest such, or 0.

#include "hazard.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <new>

namespace tiercel::l1::hazard {

constinit thread_local ReaderRecord* t_record = nullptr;
constinit std::atomic<bool> g_fences_needed{true};

namespace {

constinit std::atomic<ReaderRecord*> g_records{nullptr};
constinit std::atomic<Epoch> g_begun{0};
constinit std::atomic<Epoch> g_completed{0};

long membarrier(int command) noexcept { return syscall(SYS_membarrier, command, 0, 0); }

// A key with a destructor instead of a thread_local object: it runs again when a later destructor
// of the same thread has used the cache and so registered anew.
struct Setup {
  Setup() noexcept {
    if (pthread_key_create(&key, [](void* value) {
          auto* record = static_cast<ReaderRecord*>(value);
          t_record = nullptr;
          record->taken.store(false, std::memory_order_release);
        }) != 0) {
      std::fputs("tiercel: no pthread key is left for the in-process cache\n", stderr);
      std::abort();
    }
    const bool registered = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
    g_fences_needed.store(!registered, std::memory_order_seq_cst);
  }
  pthread_key_t key{};
};

Setup& setup() noexcept {
  static Setup once;
  return once;
}

ReaderRecord* take_record() noexcept {
  for (auto* record = g_records.load(std::memory_order_acquire); record; record = record->next) {
    if (record->taken.load(std::memory_order_relaxed)) continue;
    if (!record->taken.exchange(true, std::memory_order_acq_rel)) return record;
  }
  auto* record = new (std::nothrow) ReaderRecord;
  if (record == nullptr) {
    std::fputs("tiercel: no memory for a thread's 64 bytes in the in-process cache\n", stderr);
    std::abort();
  }
  auto* head = g_records.load(std::memory_order_acquire);
  do {
    record->next = head;
    record->id = head == nullptr ? 0 : head->id + 1;
  } while (!g_records.compare_exchange_weak(head, record, std::memory_order_acq_rel));
  return record;
}

}  // namespace

ReaderRecord* register_thread() noexcept {
  const Setup& once = setup();
  ReaderRecord* record = take_record();
  pthread_setspecific(once.key, record);
  t_record = record;
  return record;
}

Epoch epoch() noexcept {
  if (g_fences_needed.load(std::memory_order_relaxed)) [[unlikely]] {
    return g_begun.fetch_add(0, std::memory_order_seq_cst);
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);  // What left the table did so before.
  return g_begun.load(std::memory_order_acquire);
}

Epoch completed() noexcept { return g_completed.load(std::memory_order_acquire); }

void barrier() noexcept {
  setup();
  const Epoch number = g_begun.fetch_add(1, std::memory_order_seq_cst) + 1;
  if (!g_fences_needed.load(std::memory_order_relaxed)) {
    if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0) {
      // A child after fork() may have to register again; a kernel that took the registration and
      // now refuses must not go unnoticed: readers rely on it.
      const bool ok = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 &&
                      membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
      if (!ok) {
        std::perror("tiercel: membarrier");
        std::abort();
      }
    }
  }
  auto latest = g_completed.load(std::memory_order_relaxed);
  while (latest < number &&
         !g_completed.compare_exchange_weak(latest, number, std::memory_order_acq_rel)) {
  }
}

bool Announced::is_announced(const void* entry) noexcept {
  for (auto* record = g_records.load(std::memory_order_acquire); record; record = record->next) {
    for (const auto& slot : record->slots) {
      if (slot.load(std::memory_order_seq_cst) == entry) return true;
    }
  }
  return false;
}

Announced::Announced(const void* begin, const void* end) noexcept {
  for (auto* record = g_records.load(std::memory_order_acquire); record; record = record->next) {
    for (const auto& slot : record->slots) {
      const void* entry = slot.load(std::memory_order_seq_cst);
      if (entry < begin || entry >= end) continue;
      const std::uint32_t bit = bit_of(entry);
      bits_[bit / 64] |= std::uint64_t{1} << (bit % 64);
      none_ = false;
    }
  }
}

}  // namespace tiercel::l1::hazard
