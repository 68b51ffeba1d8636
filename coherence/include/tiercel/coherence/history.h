#pragma once

// What XRANGE and XREVRANGE say of the history, entry by entry: for joining it in a new epoch, and
// for going on after a failover. Pure functions; any thread.
//
//   for each entry of the reply:
//     auto entry = parse_history_entry(id, fields);
//     if (entry) message = serialization::decode_history_message(entry->version, entry->message);
//   (compiled in tests/coherence/history_test.cc)
//
// Whatever cannot be read, by either function, may have invalidated anything: drop L1, as for a
// message that cannot be read (decision 2).

#include <span>
#include <string_view>

#include "tiercel/base/result.h"
#include "tiercel/coherence/version.h"

namespace tiercel::coherence {

struct HistoryEntry {
  Version version = kVersionUnknown;
  std::string_view message{};  // Of the bytes that were given.
};

// `fields`: field, value, field, value, …; others than "m" are passed over. Errors: kCorrupt (an id
// that is not one or does not fit a version, no "m", a field without a value): not written by us.
Result<HistoryEntry> parse_history_entry(std::string_view id,
                                         std::span<const std::string_view> fields);

}  // namespace tiercel::coherence
