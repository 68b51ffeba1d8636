// Invariants
// - The servers belong to the operator while it lives, to the coordinator before and after.
// - The run ends in this order: writers, readers, instances, then the judgement, then the servers:
//   the judge must see the master's history as the last write left it.

#include "failover/coordinator.h"

#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "failover/board.h"
#include "failover/events.h"
#include "failover/fleet.h"
#include "failover/instance.h"
#include "failover/operator.h"
#include "failover/progress.h"
#include "failover/report.h"
#include "failover/trace.h"
#include "fleet/history.h"
#include "fleet/oracle.h"
#include "fleet/payload.h"
#include "support/poll_until.h"
#include "support/redis_server.h"
#include "tiercel/base/random.h"

namespace tiercel::failover {
namespace {

using namespace std::chrono_literals;

constexpr int kExitFailed = 1;
constexpr int kExitWrongOptions = 2;
constexpr auto kLook = 50ms;
constexpr Duration kReadyMax = 60s;
constexpr Duration kWritersMax = 10s;  // A write that waits for its deadline, and some.
constexpr Duration kQuietMin = 500ms;  // Reads after the last write.
constexpr Duration kJoinMax = 20s;
constexpr Duration kHealMax = 60s;  // Beyond the run's time.
constexpr Duration kFinalMasterMax = 30s;
// Reads a second on top, so that two cores do for all processes, the servers included.
constexpr double kReadsPerInstanceMax = 16'000;
constexpr double kReadsMax = 48'000;
// Beyond what the pace allows: writes of the last moments, rounding.
constexpr std::uint64_t kSpareRecords = 10'000;

volatile std::sig_atomic_t g_interrupted = 0;

// The first signal ends the run early, with a report; a second one ends it at once.
extern "C" void on_interrupt(int signal) {
  g_interrupted = 1;
  std::signal(signal, SIG_DFL);
}

bool interrupted() { return g_interrupted != 0; }

template <std::size_t size>
bool copy_text(std::array<char, size>& to, const std::string& text) {
  if (text.size() >= size) return false;
  std::ranges::copy(text, to.begin());
  return true;
}

int complain(int status, const std::string& message) {
  fmt::print(stderr, "{}\n", message);
  return status;
}

Result<Board> create_board(const Options& options, const TraceSummary& trace,
                           const std::string& redis_url) {
  const double instances = options.instances;
  BoardConfig config;
  config.key_count = trace.ids.empty() ? options.keys : trace.ids.size();
  config.instances = options.instances;
  const std::uint64_t filled = std::min<std::uint64_t>(config.key_count, kKeysFilledMax);
  config.log_capacity = static_cast<std::uint32_t>(2 * options.writes_per_s * options.seconds +
                                                   filled + kSpareRecords);
  config.lease_ms = options.lease_ms;
  config.zipf = options.zipf;
  config.writes_per_s = static_cast<double>(options.writes_per_s) / instances;
  config.reads_per_s = std::min(kReadsPerInstanceMax, kReadsMax / instances) / kReadersPerInstance;
  // The whole run must stay in the history, for the judge.
  config.history_entries = config.log_capacity + kSpareRecords;
  config.seed = entropy_u64();
  config.trace_bytes = trace.bytes;
  config.verbose = options.verbose;
  config.stale_reader = options.stale_reader;
  const std::string path =
      options.trace.empty() ? "" : std::filesystem::absolute(options.trace).string();
  if (!copy_text(config.redis_url, redis_url) || !copy_text(config.trace_path, path)) {
    return invalid_argument("the path of the trace is too long");
  }
  return Board::create(config, trace.ids);
}

class Coordinator {
 public:
  Coordinator(const Options& options, testing::SentinelSetup& servers, Board board, Fleet fleet)
      : options_(options), servers_(servers), board_(std::move(board)), fleet_(std::move(fleet)) {}

  int run() {
    if (!wait_for_instances()) return interrupted() ? finish_unstarted() : kExitFailed;
    began_at_ = Clock::system().now();
    board_.state().phase.store(Phase::kRunning, std::memory_order_release);
    watch();
    wind_down();
    return report();
  }

 private:
  bool wait_for_instances();
  int finish_unstarted();
  void watch();
  void wind_down();
  int report();
  Result<History> final_history();
  void pass_on_events(Progress& progress);
  void note_firsts();
  [[nodiscard]] bool healed() const;
  [[nodiscard]] std::optional<double> after_kill_ms(std::int64_t at) const;
  [[nodiscard]] bool all_instances(std::atomic<std::uint32_t> InstanceBoard::*flag) const;

  const Options& options_;
  testing::SentinelSetup& servers_;
  Board board_;
  Fleet fleet_;
  Events events_;
  TimePoint began_at_;
  TimePoint ended_at_;
  bool master_killed_ = false;
  bool promoted_ = false;
  bool first_write_told_ = false;
  bool first_l1_hit_told_ = false;
};

bool Coordinator::wait_for_instances() {
  bool died = false;
  const bool ready = testing::poll_until(
      [&] {
        for (const Death& death : fleet_.take_deaths()) {
          fmt::print(stderr, "{} before the run began\n", death.text);
          died = true;
        }
        return died || interrupted() || all_instances(&InstanceBoard::ready);
      },
      kReadyMax, kLook);
  if (!ready) fmt::print(stderr, "the instances did not get ready\n");
  return ready && !died && !interrupted();
}

int Coordinator::finish_unstarted() {
  return complain(kExitFailed, "interrupted before the run began");
}

void Coordinator::watch() {
  Progress progress{board_, began_at_};
  std::optional<Operator> deed;
  const auto length = std::chrono::seconds{options_.seconds};
  if (options_.kill_master) deed.emplace(servers_, board_, events_, began_at_ + length / 3);
  TimePoint next_line = began_at_ + 1s;
  std::optional<TimePoint> heal_by;
  while (!interrupted()) {
    std::this_thread::sleep_for(kLook);
    pass_on_events(progress);
    const TimePoint now = Clock::system().now();
    if (now >= next_line) {
      progress.line();
      next_line += 1s;
    }
    // A promotion that takes its time is waited for; the operator has limits of its own.
    if (now < began_at_ + length || (deed && !deed->ended())) continue;
    if (!heal_by) heal_by = now + kHealMax;
    if (!deed || !deed->promoted() || healed() || now >= *heal_by) break;
  }
  ended_at_ = Clock::system().now();
  if (deed) {
    master_killed_ = deed->killed();
    promoted_ = deed->promoted();
    deed.reset();
  }
  pass_on_events(progress);
}

void Coordinator::pass_on_events(Progress& progress) {
  for (const Death& death : fleet_.take_deaths()) {
    events_.add(death.text);
    // It can no longer say so itself.
    InstanceBoard& instance = board_.state().instances[death.instance];
    instance.lease_held = 0;
    instance.master_port = 0;
  }
  note_firsts();
  for (const Event& event : events_.take()) progress.event(event);
}

void Coordinator::note_firsts() {
  const auto tell = [this](bool& told, const std::atomic<std::int64_t>& first, const char* what) {
    const std::int64_t at = first.load(std::memory_order_acquire);
    if (told || at == 0) return;
    told = true;
    events_.add(TimePoint{Duration{at}},
                fmt::format("{}, {:.0f} ms after the SIGKILL", what, *after_kill_ms(at)));
  };
  tell(first_write_told_, board_.state().first_write_at, "first write acknowledged");
  tell(first_l1_hit_told_, board_.state().first_l1_hit_at, "first L1 hit in a new epoch");
}

// Since the kill somebody wrote, and L1 answers again.
bool Coordinator::healed() const {
  const BoardState& state = board_.state();
  return state.first_write_at.load(std::memory_order_acquire) != 0 &&
         state.first_l1_hit_at.load(std::memory_order_acquire) != 0;
}

void Coordinator::wind_down() {
  board_.state().phase.store(Phase::kQuiet, std::memory_order_release);
  (void)testing::poll_until(
      [&] {
        (void)fleet_.take_deaths();
        return fleet_.deaths() > 0 || all_instances(&InstanceBoard::writers_ended);
      },
      kWritersMax, kLook);
  std::this_thread::sleep_for(kQuietMin);
  board_.state().phase.store(Phase::kStopped, std::memory_order_release);
  fleet_.join(kJoinMax);
  for (const Death& death : fleet_.take_deaths()) fmt::print(stderr, "{}\n", death.text);
}

Result<History> Coordinator::final_history() {
  int master = -1;
  (void)testing::poll_until([&] { return (master = servers_.master_index()) >= 0; },
                            kFinalMasterMax, kLook);
  if (master < 0) return unavailable("there is no master at the end of the run");
  return read_history(servers_.server(static_cast<std::size_t>(master)).unix_path(), kNamespace);
}

int Coordinator::report() {
  const auto history = final_history();
  if (!history) {
    return complain(kExitFailed, "the run cannot be judged: " + history.error().to_string());
  }
  const BoardState& state = board_.state();
  const JudgeOptions judging{
      .name_of_key = [this](std::uint32_t key) { return key_name(board_.id_of_key(key)); },
      .branch_ended_at = std::nullopt};
  const Report report{.options = options_,
                      .keys = board_.config().key_count,
                      .seconds_run = std::chrono::duration<double>{ended_at_ - began_at_}.count(),
                      .interrupted = interrupted(),
                      .tally = take_tally(board_),
                      .verdict = judge_run(board_.log(), *history, judging),
                      .instances_died = fleet_.deaths(),
                      .master_killed = master_killed_,
                      .promoted = promoted_,
                      .writes_not_recorded = board_.log().header().records_refused.load(),
                      .first_write_after_kill_ms = after_kill_ms(state.first_write_at.load()),
                      .first_l1_hit_after_kill_ms = after_kill_ms(state.first_l1_hit_at.load())};
  fmt::print("{}", to_text(report));
  std::fflush(stdout);
  bool written = true;
  if (!options_.json.empty()) {
    std::ofstream file{options_.json, std::ios::trunc};
    file << to_json(report) << '\n';
    file.close();
    written = file.good();
    if (!written) fmt::print(stderr, "cannot write '{}'\n", options_.json);
  }
  return complaints(report).empty() && written ? 0 : kExitFailed;
}

std::optional<double> Coordinator::after_kill_ms(std::int64_t at) const {
  const std::int64_t kill = board_.state().kill_begun_at.load(std::memory_order_acquire);
  if (at == 0 || kill == 0) return std::nullopt;
  return std::chrono::duration<double, std::milli>{Duration{at - kill}}.count();
}

bool Coordinator::all_instances(std::atomic<std::uint32_t> InstanceBoard::*flag) const {
  for (std::uint32_t i = 0; i < board_.config().instances; ++i) {
    if ((board_.state().instances[i].*flag).load(std::memory_order_acquire) == 0) return false;
  }
  return true;
}

}  // namespace

int run_coordinator(const Options& options) {
  TraceSummary trace;
  if (!options.trace.empty()) {
    auto scanned = scan_trace(options.trace, kKeysMax);
    if (!scanned) return complain(kExitWrongOptions, scanned.error().message);
    trace = std::move(scanned).value();
  }
  if (!testing::RedisServer::available()) {
    return complain(kExitFailed, testing::RedisServer::unavailable_message());
  }
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  fmt::print("Starting a master, two replicas, three Sentinels and {} instances …\n",
             options.instances);
  std::fflush(stdout);
  // Where nobody kills it, a master that is late is not to be taken for a dead one.
  const auto servers =
      testing::SentinelSetup::start({.down_after = options.kill_master ? 500ms : 60s});
  auto board = create_board(options, trace, servers->url());
  if (!board) return complain(kExitFailed, board.error().to_string());
  auto fleet = Fleet::start(*board);
  if (!fleet) return complain(kExitFailed, fleet.error().to_string());
  Coordinator coordinator{options, *servers, std::move(board).value(), std::move(fleet).value()};
  return coordinator.run();
}

}  // namespace tiercel::failover
