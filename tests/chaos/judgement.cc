// The end of a fault: Q, then the fleet's end, then R, M, W, G and T.

#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "chaos/world.h"
#include "fleet/history.h"
#include "fleet/oracle.h"
#include "fleet/payload.h"
#include "support/blocking_redis.h"
#include "tiercel/coherence/names.h"
#include "tiercel/serialization/envelope.h"

namespace tiercel::chaos {
namespace {

constexpr Duration kRefill = 300ms;  // For the fillers, so that Q has something to look at.
constexpr Duration kRecoveryMax = 60s;
constexpr Duration kDumpMax = 20s;
constexpr Duration kJoinMax = 20s;
constexpr double kDarkMin = 0.1;  // Less is no outage but a thread that had to wait for a core.
constexpr auto kLook = 5ms;

double in_ms(Duration duration) {
  return std::chrono::duration<double, std::milli>{duration}.count();
}

double in_seconds(std::int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e9; }

}  // namespace

void World::finish(testing::RedisServer& final_master) {
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    if (members_[i].member.writes && members_[i].process) stop_writing(i);
  }
  run_for(kRefill);
  wait_for_recovery();
  note_recovery();
  if (checks_quiet_) check_quiet(final_master);
  end_fleet();
  judge(final_master);
  sum_up();
}

// The sequence of each key in L2; 0: not there, or not of ours.
std::optional<std::vector<std::uint32_t>> World::sequences_in(testing::RedisServer& server) {
  const auto names = coherence::Names::create(kNamespace);
  auto redis = testing::BlockingRedis::connect_unix(server.unix_path());
  if (!names || !redis) return std::nullopt;
  std::vector<std::uint32_t> sequences;
  for (std::uint32_t key = 0; key < board_.config().key_count; ++key) {
    const auto reply = redis->command({"GET", names->value_key(fleet::key_name(key))});
    if (!reply || reply->is_error()) return std::nullopt;
    const auto stored = serialization::decode_value(reply->text);
    const auto payload =
        stored ? fleet::decode_payload(stored->envelope.payload) : std::optional<fleet::Payload>{};
    sequences.push_back(payload ? payload->sequence : 0);
  }
  return sequences;
}

void World::check_quiet(testing::RedisServer& final_master) {
  const std::int64_t quiet_at = ticks_now();
  // L2 is looked at before and after: a write of unknown outcome may still arrive.
  const auto before = sequences_in(final_master);
  std::vector<std::uint32_t> asked;
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    if (dump(i, quiet_at)) asked.push_back(i);
  }
  for (const std::uint32_t i : asked) {
    if (!wait_for_dump(i)) violation(fmt::format("instance {} does not answer any more", i));
  }
  const auto after = sequences_in(final_master);
  if (!before || !after) return violation("Q: the final master cannot be read");
  for (const std::uint32_t i : asked) compare_with_l2(i, *before, *after);
  check(report_.quiet_checked > 0, "Q: no L1 held anything at the end: nothing was compared");
}

// False when it does not run.
bool World::dump(std::uint32_t number, std::int64_t after) {
  if (!members_[number].process || members_[number].process->pid() == 0) return false;
  of(number).dump_after = after;
  of(number).dump_wanted.fetch_add(1);
  return true;
}

bool World::wait_for_dump(std::uint32_t number) {
  return testing::poll_until(
      [&] { return of(number).dump_done.load() == of(number).dump_wanted.load(); }, kDumpMax,
      kLook);
}

std::uint64_t World::count_in_l1(std::uint32_t number) {
  if (!dump(number, ticks_now()) || !wait_for_dump(number)) return 0;
  return static_cast<std::uint64_t>(std::ranges::count_if(
      of(number).dump, [](const auto& sequence) { return sequence.load() != 0; }));
}

void World::compare_with_l2(std::uint32_t number, const std::vector<std::uint32_t>& before,
                            const std::vector<std::uint32_t>& after) {
  std::uint64_t differing = 0;
  std::string example;
  for (std::uint32_t key = 0; key < before.size(); ++key) {
    const std::uint32_t in_l1 = of(number).dump[key].load();
    if (in_l1 == 0 || before[key] != after[key]) continue;
    ++report_.quiet_checked;
    if (in_l1 == after[key]) continue;
    ++differing;
    example = fmt::format("key {} is {} in L1 and {} in L2", key, in_l1, after[key]);
  }
  if (differing == 0) return;
  violation(fmt::format("Q: {} L1 entries of instance {} ({}) differ from L2, e.g. {}", differing,
                        number, members_[number].member.who, example));
}

// T. A hit from now on: an instance that has been off the CPU for a while still finds its way back.
void World::wait_for_recovery() {
  if (board_.state().fault_at.load() == 0) return;
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    const Running& running = members_[i];
    if (!running.process || running.process->pid() == 0) continue;
    if (!running.member.recovers || running.member.setup.reader_threads == 0) continue;
    const std::int64_t asked = ticks_now();
    must_become(
        fmt::format("T: L1 of instance {} answers again", i),
        [&] { return of(i).last_hit_at.load() > asked; }, kRecoveryMax);
  }
}

void World::note_recovery() {
  const std::int64_t fault_at = board_.state().fault_at.load();
  if (fault_at == 0) return;
  const std::int64_t now = ticks_now();
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    const Running& running = members_[i];
    if (!running.process || running.process->pid() == 0) continue;
    const InstanceBoard& board = of(i);
    if (running.member.setup.reader_threads > 0) {
      const std::int64_t last = std::max(board.last_hit_at.load(), fault_at);
      const double dark_now = in_seconds(now - last);
      const double dark = in_seconds(board.dark_until.load() - board.dark_from.load());
      if (dark_now > 1 && dark_now > dark) {
        figure(fmt::format("instance {} ({}): L1 has not answered for the last {:.2f} s", i,
                           running.member.who, dark_now));
      } else if (running.member.recovers) {
        const double first = dark < kDarkMin ? 0 : in_seconds(board.dark_until.load() - fault_at);
        report_.first_hit_s = std::max(report_.first_hit_s.value_or(0), first);
        if (dark >= kDarkMin) {
          figure(
              fmt::format("instance {} ({}): L1 did not answer for {:.2f} s, and again {:.2f} s "
                          "after the fault",
                          i, running.member.who, dark, first));
        }
      }
    }
    if (running.member.writes && running.member.recovers) {
      const std::int64_t first = board.first_write_at.load();
      if (first == 0) continue;
      report_.first_write_s =
          std::max(report_.first_write_s.value_or(0), in_seconds(first - fault_at));
    }
  }
}

void World::end_fleet() {
  for (std::uint32_t i = 0; i < members_.size(); ++i) of(i).stop = 1;
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    Running& running = members_[i];
    if (!running.process) continue;
    const auto status = running.process->wait(kJoinMax);
    if (running.death_expected) continue;
    if (!status) {
      violation(fmt::format("instance {} does not end", i));
      running.process->signal(SIGKILL);
    } else if (*status != testing::ExitStatus{.code = 0, .signal = 0}) {
      violation(
          fmt::format("instance {} died: status {}, signal {}", i, status->code, status->signal));
    }
  }
}

void World::judge(testing::RedisServer& final_master) {
  const auto history = fleet::read_history(final_master.unix_path(), kNamespace);
  if (!history) return violation("the run cannot be judged: " + history.error().to_string());
  fleet::Verdict& verdict = report_.verdict;
  verdict = fleet::judge_run(board_.log(), *history,
                             {.name_of_key = [](std::uint32_t key) { return fleet::key_name(key); },
                              .branch_ended_at = branch_ended_at_});
  check(
      verdict.stale_beyond_bound == 0,
      fmt::format("R: {} L1 hits were stale beyond the bound; the worst {:.0f} ms, with a lease of "
                  "{:.0f} ms",
                  verdict.stale_beyond_bound, in_ms(verdict.worst_staleness), in_ms(lease())));
  check(verdict.monotonic_violations == 0,
        fmt::format("M: {} reads went back within an epoch", verdict.monotonic_violations));
  check(
      verdict.ghosts == 0,
      fmt::format("G: {} lost writes were served by L1 too long after their branch had ended, one "
                  "for {:.0f} ms",
                  verdict.ghosts, in_ms(verdict.worst_ghost)));
  check(board_.log().header().records_refused.load() == 0,
        "the log of writes was too small: the run was not judged to its end");
}

void World::sum_up() {
  report_.hits = sum(&InstanceBoard::hits);
  report_.reads_l2 = sum(&InstanceBoard::reads_l2);
  check(report_.hits > 0, "L1 never answered: nothing was tested");
  const std::uint64_t wrong = sum(&InstanceBoard::values_wrong);
  check(wrong == 0, fmt::format("{} values were not what any writer wrote there", wrong));
  const std::uint64_t unknown = sum(&InstanceBoard::writes_unknown);
  const std::uint64_t failed = sum(&InstanceBoard::writes_failed);
  const std::uint64_t reads_failed = sum(&InstanceBoard::reads_failed);
  if (unknown + failed + reads_failed > 0) {
    figure(fmt::format("writes with unknown outcome {}, refused {}; reads that failed {}", unknown,
                       failed, reads_failed));
  }
  const std::uint64_t stale_l2 = sum(&InstanceBoard::stale_l2);
  if (stale_l2 > 0) {
    figure(fmt::format(
        "reads from Redis that an old master answered with old values {} (no promise)", stale_l2));
  }
}

}  // namespace tiercel::chaos
