#include "fleet/history.h"

#include <algorithm>

#include "support/blocking_redis.h"
#include "tiercel/coherence/names.h"
#include "tiercel/coherence/version.h"
#include "tiercel/serialization/message.h"

namespace tiercel::fleet {
namespace {

constexpr std::size_t kPage = 1000;

// The fields of an entry are "m" and the message, without its version.
std::vector<std::string> keys_of(const testing::RedisReply& fields) {
  if (fields.elements.size() < 2) return {};
  constexpr std::size_t kVersionBytes = 8;
  const auto received =
      serialization::decode_message(std::string(kVersionBytes, '\0') + fields.elements[1].text);
  return received ? received->message.keys : std::vector<std::string>{};
}

}  // namespace

History::History(std::vector<Entry> entries) {
  for (Entry& entry : entries) entries_[entry.version] = std::move(entry.keys);
}

History::History(const std::vector<std::uint64_t>& versions) {
  for (const std::uint64_t version : versions) entries_[version] = {};
}

bool History::contains(std::uint64_t version) const { return entries_.contains(version); }

bool History::contains(std::uint64_t version, std::string_view key) const {
  const auto found = entries_.find(version);
  if (found == entries_.end()) return false;
  return found->second.empty() || std::ranges::find(found->second, key) != found->second.end();
}

Result<History> read_history(const std::string& unix_path, const std::string& name_space) {
  const auto names = coherence::Names::create(name_space);
  if (!names) return names.error();
  auto redis = testing::BlockingRedis::connect_unix(unix_path);
  if (!redis) return redis.error();
  std::vector<History::Entry> entries;
  std::string from = "-";
  for (;;) {
    const auto page =
        redis->command({"XRANGE", names->history_key(), from, "+", "COUNT", std::to_string(kPage)});
    if (!page) return page.error();
    if (page->kind != testing::RedisReply::Kind::kArray) {
      return protocol_error("XRANGE was answered with " + page->to_text());
    }
    for (const auto& entry : page->elements) {
      if (entry.elements.size() < 2) return protocol_error("an entry without an id");
      const auto version = coherence::parse_stream_id(entry.elements.front().text);
      if (!version) return version.error();
      entries.push_back({.version = *version, .keys = keys_of(entry.elements[1])});
    }
    if (page->elements.size() < kPage) return History{std::move(entries)};
    from = "(" + page->elements.back().elements.front().text;
  }
}

}  // namespace tiercel::fleet
