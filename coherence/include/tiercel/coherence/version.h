#pragma once

// Version: the id of a write's entry in the history stream, "MILLISECONDS-SEQUENCE", packed in 64
// bits: 44 bits of milliseconds (good for 557 years after 1970) over 20 bits of sequence. Redis
// gives the ids out in strictly rising order, so of two versions of one history the larger is the
// later write. Versions of different epochs (coherence/session.h) must not be compared: a lost
// branch can reuse an id.
//
// 0 means unknown: a value that no writer of ours stored.

#include <cstdint>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"

namespace tiercel::coherence {

using Version = std::uint64_t;

inline constexpr Version kVersionUnknown = 0;
inline constexpr int kVersionSequenceBits = 20;

// "1700000000000-5", as XADD and XRANGE spell it.
[[nodiscard]] std::string to_stream_id(Version version);

// Errors: kInvalidArgument where it is not an id, or does not fit (the write script never makes
// such a one).
Result<Version> parse_stream_id(std::string_view id);

}  // namespace tiercel::coherence
