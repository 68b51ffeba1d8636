#include "history_page.h"

#include <string_view>
#include <utility>
#include <vector>

#include "message_change.h"
#include "tiercel/coherence/history.h"
#include "tiercel/serialization/message.h"

namespace tiercel {
namespace {

// [id, [field, value, …]]
coherence::Change parse_entry(const l2::Reply& reply) {
  coherence::Change unknown{.kind = coherence::ChangeKind::kAll};
  if (reply.elements.size() != 2) return unknown;
  std::vector<std::string_view> fields;
  for (const l2::Reply& field : reply.elements[1].elements) fields.push_back(field.text);
  const auto entry = coherence::parse_history_entry(reply.elements[0].text, fields);
  if (!entry) return unknown;
  unknown.version = entry->version;
  auto message = serialization::decode_history_message(entry->version, entry->message);
  return message ? to_change(std::move(*message)) : unknown;
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
