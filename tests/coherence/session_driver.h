#pragma once

// Drives a Session by hand: every event at a time that the test sets. What it asks is answered one
// question at a time by the test, or, by settle() and run_for(), as `world` says.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tiercel/coherence/session.h"
#include "witness_driver.h"

namespace tiercel::coherence {

using Kind = Action::Kind;
using Kinds = std::vector<Kind>;
using Keys = std::vector<std::string>;

inline constexpr Duration kLease = std::chrono::milliseconds{500};
inline constexpr Duration kRound = kLease / 5;
inline constexpr Duration kStreamTimeout = std::chrono::seconds{2};

inline const Server kServer{
    .name = "127.0.0.1:7001", .run_id = "run-one-xyz", .replication_id = "X"};
inline const Server kOther{
    .name = "127.0.0.1:7002", .run_id = "run-two-xyz", .replication_id = "Y"};

inline Change change_of(Keys keys, Version version) {
  return {.kind = ChangeKind::kKeys,
          .version = version,
          .origin = 7,
          .nonce = version * 31,
          .keys = std::move(keys)};
}

inline bool is_question(Kind kind) {
  return kind == Kind::kSendPing || kind == Kind::kAskMaster || kind == Kind::kAskCandidate ||
         kind == Kind::kAskSentinels || kind == Kind::kAskHistory;
}

inline Kinds kinds(const Actions& actions) {
  Kinds all;
  for (const auto& action : actions) all.push_back(action.kind);
  return all;
}

// What it does, without what it asks.
inline Kinds deeds(const Actions& actions) {
  Kinds all;
  for (const auto& action : actions) {
    if (!is_question(action.kind)) all.push_back(action.kind);
  }
  return all;
}

inline bool has(const Actions& actions, Kind kind) {
  return std::any_of(actions.begin(), actions.end(),
                     [kind](const Action& action) { return action.kind == kind; });
}

inline const Action& first(const Actions& actions, Kind kind) {
  static const Action none{};
  for (const auto& action : actions) {
    if (action.kind == kind) return action;
  }
  ADD_FAILURE() << "no such action";
  return none;
}

// The keys that are evicted, each with "@VERSION"; "!" for a hard eviction.
inline Keys evicted(const Actions& actions) {
  Keys keys;
  for (const auto& action : actions) {
    if (action.kind != Kind::kEvict) continue;
    const bool is_hard = action.version == kVersionUnknown;
    keys.push_back(action.key + (is_hard ? "!" : "@" + std::to_string(action.version)));
  }
  return keys;
}

struct Asked {
  Action action{};
  TimePoint at{};
};

// What is true, for the answers that settle() gives. By default a lone master.
struct World {
  ReplicationState master = master_of("X");
  std::map<std::string, ReplicationState> candidates{};  // Others are silent.
  SentinelRound sentinels = calm({});
  std::vector<Change> history{};
  // What is never answered.
  std::set<Kind> mute{};
  std::set<std::string> mute_candidates{};
};

class Driver {
 public:
  explicit Driver(SessionOptions options = {.lease = kLease, .stream_timeout = kStreamTimeout})
      : session{options} {}

  Actions stream_up(const Server& server = kServer) {
    stale_ = std::exchange(open_, {});
    return run([&](Actions& out) { session.stream_up(server, now, out); });
  }
  Actions stream_down() {
    return run([&](Actions& out) { session.stream_down(now, out); });
  }
  Actions data_up(const Server& server = kServer) {
    forget(Kind::kAskMaster);
    forget(Kind::kAskHistory);
    return run([&](Actions& out) { session.data_up(server, now, out); });
  }
  Actions data_down() {
    return run([&](Actions& out) { session.data_down(now, out); });
  }
  Actions ping_refused() {
    forget(Kind::kSendPing);
    return run([&](Actions& out) { session.ping_refused(now, out); });
  }
  Actions message(Change change) {
    return run([&](Actions& out) { session.message(std::move(change), now, out); });
  }
  Actions foreign_change(Keys keys) {
    return run([&](Actions& out) { session.foreign_change(std::move(keys), now, out); });
  }
  Actions foreign_flush() {
    return run([&](Actions& out) { session.foreign_flush(now, out); });
  }
  Actions replay_waits(bool waits) {
    return run([&](Actions& out) { session.replay_waits(waits, now, out); });
  }
  Actions tick() {
    return run([&](Actions& out) { session.tick(now, out); });
  }
  // To the time of the next tick, which is then given.
  Actions tick_when_due() {
    const auto due = session.next_tick();
    EXPECT_TRUE(due.has_value());
    now = std::max(now, due.value_or(now));
    return tick();
  }

  // The open question of this kind (to this candidate); nullopt where there is none.
  [[nodiscard]] std::optional<Asked> open(Kind kind, std::string_view address = {}) const {
    for (const Asked& asked : open_) {
      if (asked.action.kind == kind && asked.action.address == address) return asked;
    }
    return std::nullopt;
  }
  // It will not be answered.
  void forget(Kind kind, std::string_view address = {}) {
    std::erase_if(open_, [&](const Asked& asked) {
      return asked.action.kind == kind && asked.action.address == address;
    });
  }

  // Answers, each to the open question of its kind, which must be there.
  Actions pong() { return pong(close(Kind::kSendPing)); }
  Actions pong(std::uint64_t token) {
    return run([&](Actions& out) { session.pong(token, now, out); });
  }
  Actions data_said(const ReplicationState& said) {
    return data_said(close(Kind::kAskMaster), said);
  }
  Actions data_said(std::uint64_t token, const ReplicationState& said) {
    return run([&](Actions& out) { session.data_said(token, said, now, out); });
  }
  Actions data_silent() {
    const auto token = close(Kind::kAskMaster);
    return run([&](Actions& out) { session.data_silent(token, now, out); });
  }
  Actions candidate_said(const std::string& address, const ReplicationState& said) {
    return candidate_said(address, close(Kind::kAskCandidate, address), said);
  }
  Actions candidate_said(const std::string& address, std::uint64_t token,
                         const ReplicationState& said) {
    return run([&](Actions& out) { session.candidate_said(address, token, said, now, out); });
  }
  Actions candidate_silent(const std::string& address) {
    return candidate_silent(address, close(Kind::kAskCandidate, address));
  }
  Actions candidate_silent(const std::string& address, std::uint64_t token) {
    return run([&](Actions& out) { session.candidate_silent(address, token, now, out); });
  }
  Actions sentinels_said(const SentinelRound& round) {
    return sentinels_said(close(Kind::kAskSentinels), round);
  }
  Actions sentinels_said(std::uint64_t token, const SentinelRound& round) {
    return run([&](Actions& out) { session.sentinels_said(token, round, now, out); });
  }
  Actions history_said(HistoryPage page) {
    return history_said(close(Kind::kAskHistory), std::move(page));
  }
  Actions history_said(std::uint64_t token, HistoryPage page) {
    return run([&](Actions& out) { session.history_said(token, std::move(page), now, out); });
  }
  Actions history_silent() {
    const auto token = close(Kind::kAskHistory);
    return run([&](Actions& out) { session.history_silent(token, now, out); });
  }

  // Answers what is open, and what is asked thereupon, until nothing is or it is muted. Returns all
  // actions that came of it.
  Actions settle() {
    Actions all;
    for (int guard = 0; guard < 1000; ++guard) {
      const auto next = std::find_if(open_.begin(), open_.end(), [&](const Asked& asked) {
        return !world.mute.contains(asked.action.kind) &&
               !world.mute_candidates.contains(asked.action.address);
      });
      if (next == open_.end()) return all;
      const Actions more = answer(next->action);
      all.insert(all.end(), more.begin(), more.end());
    }
    ADD_FAILURE() << "it never stops asking";
    return all;
  }
  // Ticks when they are due, each settled; returns all actions.
  Actions run_for(Duration duration) {
    Actions all = settle();
    const TimePoint end = now + duration;
    while (session.next_tick().value_or(TimePoint::max()) <= end) {
      for (const auto& action : tick_when_due()) all.push_back(action);
      for (const auto& action : settle()) all.push_back(action);
    }
    now = end;
    return all;
  }

  // A round, the master's word among it: what was applied before is of this branch for certain.
  void confirm() {
    settle();
    EXPECT_TRUE(has(tick_when_due(), Kind::kAskMaster));
    settle();
  }
  // From where on the history is asked now.
  [[nodiscard]] Version asked_from() const {
    const auto asked = open(Kind::kAskHistory);
    EXPECT_TRUE(asked.has_value()) << "the history is not asked";
    return asked ? asked->action.version : ~Version{0};
  }

  // Both links up on kServer, nothing answered.
  void connect() {
    data_up();
    stream_up();
  }
  // And all of it answered a millisecond later.
  void connect_and_lease() {
    connect();
    now += std::chrono::milliseconds{1};
    settle();
    EXPECT_TRUE(leased()) << session.why_no_lease();
  }
  // S lost and up again, nothing answered.
  Actions reconnect(const Server& server = kServer) {
    stream_down();
    if (!server.same_as(kServer)) data_up(server);
    return stream_up(server);
  }

  // A message that the history holds, too.
  Actions write(Change change) {
    world.history.push_back(change);
    return message(std::move(change));
  }

  [[nodiscard]] bool leased() const { return now < session.lease_until(); }
  // Tokens that were open when S came up anew.
  [[nodiscard]] const std::vector<Asked>& stale() const { return stale_; }

  Session session;
  World world;
  TimePoint now{std::chrono::seconds{1000}};
  TimePoint pinged_at{};

 private:
  std::uint64_t close(Kind kind, std::string_view address = {}) {
    const auto asked = open(kind, address);
    EXPECT_TRUE(asked.has_value()) << "nothing of that kind was asked";
    if (!asked) return 0;
    forget(kind, address);
    return asked->action.token;
  }

  Actions answer(const Action& question) {
    switch (question.kind) {
      case Kind::kSendPing: return pong();
      case Kind::kAskMaster: return data_said(world.master);
      case Kind::kAskSentinels: return sentinels_said(world.sentinels);
      case Kind::kAskHistory: return history_said(page(question));
      default: break;
    }
    const std::string address = question.address;
    const auto found = world.candidates.find(address);
    if (found == world.candidates.end()) return candidate_silent(address);
    return candidate_said(address, found->second);
  }

  [[nodiscard]] HistoryPage page(const Action& question) const {
    HistoryPage page;
    if (question.version == kVersionUnknown) {
      if (!world.history.empty()) page.entries.push_back(world.history.back());
      return page;
    }
    for (const Change& entry : world.history) {
      if (entry.version < question.version) continue;
      page.is_last = page.entries.size() < question.count;
      if (!page.is_last) break;
      page.entries.push_back(entry);
    }
    return page;
  }

  template <typename F>
  Actions run(F&& event) {
    Actions actions;
    event(actions);
    for (const auto& action : actions) {
      if (!is_question(action.kind)) continue;
      EXPECT_GT(action.token, last_token_) << "a token was used twice";
      last_token_ = action.token;
      EXPECT_FALSE(open(action.kind, action.address).has_value())
          << "one question of each kind at a time";
      forget(action.kind, action.address);
      open_.push_back({action, now});
      if (action.kind == Kind::kSendPing) pinged_at = now;
    }
    return actions;
  }

  std::vector<Asked> open_;
  std::vector<Asked> stale_;
  std::uint64_t last_token_ = 0;
};

// Leased, and confirmed by the master at the message 10 of the key "k", which the history holds.
inline Driver at_ten() {
  Driver driver;
  driver.connect_and_lease();
  driver.write(change_of({"k"}, 10));
  driver.confirm();
  return driver;
}

}  // namespace tiercel::coherence
