#include "tiercel/coherence/history.h"

#include <string>

#include "tiercel/base/bytes.h"

namespace tiercel::coherence {

Result<HistoryEntry> parse_history_entry(std::string_view id,
                                         std::span<const std::string_view> fields) {
  const auto version = parse_stream_id(id);
  if (!version) return corrupt("history: " + version.error().message);
  if (*version == kVersionUnknown) return corrupt("history: an entry of version 0");
  if (fields.size() % 2 != 0) return corrupt("history: a field without a value");
  for (std::size_t i = 0; i < fields.size(); i += 2) {
    if (fields[i] == "m") return HistoryEntry{.version = *version, .message = fields[i + 1]};
  }
  return corrupt("history: entry " + bytes_for_message(id) + " has no field m");
}

}  // namespace tiercel::coherence
