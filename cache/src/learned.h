#pragma once

// Learned: what the last answers of Redis tell of the next, for reads of one kind. Any thread.

#include "found_bytes.h"
#include "luck.h"

namespace tiercel {

struct Learned {
  // Of reads with a loader: that Redis has what L1 does not. Of those without: that a value says
  // itself when it ends.
  Luck luck;
  FoundBytes found_bytes;
};

}  // namespace tiercel
