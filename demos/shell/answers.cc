#include "shell/answers.h"

#include <cstddef>
#include <utility>

#include "tiercel/base/bytes.h"
#include "tiercel/base/check.h"

namespace tiercel::shell {
namespace {

Json with_op(std::string_view op) {
  Json answer = Json::object();
  if (!op.empty()) answer["op"] = op;
  return answer;
}

void add_error(Json& answer, const Error& error) {
  answer["error"] = to_string(error.code);
  answer["message"] =
      error.endpoint.empty() ? error.message : error.message + " (" + error.endpoint + ")";
}

void add_read(Json& answer, std::string_view key, const ReadResult& result) {
  answer["key"] = escape_bytes(key);
  if (!result) return add_error(answer, result.error());
  const auto& value = *result;
  answer["found"] = value.has_value();
  if (!value) return;
  answer["value"] = escape_bytes(value->bytes());
  answer["tier"] = to_string(value->tier());
  answer["version"] = std::to_string(value->version());
  // Up, because it is a bound.
  answer["age_bound_ms"] = std::chrono::ceil<std::chrono::milliseconds>(value->age_bound()).count();
}

// The structured bindings below name every field, so that a new one cannot be forgotten here: the
// count would not match.
Json l1_stats(const l1::Stats& stats) {
  const auto& [hits, misses, inserts, replaced, evicted_capacity, evicted_expired, evicted_erased,
               evicted_cleared, refused_too_large, refused_overloaded, entries, bytes_charged] =
      stats;
  Json answer = Json::object();
  answer["hits"] = hits;
  answer["misses"] = misses;
  answer["inserts"] = inserts;
  answer["replaced"] = replaced;
  answer["evicted_capacity"] = evicted_capacity;
  answer["evicted_expired"] = evicted_expired;
  answer["evicted_erased"] = evicted_erased;
  answer["evicted_cleared"] = evicted_cleared;
  answer["refused_too_large"] = refused_too_large;
  answer["refused_overloaded"] = refused_overloaded;
  answer["entries"] = entries;
  answer["bytes_charged"] = bytes_charged;
  return answer;
}

Json audit_stats(const AuditStats& stats) {
  const auto& [sampled, dropped, skipped, voided, fresh, stale_within_bound, violations,
               inconclusive, worst_at_least, worst_at_most, staleness] = stats;
  Json answer = Json::object();
  answer["sampled"] = sampled;
  answer["dropped"] = dropped;
  answer["skipped"] = skipped;
  answer["voided"] = voided;
  answer["fresh"] = fresh;
  answer["stale_within_bound"] = stale_within_bound;
  answer["violations"] = violations;
  answer["inconclusive"] = inconclusive;
  answer["worst_at_least_ms"] = to_milliseconds(worst_at_least);
  answer["worst_at_most_ms"] = std::chrono::ceil<std::chrono::milliseconds>(worst_at_most).count();
  answer["staleness"] = staleness;
  return answer;
}

Json l2_stats(const l2::ClientStats& stats) {
  const auto& [commands_submitted, commands_overloaded, replies_late, retries, connects_attempted,
               connects_failed, master_changes, commands_waiting, direct_calls] = stats;
  Json answer = Json::object();
  answer["commands_submitted"] = commands_submitted;
  answer["commands_overloaded"] = commands_overloaded;
  answer["replies_late"] = replies_late;
  answer["retries"] = retries;
  answer["connects_attempted"] = connects_attempted;
  answer["connects_failed"] = connects_failed;
  answer["master_changes"] = master_changes;
  answer["commands_waiting"] = commands_waiting;
  answer["direct_calls"] = direct_calls;
  return answer;
}

}  // namespace

Json error_answer(std::string_view op, const Error& error) {
  Json answer = with_op(op);
  add_error(answer, error);
  return answer;
}

Json read_answer(std::string_view op, std::string_view key, const ReadResult& result) {
  Json answer = with_op(op);
  add_read(answer, key, result);
  return answer;
}

Json mget_answer(std::span<const std::string> keys, std::span<const ReadResult> results) {
  TIERCEL_CHECK(keys.size() == results.size());
  Json each = Json::array();
  for (std::size_t i = 0; i < keys.size(); ++i) {
    Json one = Json::object();
    add_read(one, keys[i], results[i]);
    each.push_back(std::move(one));
  }
  Json answer = with_op("mget");
  answer["results"] = std::move(each);
  return answer;
}

Json write_answer(std::string_view op, std::string_view key, const WriteResult& result) {
  Json answer = with_op(op);
  answer["key"] = escape_bytes(key);
  if (result) {
    answer["ok"] = true;
    answer["version"] = std::to_string(result->version);
  } else {
    add_error(answer, result.error());
  }
  return answer;
}

Json lease_answer(const LeaseInfo& lease) {
  Json answer = with_op("lease");
  answer["held"] = lease.held;
  answer["remaining_ms"] =
      lease.mode == LeaseMode::kLocal ? Json(nullptr) : Json(lease.remaining.count());
  answer["epoch"] = lease.epoch;
  answer["master"] = lease.master;
  answer["mode"] = to_string(lease.mode);
  answer["witness"] = to_string(lease.witness);
  if (!lease.why.empty()) answer["why"] = lease.why;
  return answer;
}

Json stats_answer(const CacheStats& stats) {
  const auto& [l1, l2, reads_l1, reads_l2, reads_loader, reads_absent, reads_failed, reads_joined,
               lease_refusals, reads_stale, loads, loads_failed, loads_not_stored, loads_past_l2,
               l2_breaker, fills, refreshed, fills_dropped, writes_acknowledged, writes_failed,
               writes_unknown, invalidations_queued, invalidations_collapsed, values_corrupt,
               values_foreign, messages, messages_unreadable, locks_held, locks_waiting,
               locks_granted, locks_lost, epochs, epochs_warm, l1_drops, reads_waiting, audit] =
      stats;
  Json answer = with_op("stats");
  answer["l1"] = l1_stats(l1);
  answer["l2"] = l2_stats(l2);
  answer["reads_l1"] = reads_l1;
  answer["reads_l2"] = reads_l2;
  answer["reads_loader"] = reads_loader;
  answer["reads_absent"] = reads_absent;
  answer["reads_failed"] = reads_failed;
  answer["reads_joined"] = reads_joined;
  answer["lease_refusals"] = lease_refusals;
  answer["reads_stale"] = reads_stale;
  answer["loads"] = loads;
  answer["loads_failed"] = loads_failed;
  answer["loads_not_stored"] = loads_not_stored;
  answer["loads_past_l2"] = loads_past_l2;
  answer["l2_breaker"] = to_string(l2_breaker);
  answer["fills"] = fills;
  answer["refreshed"] = refreshed;
  answer["fills_dropped"] = fills_dropped;
  answer["writes_acknowledged"] = writes_acknowledged;
  answer["writes_failed"] = writes_failed;
  answer["writes_unknown"] = writes_unknown;
  answer["invalidations_queued"] = invalidations_queued;
  answer["invalidations_collapsed"] = invalidations_collapsed;
  answer["values_corrupt"] = values_corrupt;
  answer["values_foreign"] = values_foreign;
  answer["messages"] = messages;
  answer["messages_unreadable"] = messages_unreadable;
  answer["locks_held"] = locks_held;
  answer["locks_waiting"] = locks_waiting;
  answer["locks_granted"] = locks_granted;
  answer["locks_lost"] = locks_lost;
  answer["epochs"] = epochs;
  answer["epochs_warm"] = epochs_warm;
  answer["l1_drops"] = l1_drops;
  answer["reads_waiting"] = reads_waiting;
  answer["audit"] = audit_stats(audit);
  return answer;
}

Json sleep_answer(std::chrono::milliseconds pause) {
  Json answer = with_op("sleep");
  answer["ms"] = pause.count();
  answer["ok"] = true;
  return answer;
}

Json quit_answer() {
  Json answer = with_op("quit");
  answer["ok"] = true;
  return answer;
}

std::string to_line(const Json& answer) {
  std::string line =
      answer.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  line += '\n';
  return line;
}

}  // namespace tiercel::shell
