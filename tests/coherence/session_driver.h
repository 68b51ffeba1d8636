#pragma once

// Drives a Session by hand: every event at a time that the test sets, with nothing but the actions
// that come of it to look at.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tiercel/coherence/session.h"

namespace tiercel::coherence {

using Kind = Action::Kind;
using Kinds = std::vector<Kind>;

inline constexpr Duration kLease = std::chrono::milliseconds{500};
inline constexpr Duration kPingEvery = kLease / 5;
inline constexpr Duration kStreamTimeout = std::chrono::seconds{2};

inline const Server kServer{
    .name = "127.0.0.1:7001", .run_id = "run-one-xyz", .replication_id = "rep-1"};
inline const Server kOther{
    .name = "127.0.0.1:7002", .run_id = "run-two-xyz", .replication_id = "rep-2"};

inline Change change_of(std::vector<std::string> keys, Version version) {
  return {.kind = ChangeKind::kKeys, .version = version, .keys = std::move(keys)};
}

// Feeds a session by hand-driven time. Each event returns the actions that came of it.
class Driver {
 public:
  explicit Driver(SessionOptions options = {.lease = kLease, .stream_timeout = kStreamTimeout})
      : session{options} {}

  Actions stream_up(const Server& server = kServer) {
    return run([&](Actions& out) { session.stream_up(server, now, out); });
  }
  Actions stream_down() {
    return run([&](Actions& out) { session.stream_down(now, out); });
  }
  Actions data_up(const Server& server = kServer) {
    return run([&](Actions& out) { session.data_up(server, now, out); });
  }
  Actions data_down() {
    return run([&](Actions& out) { session.data_down(now, out); });
  }
  Actions pong(std::uint64_t answered) {
    return run([&](Actions& out) { session.pong(answered, now, out); });
  }
  Actions ping_refused() {
    return run([&](Actions& out) { session.ping_refused(now, out); });
  }
  Actions message(Change change) {
    return run([&](Actions& out) { session.message(std::move(change), now, out); });
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

  // Both links up on kServer at `now`; returns the token of the first ping.
  std::uint64_t connect() {
    data_up();
    stream_up();
    return token;
  }
  // As connect, and the first ping answered after `trip`.
  void connect_and_lease(Duration trip = std::chrono::milliseconds{1}) {
    connect();
    now += trip;
    pong(token);
  }

  [[nodiscard]] bool leased() const { return now < session.lease_until(); }

  Session session;
  TimePoint now{std::chrono::seconds{1000}};
  std::uint64_t token = 0;  // Of the newest ping.
  TimePoint pinged_at;

 private:
  template <typename F>
  Actions run(F&& event) {
    Actions actions;
    event(actions);
    for (const auto& action : actions) {
      if (action.kind != Kind::kSendPing) continue;
      EXPECT_GT(action.token, token) << "a token was used twice";
      token = action.token;
      pinged_at = now;
    }
    return actions;
  }
};

inline Kinds kinds(const Actions& actions) {
  Kinds all;
  for (const auto& action : actions) all.push_back(action.kind);
  return all;
}

}  // namespace tiercel::coherence
