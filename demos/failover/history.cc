#include "failover/history.h"

#include <algorithm>

#include "failover/board.h"
#include "support/blocking_redis.h"
#include "tiercel/coherence/names.h"
#include "tiercel/coherence/version.h"

namespace tiercel::failover {
namespace {

constexpr std::size_t kPage = 1000;

}  // namespace

History::History(std::vector<std::uint64_t> versions) : versions_(std::move(versions)) {
  std::ranges::sort(versions_);
}

bool History::contains(std::uint64_t version) const {
  return std::ranges::binary_search(versions_, version);
}

Result<History> read_history(const std::string& unix_path) {
  const auto names = coherence::Names::create(kNamespace);
  if (!names) return names.error();
  auto redis = testing::BlockingRedis::connect_unix(unix_path);
  if (!redis) return redis.error();
  std::vector<std::uint64_t> versions;
  std::string from = "-";
  for (;;) {
    const auto page =
        redis->command({"XRANGE", names->history_key(), from, "+", "COUNT", std::to_string(kPage)});
    if (!page) return page.error();
    if (page->kind != testing::RedisReply::Kind::kArray) {
      return protocol_error("XRANGE was answered with " + page->to_text());
    }
    for (const auto& entry : page->elements) {
      if (entry.elements.empty()) return protocol_error("an entry without an id");
      const auto version = coherence::parse_stream_id(entry.elements.front().text);
      if (!version) return version.error();
      versions.push_back(*version);
    }
    if (page->elements.size() < kPage) return History{std::move(versions)};
    from = "(" + page->elements.back().elements.front().text;
  }
}

}  // namespace tiercel::failover
