#include "chaos/failover.h"

#include <fmt/format.h>

namespace tiercel::chaos {
namespace {

constexpr Duration kPromotionMax = 60s;
constexpr Duration kFollowMax = 60s;

}  // namespace

FailoverFleet::FailoverFleet(World& world, testing::SentinelSetup& servers, const FleetShape& shape)
    : world_(world), servers_(servers) {
  Member follower{.url = servers.url(), .who = "follows the Sentinels"};
  follower.setup.replicas = shape.replicas;
  Member pinned{.url = servers.server(0).url(),
                .who = "pinned to the first master",
                .recovers = false,
                .hooked = !shape.pinned_hooks.empty()};
  pinned.setup.replicas = shape.replicas;
  // Longer than the master hangs: the stream itself does not tell them. A control's lasts for all
  // of its fault, however long that takes.
  pinned.setup.stream_timeout_ms = shape.pinned_hooks.empty() ? 10'000 : 60'000;
  copy_text(pinned.setup.hooks, shape.pinned_hooks);
  const auto writing = [](Member member) {
    member.writes = true;
    return member;
  };
  followers_.push_back(world.add(writing(follower)));
  followers_.push_back(world.add(follower));
  if (shape.pinned_writer) pinned_.push_back(world.add(writing(pinned)));
  if (shape.pinned_reader) pinned_.push_back(world.add(pinned));
}

int FailoverFleet::wait_for_promotion(const std::vector<std::size_t>& of) {
  int promoted = -1;
  world_.must_become(
      "a replica is promoted",
      [&] {
        for (const std::size_t i : of) {
          if (servers_.server(i).pid() == 0) continue;
          if (!servers_.server(i).command({"ROLE"}).starts_with("master")) continue;
          promoted = static_cast<int>(i);
          return true;
        }
        return false;
      },
      kPromotionMax, 1ms);
  world_.branch_ended();
  if (promoted >= 0) {
    world_.say(servers_.server(static_cast<std::size_t>(promoted)).endpoint() + " was promoted");
  }
  return promoted;
}

void FailoverFleet::wait_for_followers(testing::RedisServer& master) {
  for (const std::uint32_t i : followers_) {
    world_.must_become(
        fmt::format("instance {} holds a lease on {}", i, master.endpoint()),
        [&] {
          return world_.of(i).lease_held.load() != 0 &&
                 world_.of(i).master_port.load() == master.port();
        },
        kFollowMax);
  }
  const auto acked = world_.of(followers_[0]).writes_acked.load();
  world_.must_become(
      "writes are acknowledged",
      [&] { return world_.of(followers_[0]).writes_acked.load() > acked + 10; }, kFollowMax);
}

void FailoverFleet::run_on() { world_.run_for(world_.options().stock_sentinel ? 15s : 4s); }

testing::RedisServer* FailoverFleet::master_of(World& world, testing::SentinelSetup& servers) {
  const int index = servers.wait_for_new_master(-1);
  if (index >= 0) return &servers.server(static_cast<std::size_t>(index));
  world.violation("the Sentinels name no master");
  return nullptr;
}

testing::RedisServer* FailoverFleet::final_master(int not_this) {
  const int index = servers_.wait_for_new_master(not_this);
  if (index >= 0) return &servers_.server(static_cast<std::size_t>(index));
  world_.violation("the Sentinels name no master at the end");
  return nullptr;
}

}  // namespace tiercel::chaos
