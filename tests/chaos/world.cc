// The fleet and the servers of a fault; judging is in judgement.cc.

#include "chaos/world.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <thread>

#include "support/unique_fd.h"

namespace tiercel::chaos {
namespace {

// Generous: only a failure waits so long.
constexpr Duration kReadyMax = 60s;
constexpr auto kLook = 2ms;
// More than a machine under load holds a live master up.
constexpr std::chrono::milliseconds kDownAfter = 3s;

Board create_board(const BoardConfig& config) {
  auto board = Board::create(config);
  if (!board) testing::fail(board.error().to_string());
  return std::move(board).value();
}

// Faults must not share their draws: a seed replays one alone as it was among others.
std::uint64_t mix(std::uint64_t seed, const std::string& name) {
  std::uint64_t mixed = seed + 0x9e3779b97f4a7c15;
  for (const char c : name) mixed = (mixed ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return mixed;
}

BoardConfig with_seed(BoardConfig config, std::uint64_t seed) {
  config.seed = seed;
  return config;
}

// This program itself, or the one beside it.
std::string program_of(const Member& member) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) testing::fail("cannot find this program: " + error.message());
  return member.hooked ? (self.parent_path() / "tiercel_chaos_hooked").string() : self.string();
}

}  // namespace

World::World(FaultReport& report, const Options& options, BoardConfig config)
    : report_(report),
      options_(options),
      began_at_(Clock::system().now()),
      random_(mix(options.seed, report.name)),
      board_(create_board(with_seed(config, mix(options.seed, report.name)))) {
  report_.lease_s = std::chrono::duration<double>{config.lease()}.count();
}

World::~World() {
  report_.seconds = std::chrono::duration<double>{Clock::system().now() - began_at_}.count();
}

std::chrono::milliseconds World::draw_ms(std::int64_t from, std::int64_t to) {
  const auto span = static_cast<std::uint64_t>(to - from + 1);
  return std::chrono::milliseconds{from + static_cast<std::int64_t>(random_.below(span))};
}

testing::RedisServer& World::start_server(std::vector<std::string> arguments) {
  servers_.push_back(testing::RedisServer::start({.arguments = std::move(arguments)}));
  return *servers_.back();
}

testing::SentinelSetup& World::start_sentinels(bool master_behind_proxy) {
  testing::SentinelSetupOptions options;
  options.down_after = kDownAfter;
  options.failover_timeout = options_.stock_sentinel ? 10s : 3s;
  options.fast_periods = !options_.stock_sentinel;
  options.master_behind_proxy = master_behind_proxy;
  sentinels_ = testing::SentinelSetup::start(options);
  return *sentinels_;
}

testing::TcpProxy& World::start_proxy(std::uint16_t target_port) {
  proxies_.push_back(std::make_unique<testing::TcpProxy>(target_port));
  return *proxies_.back();
}

std::uint32_t World::add(Member member) {
  TIERCEL_CHECK(members_.size() < kInstancesMax);
  const auto number = static_cast<std::uint32_t>(members_.size());
  InstanceSetup& setup = of(number).setup;
  setup = member.setup;
  setup.writes = member.writes;
  if (!copy_text(setup.url, member.url)) testing::fail("the URL is too long: " + member.url);
  if (member.writes && !member.starts_later) setup.writer_slot = writers_++;
  members_.push_back({.member = std::move(member), .process = {}});
  return number;
}

void World::start_member(std::uint32_t number) {
  Running& running = members_[number];
  InstanceBoard& board = of(number);
  auto process = testing::GuardedProcess::start(
      {.command = {program_of(running.member), "instance", std::to_string(number)},
       .folder_to_remove = {},
       .output_path = {},
       .stdin_fd = board_.fd()});
  if (!process) testing::fail("cannot start an instance: " + process.error().to_string());
  running.process = std::move(process).value();
  board.may_read = 1;
  board.may_fill = 1;
}

void World::wait_ready(std::uint32_t number) {
  const bool ready = testing::poll_until(
      [&] { return of(number).ready.load() != 0 && of(number).lease_held.load() != 0; }, kReadyMax,
      kLook);
  if (!ready) testing::fail(fmt::format("instance {} does not get ready", number));
}

void World::start_load() {
  board_.set_slots(std::max(1U, writers_ + board_.config().foreign_slots));
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    if (!members_[i].member.starts_later) start_member(i);
  }
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    if (!members_[i].member.starts_later) wait_ready(i);
  }
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    if (members_[i].member.writes && !members_[i].member.starts_later) start_writing(i);
  }
  const bool written = testing::poll_until(
      [&] {
        for (std::uint32_t key = 0; key < board_.config().key_count; ++key) {
          if (board_.config().is_foreign(key)) continue;
          if (board_.log().newest(key).load() == fleet::kNoRecord) return false;
        }
        return true;
      },
      kReadyMax, kLook);
  if (!written) testing::fail("the keys do not get written");
  const bool hit = testing::poll_until(
      [&] {
        for (std::uint32_t i = 0; i < members_.size(); ++i) {
          const Running& running = members_[i];
          if (!running.process || running.member.setup.reader_threads == 0) continue;
          if (of(i).hits.load() == 0 && !running.member.hooked) return false;
        }
        return true;
      },
      kReadyMax, kLook);
  if (!hit) testing::fail("an instance does not get one hit, before anything was done to it");
}

void World::start_writing(std::uint32_t number) { of(number).may_write = 1; }

void World::stop_writing(std::uint32_t number) {
  of(number).may_write = 0;
  if (!members_[number].process || members_[number].process->pid() == 0) return;
  const bool ended =
      testing::poll_until([&] { return of(number).writing.load() == 0; }, 20s, kLook);
  if (!ended) testing::fail(fmt::format("instance {} does not end its write", number));
}

void World::let_read(bool yes) {
  for (std::uint32_t i = 0; i < members_.size(); ++i) of(i).may_read = yes ? 1 : 0;
}

void World::let_fill(bool yes) {
  for (std::uint32_t i = 0; i < members_.size(); ++i) of(i).may_fill = yes ? 1 : 0;
}

void World::signal(std::uint32_t number, int signal) { members_[number].process->signal(signal); }

void World::wait_for_word(std::uint32_t number) {
  const auto now = static_cast<std::uint64_t>(ticks_now());
  if (!testing::poll_until([&] { return of(number).said_at.load() > now; }, 10s, kLook)) {
    testing::fail(fmt::format("instance {} says nothing", number));
  }
}

std::string World::witness_of(std::uint32_t number) {
  wait_for_word(number);
  std::string text;
  for (const auto& c : of(number).witness) {
    if (c.load() == '\0') break;
    text += c.load();
  }
  return text;
}

void World::say(const std::string& text) {
  const double at = std::chrono::duration<double>{Clock::system().now() - began_at_}.count();
  fmt::print("  {:6.2f} s  {}\n", at, text);
  std::fflush(stdout);
}

void World::fault_begins() { board_.state().fault_at = ticks_now(); }

void World::run_for(Duration duration) { std::this_thread::sleep_for(duration); }

bool World::must_become(const std::string& what, const std::function<bool()>& condition,
                        Duration limit, Duration step) {
  if (testing::poll_until(condition, limit, step)) return true;
  violation(fmt::format("not within {} s: {}",
                        std::chrono::duration_cast<std::chrono::seconds>(limit).count(), what));
  return false;
}

void World::expect_death(std::uint32_t number) { members_[number].death_expected = true; }

}  // namespace tiercel::chaos
