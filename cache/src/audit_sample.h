#pragma once

// AuditSample: a hit on its way from the thread that read to the loop thread, which audits it.

#include <array>
#include <cstdint>
#include <string_view>

#include "ring.h"
#include "tiercel/coherence/audit_judge.h"
#include "tiercel/serialization/limits.h"

namespace tiercel {

struct AuditSample {
  coherence::AuditedHit hit;
  std::uint64_t payload_hash;
  bool is_hashed;
  bool is_negative;
  std::uint8_t slots_count;
  std::array<std::uint16_t, serialization::kTagsPerValueMax> slots;
  NotedKey noted_key;

  [[nodiscard]] std::string_view key() const noexcept { return noted_key.text(); }
};

using AuditRing = Ring<AuditSample, 128>;

}  // namespace tiercel
