#pragma once

// A small world in which Session, FillTable and LeaseCell do their work: one server, one writer
// somewhere, one reader with an L1, and a network that delays. Time is simulated and everything
// comes from one seed, so a run can be repeated exactly.
//
// The server may freeze or restart (a new life: its connections are dead, noticed or not); links
// break; the reader's loop stands still while its threads go on reading L1. Every read that L1
// answers is held against the record of all writes. A write counts as acknowledged the moment the
// server has processed it, which is the earliest it can be.
//
// What is not here: a second server that believes itself master.

#include <cstdint>
#include <string>

#include "tiercel/base/clock.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {

// Bugs that can be built into the surroundings, to prove that the checks find them.
enum class Sabotage : std::uint8_t {
  kNone,
  kLeaseFromPong,   // The lease counts from the arrival of the pong.
  kTokensUnheeded,  // A marked fill is inserted all the same.
  kDropsUnheeded,   // L1 survives the end of an epoch.
  kMarksForgotten,  // A message evicts, but does not mark the tokens.
  kMessagesLost,    // One in fifty, without a trace.
  kClockNotRead,    // A reader goes by whether a lease was granted, not by the time.
};

struct ModelOptions {
  std::uint64_t seed = 1;
  Duration length = std::chrono::seconds{30};
  SessionOptions session;
  Sabotage sabotage = Sabotage::kNone;
};

struct ModelReport {
  int reads = 0;
  int hits = 0;
  int fills = 0;          // Inserted.
  int fills_refused = 0;  // By their token.
  int own_writes = 0;
  int writes = 0;
  int redials = 0;
  int lapses = 0;  // Reads of an entry that only the lease kept from being served.
  std::uint64_t epochs = 0;
  std::size_t tokens_left = 0;
  int too_stale = 0;    // Hits that miss a write acknowledged before t - Δ.
  int went_back = 0;    // Hits with an older version than an earlier hit of the same epoch.
  std::string example;  // The first of either.
};

ModelReport run_model(const ModelOptions& options);

}  // namespace tiercel::coherence
