// Real servers and Sentinels: started, answering, restarted, stopped, and gone with their owner.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "support/blocking_redis.h"
#include "support/child_process.h"
#include "support/poll_until.h"
#include "support/redis_server.h"
#include "support/reserved_port.h"

namespace tiercel::testing {
namespace {

bool is_gone(int pid) { return ::kill(pid, 0) != 0 && errno == ESRCH; }

bool keeps_folders() {
  const char* value = std::getenv("TIERCEL_KEEP_TEMP");
  return value != nullptr && std::string{value} == "1";
}

BlockingRedis connect_to(const RedisServer& server) {
  auto redis = BlockingRedis::connect("127.0.0.1", server.port());
  if (!redis) ADD_FAILURE() << redis.error().to_string();
  return std::move(redis).value();
}

TEST(PollUntil, ReturnsTheTruthAndKeepsItsLimit) {
  int calls = 0;
  EXPECT_TRUE(poll_until([&] { return ++calls == 3; }));
  EXPECT_EQ(calls, 3);
  EXPECT_FALSE(poll_until([] { return false; }, std::chrono::milliseconds{20}));
}

TEST(ReservedPort, IsNotGivenTwice) {
  const ReservedPort first = ReservedPort::any();
  EXPECT_FALSE(ReservedPort::try_reserve(first.port()));
  std::set<std::uint16_t> ports{first.port()};
  std::vector<ReservedPort> held;
  for (int i = 0; i < 20; ++i) {
    held.push_back(ReservedPort::any());
    EXPECT_TRUE(ports.insert(held.back().port()).second);
  }
  const std::uint16_t freed = held.back().port();
  held.pop_back();
  EXPECT_TRUE(ReservedPort::try_reserve(freed));
}

TEST(RedisServer, AnswersOverTcpAndUnixSocket) {
  auto server = RedisServer::start();
  EXPECT_EQ(server->url(), "redis://127.0.0.1:" + std::to_string(server->port()));
  EXPECT_EQ(server->command({"PING"}), "PONG");

  auto tcp = connect_to(*server);
  EXPECT_EQ(tcp.command({"SET", "k", "over tcp"})->to_text(), "OK");
  auto local = BlockingRedis::connect_unix(server->unix_path());
  ASSERT_TRUE(local) << local.error().to_string();
  EXPECT_EQ(local->command({"GET", "k"})->text, "over tcp");
  EXPECT_EQ(server->command({"CONFIG", "GET", "bind"}), "bind\n127.0.0.1");
  EXPECT_EQ(server->command({"DEBUG", "SLEEP", "0"}), "OK");
}

TEST(RedisServer, PrintsRepliesAsRedisCliDoesRaw) {
  auto server = RedisServer::start();
  EXPECT_EQ(server->command({"GET", "nothing"}), "(nil)");
  EXPECT_EQ(server->command({"INCR", "n"}), "1");
  EXPECT_EQ(server->command({"RPUSH", "l", "a", std::string{"b\0c", 3}}), "2");
  EXPECT_EQ(server->command({"LRANGE", "l", "0", "-1"}), (std::string{"a\nb\0c", 5}));
  EXPECT_EQ(server->command({"NOSUCH"}).substr(0, 4), "-ERR");
  EXPECT_EQ(server->command({"EVAL", "return {1,{2,'x'},{}}", "0"}), "1\n2\nx\n");
}

TEST(RedisServer, ArgumentsAndPasswordsReachIt) {
  auto server = RedisServer::start({.arguments = {"--requirepass", "secret"}});
  EXPECT_EQ(server->command({"PING"}).substr(0, 7), "-NOAUTH");
  EXPECT_EQ(server->command({"PING"}, "wrong").substr(0, 10), "-WRONGPASS");
  EXPECT_EQ(server->command({"PING"}, "secret"), "PONG");
}

TEST(RedisServer, RestartsOnTheSamePort) {
  auto server = RedisServer::start();
  const auto port = server->port();
  const int pid = server->pid();
  EXPECT_EQ(server->command({"SET", "k", "v"}), "OK");
  server->kill();
  EXPECT_EQ(server->pid(), 0);
  EXPECT_TRUE(is_gone(pid));
  EXPECT_EQ(server->command({"PING"}).substr(0, 12), "-UNREACHABLE");
  EXPECT_FALSE(BlockingRedis::connect("127.0.0.1", port));
  EXPECT_TRUE(std::filesystem::exists(server->folder()));

  server->restart({"--maxclients", "77"});
  EXPECT_EQ(server->port(), port);
  EXPECT_NE(server->pid(), 0);
  EXPECT_EQ(server->command({"GET", "k"}), "(nil)") << "nothing may have been saved";
  EXPECT_EQ(server->command({"CONFIG", "GET", "maxclients"}), "maxclients\n77");
  server->restart();  // While it runs, too; and the argument was for one run.
  EXPECT_EQ(server->port(), port);
  EXPECT_NE(server->command({"CONFIG", "GET", "maxclients"}), "maxclients\n77");
}

TEST(RedisServer, NoticesThatItEndedByItself) {
  auto server = RedisServer::start();
  server->command({"SHUTDOWN", "NOSAVE"});
  EXPECT_TRUE(poll_until([&] { return server->pid() == 0; }));
  server->kill();  // Of nobody: must not hang.
  server->restart();
  EXPECT_EQ(server->command({"PING"}), "PONG");
}

TEST(RedisServer, StandsStillWhileItIsStopped) {
  auto server = RedisServer::start();
  auto redis = connect_to(*server);
  ASSERT_TRUE(redis.command({"PING"}));
  server->stop_process();
  EXPECT_NE(server->pid(), 0);
  const auto late = redis.command({"INCR", "n"}, std::chrono::milliseconds{50});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadlineExceeded);
  server->continue_process();
  EXPECT_EQ(redis.read_reply()->to_text(), "1");
}

TEST(RedisServer, IsRemovedAlsoWhenItIsStopped) {
  auto server = RedisServer::start();
  const int pid = server->pid();
  const std::string folder = server->folder();
  server->stop_process();
  server.reset();
  EXPECT_TRUE(is_gone(pid));
  EXPECT_EQ(std::filesystem::exists(folder), keeps_folders());
}

TEST(RedisServer, AFolderOfTheCallersStays) {
  const auto folder = std::filesystem::temp_directory_path() /
                      ("tiercel-test-" + std::to_string(ReservedPort::any().port()));
  std::filesystem::create_directory(folder);
  {
    auto server = RedisServer::start({.folder = folder});
    EXPECT_EQ(server->folder(), folder);
  }
  EXPECT_TRUE(std::filesystem::exists(folder / "redis.log"));
  std::filesystem::remove_all(folder);
}

TEST(RedisServer, TakesThePortItIsTold) {
  std::uint16_t port = 0;
  { port = ReservedPort::any().port(); }
  auto server = RedisServer::start({.port = port});
  EXPECT_EQ(server->port(), port);
}

// Runs the helper in a mode in which it starts a server, kills it, and expects the server and its
// folder to go as well.
void expect_server_dies_with_its_owner(const std::string& mode, bool stopped) {
  auto child = ChildProcess::start({.executable = TIERCEL_SUPPORT_TEST_CHILD, .arguments = {mode}});
  const auto next_line = [&] {
    const auto line = child->read_line();
    return line && *line ? **line : std::string{};
  };
  const int pid = std::atoi(next_line().c_str());
  const std::string folder = next_line();
  const int forked = std::atoi(next_line().c_str());
  ASSERT_GT(pid, 0);
  ASSERT_TRUE(child->write_line("ping"));
  EXPECT_EQ(next_line(), "PONG");
  EXPECT_TRUE(std::filesystem::exists(folder));
  EXPECT_FALSE(is_gone(pid));
  if (stopped) ::kill(pid, SIGSTOP);

  child->kill(SIGKILL);
  EXPECT_TRUE(poll_until([&] { return is_gone(pid); }));
  EXPECT_TRUE(poll_until([&] { return std::filesystem::exists(folder) == keeps_folders(); }));
  if (forked > 0) {
    EXPECT_FALSE(is_gone(forked)) << "else this proves nothing";
    ::kill(forked, SIGKILL);
  }
}

TEST(RedisServer, DiesWithItsKilledOwner) { expect_server_dies_with_its_owner("serve", false); }

TEST(RedisServer, DiesWithItsKilledOwnerAlsoWhenItIsStopped) {
  expect_server_dies_with_its_owner("serve", true);
}

// PR_SET_PDEATHSIG alone would kill this server when the thread that started it ends.
TEST(RedisServer, OutlivesTheThreadThatStartedIt) {
  expect_server_dies_with_its_owner("serve-from-thread", false);
}

TEST(RedisServer, IsNotKeptAliveByAForkedChildOfItsOwner) {
  expect_server_dies_with_its_owner("serve-and-fork", false);
}

// The second belt: the guardian is not there to kill it, so the kernel does.
TEST(RedisServer, DiesWithItsGuardian) {
  auto server = RedisServer::start();
  const int pid = server->pid();
  const std::string folder = server->folder();
  int guardian = 0;
  std::string word;
  std::ifstream status{"/proc/" + std::to_string(pid) + "/status"};
  while (status >> word && word != "PPid:") {
  }
  status >> guardian;
  ASSERT_GT(guardian, 1);
  ASSERT_NE(guardian, ::getpid());
  ASSERT_EQ(::kill(guardian, SIGKILL), 0);
  EXPECT_TRUE(poll_until([&] { return server->pid() == 0; }));
  // Not reaped by us: whoever adopted it may take its time, but its port is closed.
  EXPECT_TRUE(poll_until([&] { return !BlockingRedis::connect("127.0.0.1", server->port()); }));
  server->restart();
  EXPECT_EQ(server->command({"PING"}), "PONG");
  server.reset();
  EXPECT_EQ(std::filesystem::exists(folder), keeps_folders());
}

TEST(RedisServerDeathTest, APortThatIsTakenIsNamed) {
  auto server = RedisServer::start();
  EXPECT_DEATH((void)RedisServer::start({.port = server->port()}), "found no port to listen on");
}

TEST(RedisServerDeathTest, AWrongArgumentShowsTheServersOwnWords) {
  EXPECT_DEATH(RedisServer::start({.arguments = {"--no-such-option", "1"}}), "no-such-option");
}

TEST(RedisServerDeathTest, AMissingBinaryNamesTheDebianPackage) {
  EXPECT_DEATH(
      {
        ::setenv("PATH", "/nowhere", 1);
        (void)RedisServer::start();
      },
      "Debian package redis-server");
}

TEST(BlockingRedis, ReadsPushedMessagesAndRefusesGarbage) {
  auto server = RedisServer::start();
  auto subscriber = connect_to(*server);
  EXPECT_EQ(subscriber.command({"SUBSCRIBE", "c"})->to_text(), "subscribe\nc\n1");
  EXPECT_EQ(server->command({"PUBLISH", "c", "hello"}), "1");
  EXPECT_EQ(subscriber.read_reply()->to_text(), "message\nc\nhello");

  auto garbage = connect_to(*server);
  ASSERT_TRUE(garbage.send_raw("*1\r\n+no\r\n"));
  EXPECT_TRUE(garbage.read_reply()->is_error());
  EXPECT_EQ(garbage.read_reply().error().code, ErrorCode::kUnavailable);
}

TEST(SentinelSetup, FailsOverAndTheOldMasterComesBack) {
  auto setup = SentinelSetup::start();
  ASSERT_EQ(setup->server_count(), 3U);
  ASSERT_EQ(setup->sentinel_ports().size(), 3U);
  EXPECT_EQ(setup->url(),
            "redis+sentinel://127.0.0.1:" + std::to_string(setup->sentinel_ports()[0]) +
                ",127.0.0.1:" + std::to_string(setup->sentinel_ports()[1]) +
                ",127.0.0.1:" + std::to_string(setup->sentinel_ports()[2]) + "/mymaster");
  ASSERT_EQ(setup->master_index(), 0);
  // On one connection: WAIT waits for the writes of the connection it is sent on, and on a fresh
  // one it answers at once.
  auto writer = connect_to(setup->server(0));
  EXPECT_EQ(writer.command({"SET", "k", "v"})->to_text(), "OK");
  EXPECT_EQ(writer.command({"WAIT", "2", "9000"})->to_text(), "2");

  setup->server(0).kill();
  const int promoted = setup->wait_for_new_master(0);
  ASSERT_GT(promoted, 0) << setup->sentinel(0).log_tail();
  RedisServer& master = setup->server(static_cast<std::size_t>(promoted));
  EXPECT_EQ(master.command({"GET", "k"}), "v");
  EXPECT_EQ(master.command({"SET", "k", "w"}), "OK");

  setup->restart_as_replica(0);
  EXPECT_EQ(setup->server(0).command({"ROLE"}).substr(0, 5), "slave");
  EXPECT_TRUE(poll_until([&] { return setup->server(0).command({"GET", "k"}) == "w"; }));
  EXPECT_EQ(setup->wait_for_new_master(-1), promoted);
}

TEST(SentinelSetup, ASentinelRestartsWithWhatItKnew) {
  auto setup = SentinelSetup::start({.replicas = 1, .sentinels = 1});
  ASSERT_EQ(setup->master_index(), 0);
  RedisServer& sentinel = setup->sentinel(0);
  const std::string id = sentinel.command({"SENTINEL", "MYID"});
  sentinel.kill();
  EXPECT_EQ(setup->master_index(), -1) << "no Sentinel, no majority";
  sentinel.restart();
  EXPECT_EQ(sentinel.command({"SENTINEL", "MYID"}), id);
  EXPECT_EQ(setup->wait_for_new_master(-1), 0);
}

}  // namespace
}  // namespace tiercel::testing
