// Stats as Prometheus text: each number stands where the docs say, and the text is well-formed.

#include <prometheus/text_serializer.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include "cache_fixture.h"
#include "families.h"
#include "tiercel/prometheus/collector.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::testing {
namespace {

using Texts = Keyspace<serialization::BytesCodec>;

// What a scraper would make of it.
struct Exposition {
  std::map<std::string, std::string> types;  // By family.
  std::map<std::string, std::string> helps;
  std::map<std::string, double> series;  // By name and labels, as they are written.

  [[nodiscard]] double at(const std::string& name) const {
    const auto found = series.find(name);
    EXPECT_NE(found, series.end()) << name;
    return found == series.end() ? -1.0 : found->second;
  }
};

std::string text_of(const MetricFamilies& families) {
  return ::prometheus::TextSerializer{}.Serialize(families);
}

Exposition parse(const std::string& text) {
  static const std::regex comment{R"(# (HELP|TYPE) ([a-z0-9_]+) (.+))"};
  static const std::regex sample{R"re(([a-z0-9_]+(\{([a-z]+="[^"]*",?)*\})?) (\S+))re"};
  Exposition exposition;
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, comment)) {
      auto& where = match[1] == "TYPE" ? exposition.types : exposition.helps;
      EXPECT_TRUE(where.emplace(match[2], match[3]).second) << "twice: " << line;
    } else if (std::regex_match(line, match, sample)) {
      const std::string number = match[4];
      const double value = number == "Nan" ? std::nan("") : std::stod(number);
      EXPECT_TRUE(exposition.series.emplace(match[1], value).second) << "twice: " << line;
    } else {
      ADD_FAILURE() << "no line of the text format: " << line;
    }
  }
  return exposition;
}

// All different, so that none can stand in for another.
CacheSample numbered_cache() {
  CacheSample sample{.cache = "game", .stats = {}, .lease = {}};
  CacheStats& s = sample.stats;
  std::uint64_t next = 100;
  for (std::uint64_t* field : {&s.reads_l1,
                               &s.reads_l2,
                               &s.reads_loader,
                               &s.reads_absent,
                               &s.reads_failed,
                               &s.reads_joined,
                               &s.lease_refusals,
                               &s.reads_stale,
                               &s.loads,
                               &s.loads_failed,
                               &s.loads_not_stored,
                               &s.loads_past_l2,
                               &s.fills,
                               &s.refreshed,
                               &s.fills_dropped,
                               &s.writes_acknowledged,
                               &s.writes_failed,
                               &s.writes_unknown,
                               &s.invalidations_collapsed,
                               &s.values_corrupt,
                               &s.values_foreign,
                               &s.messages,
                               &s.messages_unreadable,
                               &s.epochs,
                               &s.epochs_warm,
                               &s.l1_drops,
                               &s.l1.hits,
                               &s.l1.misses,
                               &s.l1.inserts,
                               &s.l1.replaced,
                               &s.l1.evicted_capacity,
                               &s.l1.evicted_expired,
                               &s.l1.evicted_erased,
                               &s.l1.evicted_cleared,
                               &s.l1.refused_too_large,
                               &s.l1.refused_overloaded,
                               &s.l1.entries,
                               &s.l1.bytes_charged,
                               &s.l2.commands_submitted,
                               &s.l2.commands_overloaded,
                               &s.l2.replies_late,
                               &s.l2.retries,
                               &s.l2.connects_attempted,
                               &s.l2.connects_failed,
                               &s.l2.master_changes,
                               &s.l2.direct_calls,
                               &s.audit.sampled,
                               &s.audit.dropped,
                               &s.audit.skipped,
                               &s.audit.voided,
                               &s.audit.fresh,
                               &s.audit.stale_within_bound,
                               &s.audit.violations,
                               &s.audit.inconclusive}) {
    *field = next++;
  }
  s.l2_breaker = BreakerState::kOpen;
  s.locks_held = next++;
  s.locks_waiting = next++;
  s.locks_granted = next++;
  s.locks_lost = next++;
  s.invalidations_queued = next++;
  s.reads_waiting = next++;
  s.l2.commands_waiting = next++;
  s.audit.worst_at_least = std::chrono::seconds{next++};
  s.audit.worst_at_most = std::chrono::seconds{next++};
  sample.lease.held = true;
  sample.lease.remaining = 250ms;
  sample.lease.witness = WitnessMode::kSentinels;
  return sample;
}

TEST(PrometheusFamilies, EachNumberOfACacheStandsInItsSeries) {
  CacheSample sample = numbered_cache();
  sample.stats.audit.staleness.fill(2);
  const Exposition text = parse(text_of(families_of(std::span<const CacheSample>{&sample, 1})));
  const auto value = [&](std::string name, const std::string& label = "") {
    return text.at("tiercel_" + name + "{cache=\"game\"" + (label.empty() ? "" : "," + label) +
                   "}");
  };
  const CacheStats& s = sample.stats;
  const std::vector<std::pair<double, std::uint64_t>> expected{
      {value("reads_total", "answer=\"l1\""), s.reads_l1},
      {value("reads_total", "answer=\"l2\""), s.reads_l2},
      {value("reads_total", "answer=\"loader\""), s.reads_loader},
      {value("reads_total", "answer=\"absent\""), s.reads_absent},
      {value("reads_total", "answer=\"failed\""), s.reads_failed},
      {value("reads_joined_total"), s.reads_joined},
      {value("reads_stale_total"), s.reads_stale},
      {value("reads_waiting"), s.reads_waiting},
      {value("lease_refusals_total"), s.lease_refusals},
      {value("loads_total"), s.loads},
      {value("loads_failed_total"), s.loads_failed},
      {value("loads_not_stored_total"), s.loads_not_stored},
      {value("loads_past_l2_total"), s.loads_past_l2},
      {value("l2_breaker_state", "state=\"closed\""), 0},
      {value("l2_breaker_state", "state=\"open\""), 1},
      {value("l2_breaker_state", "state=\"half-open\""), 0},
      {value("fills_total"), s.fills},
      {value("fills_dropped_total"), s.fills_dropped},
      {value("refreshed_total"), s.refreshed},
      {value("writes_total", "outcome=\"acknowledged\""), s.writes_acknowledged},
      {value("writes_total", "outcome=\"failed\""), s.writes_failed},
      {value("writes_total", "outcome=\"unknown\""), s.writes_unknown},
      {value("invalidations_queued"), s.invalidations_queued},
      {value("invalidations_collapsed_total"), s.invalidations_collapsed},
      {value("values_corrupt_total"), s.values_corrupt},
      {value("values_foreign_total"), s.values_foreign},
      {value("messages_total"), s.messages},
      {value("messages_unreadable_total"), s.messages_unreadable},
      {value("epochs_total"), s.epochs},
      {value("epochs_warm_total"), s.epochs_warm},
      {value("l1_drops_total"), s.l1_drops},
      {value("l1_hits_total"), s.l1.hits},
      {value("l1_misses_total"), s.l1.misses},
      {value("l1_inserts_total"), s.l1.inserts},
      {value("l1_removals_total", "cause=\"replaced\""), s.l1.replaced},
      {value("l1_removals_total", "cause=\"capacity\""), s.l1.evicted_capacity},
      {value("l1_removals_total", "cause=\"expired\""), s.l1.evicted_expired},
      {value("l1_removals_total", "cause=\"erased\""), s.l1.evicted_erased},
      {value("l1_removals_total", "cause=\"cleared\""), s.l1.evicted_cleared},
      {value("l1_refused_total", "cause=\"too_large\""), s.l1.refused_too_large},
      {value("l1_refused_total", "cause=\"overloaded\""), s.l1.refused_overloaded},
      {value("l1_entries"), s.l1.entries},
      {value("l1_bytes"), s.l1.bytes_charged},
      {value("l2_commands_total"), s.l2.commands_submitted},
      {value("l2_commands_overloaded_total"), s.l2.commands_overloaded},
      {value("l2_commands_waiting"), s.l2.commands_waiting},
      {value("l2_direct_calls_total"), s.l2.direct_calls},
      {value("l2_replies_late_total"), s.l2.replies_late},
      {value("l2_retries_total"), s.l2.retries},
      {value("l2_connects_total"), s.l2.connects_attempted},
      {value("l2_connects_failed_total"), s.l2.connects_failed},
      {value("l2_master_changes_total"), s.l2.master_changes},
      {value("locks_held"), s.locks_held},
      {value("locks_waiting"), s.locks_waiting},
      {value("locks_granted_total"), s.locks_granted},
      {value("locks_lost_total"), s.locks_lost},
      {value("audit_sampled_total"), s.audit.sampled},
      {value("audit_unsampled_total", "cause=\"dropped\""), s.audit.dropped},
      {value("audit_unsampled_total", "cause=\"skipped\""), s.audit.skipped},
      {value("audit_verdicts_total", "verdict=\"voided\""), s.audit.voided},
      {value("audit_verdicts_total", "verdict=\"fresh\""), s.audit.fresh},
      {value("audit_verdicts_total", "verdict=\"stale_within_bound\""), s.audit.stale_within_bound},
      {value("audit_verdicts_total", "verdict=\"violation\""), s.audit.violations},
      {value("audit_verdicts_total", "verdict=\"inconclusive\""), s.audit.inconclusive},
      {value("lease_held"), 1},
      {value("lease_witness", "witness=\"none\""), 0},
      {value("lease_witness", "witness=\"sentinels\""), 1},
      {value("lease_witness", "witness=\"replicas\""), 0},
  };
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(expected[i].first, static_cast<double>(expected[i].second)) << "line " << i;
  }
  EXPECT_EQ(value("lease_remaining_seconds"), 0.25);
  EXPECT_EQ(value("audit_worst_staleness_seconds", "bound=\"at_least\""),
            std::chrono::duration<double>{s.audit.worst_at_least}.count());
  EXPECT_EQ(value("audit_worst_staleness_seconds", "bound=\"at_most\""),
            std::chrono::duration<double>{s.audit.worst_at_most}.count());
  EXPECT_EQ(value("audit_staleness_seconds_bucket", "le=\"0.001\""), 2);
  EXPECT_EQ(value("audit_staleness_seconds_bucket", "le=\"65.536\""), 34);
  EXPECT_EQ(value("audit_staleness_seconds_bucket", "le=\"+Inf\""), 36);
  EXPECT_EQ(value("audit_staleness_seconds_count"), 36);
  EXPECT_TRUE(std::isnan(value("audit_staleness_seconds_sum"))) << "the cache keeps none";
  // What stands above, three gauges of it in seconds, the histogram: nothing else.
  EXPECT_EQ(text.series.size(), expected.size() + 3 + AuditStats::kBucketsMs.size() + 3);
}

TEST(PrometheusFamilies, EachNumberOfAKeyspaceStandsInItsSeries) {
  KeyspaceSample sample{.cache = "game",
                        .keyspace = "player",
                        .stats = {.hits_l1 = 1,
                                  .absent = 2,
                                  .misses = 3,
                                  .hits_l2 = 4,
                                  .joined = 5,
                                  .waits = 6,
                                  .loads = 7,
                                  .loads_failed = 8,
                                  .loads_refused_bulkhead = 9,
                                  .loads_refused_breaker = 10,
                                  .refreshes = 11,
                                  .stale_served = 12,
                                  .defaults_served = 13,
                                  .codec_mismatches = 14,
                                  .breaker = BreakerState::kHalfOpen,
                                  .breaker_openings = 15,
                                  .guard = {.state = GuardState::kAnswering,
                                            .refused = 16,
                                            .keys = 17,
                                            .bytes = 18,
                                            .failures = 19}}};
  sample.stats.load_times.counts.fill(3);
  sample.stats.load_times.sum = 1500ms;
  const Exposition text = parse(text_of(families_of(std::span<const KeyspaceSample>{&sample, 1})));
  const auto value = [&](const std::string& name, const std::string& label = "") {
    return text.at("tiercel_keyspace_" + name + "{cache=\"game\",keyspace=\"player\"" +
                   (label.empty() ? "" : "," + label) + "}");
  };
  EXPECT_EQ(value("hits_total", "tier=\"l1\""), 1);
  EXPECT_EQ(value("absent_total"), 2);
  EXPECT_EQ(value("misses_total"), 3);
  EXPECT_EQ(value("hits_total", "tier=\"l2\""), 4);
  EXPECT_EQ(value("joined_total"), 5);
  EXPECT_EQ(value("waits_total"), 6);
  EXPECT_EQ(value("loads_total"), 7);
  EXPECT_EQ(value("loads_failed_total"), 8);
  EXPECT_EQ(value("loads_refused_total", "by=\"bulkhead\""), 9);
  EXPECT_EQ(value("loads_refused_total", "by=\"breaker\""), 10);
  EXPECT_EQ(value("refreshes_total"), 11);
  EXPECT_EQ(value("stale_served_total"), 12);
  EXPECT_EQ(value("defaults_served_total"), 13);
  EXPECT_EQ(value("codec_mismatches_total"), 14);
  EXPECT_EQ(value("breaker_openings_total"), 15);
  EXPECT_EQ(value("guard_answers"), 1);
  EXPECT_EQ(value("guard_refused_total"), 16);
  EXPECT_EQ(value("guard_keys"), 17);
  EXPECT_EQ(value("guard_bytes"), 18);
  EXPECT_EQ(value("guard_failures_total"), 19);
  EXPECT_EQ(value("breaker_state", "state=\"closed\""), 0);
  EXPECT_EQ(value("breaker_state", "state=\"open\""), 0);
  EXPECT_EQ(value("breaker_state", "state=\"half-open\""), 1);
  EXPECT_EQ(value("load_duration_seconds_bucket", "le=\"0.0001\""), 3);
  EXPECT_EQ(value("load_duration_seconds_bucket", "le=\"30\""), 51);
  EXPECT_EQ(value("load_duration_seconds_bucket", "le=\"+Inf\""), 54);
  EXPECT_EQ(value("load_duration_seconds_count"), 54);
  EXPECT_EQ(value("load_duration_seconds_sum"), 1.5);
  EXPECT_EQ(text.series.size(), 23 + LoadTimes::kBuckets + 2);
}

// The conventions of https://prometheus.io/docs/practices/naming/, and the docs have each name.
TEST(PrometheusFamilies, NamesFollowTheConventionsAndAreDocumented) {
  const CacheSample cache = numbered_cache();
  const KeyspaceSample keyspace{.cache = "game", .keyspace = "player", .stats = {}};
  MetricFamilies families = families_of(std::span<const CacheSample>{&cache, 1});
  for (auto& family : families_of(std::span<const KeyspaceSample>{&keyspace, 1})) {
    families.push_back(std::move(family));
  }
  const Exposition text = parse(text_of(families));
  std::ifstream file{TIERCEL_METRICS_DOC};
  std::stringstream docs;
  docs << file.rdbuf();
  EXPECT_EQ(text.types.size(), text.helps.size());
  for (const auto& [name, type] : text.types) {
    EXPECT_TRUE(name.starts_with("tiercel_")) << name;
    EXPECT_EQ(name.ends_with("_total"), type == "counter") << name;
    EXPECT_EQ(name.ends_with("_seconds"), type == "histogram" ||
                                              name.find("_remaining") != name.npos ||
                                              name.find("_worst") != name.npos)
        << name;
    EXPECT_NE(docs.str().find("`" + name), std::string::npos)
        << name << " is not in docs/metrics.md";
  }
  for (const auto& [name, help] : text.helps) EXPECT_TRUE(help.ends_with(".")) << name;
}

TEST(PrometheusCollector, SaysWhatTheStatsSay) {
  const auto cache = open_cache({});
  auto opened = Texts::open(*cache, {.name = "name", .loader = [](std::string_view, const auto&) {
                                       return Texts::Loaded{Texts::Load{std::string{"Ann"}}};
                                     }});
  ASSERT_TRUE(opened);
  const Texts& names = *opened;
  PrometheusCollector collector;
  ASSERT_TRUE(collector.add("a \"quoted\" one", *cache));
  ASSERT_TRUE(collector.add("game", *cache));
  ASSERT_TRUE(collector.add("game", names));
  EXPECT_TRUE(names.get(7) && names.get(7) && names.try_get(7));
  ASSERT_TRUE(cache->set("k", "v"));

  collector.remove("a \"quoted\" one");
  const Exposition text = parse(text_of(collector.Collect()));
  const CacheStats stats = cache->stats();
  EXPECT_EQ(text.at(R"(tiercel_reads_total{cache="game",answer="l1"})"), 2);
  EXPECT_EQ(text.at(R"(tiercel_l1_bytes{cache="game"})"),
            static_cast<double>(stats.l1.bytes_charged));
  EXPECT_EQ(text.at(R"(tiercel_writes_total{cache="game",outcome="acknowledged"})"), 1);
  EXPECT_EQ(text.at(R"(tiercel_lease_remaining_seconds{cache="game"})"),
            std::numeric_limits<double>::infinity());
  EXPECT_EQ(text.at(R"(tiercel_keyspace_hits_total{cache="game",keyspace="name",tier="l1"})"), 2);
  EXPECT_EQ(text.at(R"(tiercel_keyspace_loads_total{cache="game",keyspace="name"})"), 1);
  EXPECT_EQ(
      text.at(R"(tiercel_keyspace_load_duration_seconds_count{cache="game",keyspace="name"})"), 1);
}

TEST(PrometheusCollector, ANameStandsForOneCacheUntilItIsRemoved) {
  const auto cache = open_cache({});
  const auto names = Texts::open(*cache, {.name = "name"});
  PrometheusCollector collector;
  EXPECT_TRUE(parse(text_of(collector.Collect())).series.empty());
  ASSERT_TRUE(collector.add("game", *cache));
  ASSERT_TRUE(collector.add("game", *names));
  EXPECT_EQ(collector.add("game", *cache).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(collector.add("game", *names).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(collector.add("", *cache).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(collector.add("shop", *names)) << "the same keyspace elsewhere";
  collector.remove("game");
  const Exposition text = parse(text_of(collector.Collect()));
  EXPECT_EQ(text.series.size(), 23 + LoadTimes::kBuckets + 2) << "the one of the shop";
  EXPECT_TRUE(collector.add("game", *cache));
}

// For the sanitizers.
TEST(PrometheusCollector, CollectsWhileOthersComeAndGo) {
  PrometheusCollector collector;
  const auto game = open_cache({});
  ASSERT_TRUE(collector.add("game", *game));
  std::thread other{[&] {
    for (int i = 0; i < 20; ++i) {
      const auto passing = open_cache({.l1_capacity_bytes_max = 1 << 20, .l1_stripes = 1});
      const auto names = Texts::open(*passing, {.name = "name"});
      EXPECT_TRUE(collector.add("passing", *passing));
      EXPECT_TRUE(collector.add("passing", *names));
      EXPECT_TRUE(names->set(i, "v"));
      collector.remove("passing");
    }
  }};
  for (int i = 0; i < 50; ++i) EXPECT_FALSE(collector.Collect().empty());
  other.join();
}

}  // namespace
}  // namespace tiercel::testing
