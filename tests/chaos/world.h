#pragma once

// World: all that one fault happens in: the servers, the links, the fleet of instance processes,
// the board between them, the story that is printed, and the judgement at its end. A scenario
// builds its servers and its fleet, starts the load, does its deed, and finishes.
//
//   World world{report, options, config};
//   auto& redis = world.start_server();
//   world.add({.url = redis.url(), .writes = true});
//   world.start_load();
//   world.fault_begins();
//   redis.command({"CLIENT", "KILL", "TYPE", "pubsub"});
//   world.run_for(3s);
//   world.finish(redis);
//
// One owner, one thread. Everything in it dies with it, and with its process.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chaos/board.h"
#include "chaos/options.h"
#include "chaos/report.h"
#include "support/guarded_process.h"
#include "support/poll_until.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"
#include "tiercel/base/random.h"

namespace tiercel::chaos {

using namespace std::chrono_literals;

struct Member {
  std::string url{};
  std::string who = "instance";  // For the story: "pinned to the old master".
  bool writes = false;
  // T is asked of it: it must find its way back by itself.
  bool recovers = true;
  bool starts_later = false;  // By start_member().
  bool hooked = false;        // Of the build that has the library's test hooks.
  InstanceSetup setup{};      // The rest; its url and slots are filled in here.
};

class World {
 public:
  World(FaultReport& report, const Options& options, BoardConfig config = {});
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  [[nodiscard]] Random& random() noexcept { return random_; }
  [[nodiscard]] std::chrono::milliseconds draw_ms(std::int64_t from, std::int64_t to);
  [[nodiscard]] Duration lease() const { return board_.config().lease(); }
  [[nodiscard]] const Options& options() const noexcept { return options_; }

  // --- servers and links; they live as long as the world.
  testing::RedisServer& start_server(std::vector<std::string> arguments = {});
  // Tuned Sentinels, or stock ones where the command line asks for them.
  testing::SentinelSetup& start_sentinels(bool master_behind_proxy = false);
  testing::TcpProxy& start_proxy(std::uint16_t target_port);

  // --- the fleet
  std::uint32_t add(Member member);
  // Starts the processes, waits until all hold a lease, lets each key be written once, and starts
  // the load.
  void start_load();
  void start_member(std::uint32_t number);
  // Who writes may be changed while the fleet runs: the new one takes over the keys of the old one,
  // whose last write has ended when this returns.
  void stop_writing(std::uint32_t number);
  void start_writing(std::uint32_t number);
  void let_read(bool yes);
  void let_fill(bool yes);
  [[nodiscard]] InstanceBoard& of(std::uint32_t number) { return board_.instance(number); }
  [[nodiscard]] Board& board() noexcept { return board_; }
  void signal(std::uint32_t number, int signal);
  [[nodiscard]] std::size_t size() const noexcept { return members_.size(); }
  template <typename T>
  [[nodiscard]] T sum(std::atomic<T> InstanceBoard::*counter) {
    T total{};
    for (std::uint32_t i = 0; i < members_.size(); ++i) total += (of(i).*counter).load();
    return total;
  }
  // A number that an instance says of itself, not before it has said it anew.
  template <typename T>
  [[nodiscard]] T said(std::uint32_t number, std::atomic<T> InstanceBoard::*counter) {
    wait_for_word(number);
    return (of(number).*counter).load();
  }
  [[nodiscard]] std::string witness_of(std::uint32_t number);
  // How many keys L1 of the instance answers at this moment, once its lease holds.
  std::uint64_t count_in_l1(std::uint32_t number);

  // --- the story
  void say(const std::string& text);
  void figure(std::string text) { report_.figures.push_back(std::move(text)); }
  void violation(std::string text) { report_.violations.push_back(std::move(text)); }
  void check(bool holds, std::string violation_text) {
    if (!holds) violation(std::move(violation_text));
  }
  void fault_begins();  // From here on T counts.
  void run_for(Duration duration);
  // What must come to pass in the end; a violation when it has not within `limit`.
  bool must_become(const std::string& what, const std::function<bool()>& condition,
                   Duration limit = 30s, Duration step = 5ms);
  // Since when a lost write may no longer be served (oracle G): the moment in which the server that
  // had acknowledged it ceased to be the master, or a little later.
  void branch_ended() { branch_ended_at_ = Clock::system().now(); }
  // No G in this world, though writes may be lost.
  FaultReport& report() noexcept { return report_; }

  // Stops the writers, compares L1 with L2 (Q), ends the fleet and judges it by what
  // `final_master` holds. Instances that are dead or stopped must have been said so.
  void finish(testing::RedisServer& final_master);
  void expect_death(std::uint32_t number);
  // Q is not asked of it: e.g. it follows nobody any more and is not meant to.
  void without_quiet() { checks_quiet_ = false; }

 private:
  struct Running {
    Member member;
    std::unique_ptr<testing::GuardedProcess> process;
    bool death_expected = false;
  };

  void wait_for_word(std::uint32_t number);
  bool dump(std::uint32_t number, std::int64_t after);
  bool wait_for_dump(std::uint32_t number);
  void wait_ready(std::uint32_t number);
  void check_quiet(testing::RedisServer& final_master);
  void compare_with_l2(std::uint32_t number, const std::vector<std::uint32_t>& before,
                       const std::vector<std::uint32_t>& after);
  std::optional<std::vector<std::uint32_t>> sequences_in(testing::RedisServer& server);
  void end_fleet();
  void judge(testing::RedisServer& final_master);
  void sum_up();
  void wait_for_recovery();
  void note_recovery();

  FaultReport& report_;
  const Options& options_;
  const TimePoint began_at_;
  Random random_;
  Board board_;
  std::vector<std::unique_ptr<testing::RedisServer>> servers_;
  std::unique_ptr<testing::SentinelSetup> sentinels_;
  std::vector<std::unique_ptr<testing::TcpProxy>> proxies_;
  std::vector<Running> members_;  // After the servers: it goes before them.
  std::uint32_t writers_ = 0;
  std::optional<TimePoint> branch_ended_at_;
  bool checks_quiet_ = true;
};

}  // namespace tiercel::chaos
