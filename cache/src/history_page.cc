#include "history_page.h"

#include <string>
#include <utility>

#include "message_change.h"
#include "tiercel/base/bytes.h"
#include "tiercel/coherence/version.h"
#include "tiercel/serialization/message.h"

namespace tiercel {
namespace {

// [id, ["m", MESSAGE]]
coherence::Change parse_entry(const l2::Reply& entry) {
  coherence::Change unknown{.kind = coherence::ChangeKind::kAll};
  if (entry.elements.size() != 2) return unknown;
  const auto version = coherence::parse_stream_id(entry.elements[0].text);
  if (!version) return unknown;
  unknown.version = *version;
  const auto& fields = entry.elements[1].elements;
  if (fields.size() != 2 || fields[0].text != "m") return unknown;
  std::string bytes;
  append_u64_be(bytes, *version);
  bytes += fields[1].text;
  auto received = serialization::decode_message(bytes);
  return received ? to_change(std::move(*received)) : unknown;
}

}  // namespace

std::optional<coherence::HistoryPage> parse_history_page(const l2::Reply& reply,
                                                         std::size_t count) {
  if (!reply.is_array()) return std::nullopt;
  coherence::HistoryPage page{.is_last = reply.elements.size() < count};
  page.entries.reserve(reply.elements.size());
  for (const l2::Reply& entry : reply.elements) page.entries.push_back(parse_entry(entry));
  return page;
}

}  // namespace tiercel
