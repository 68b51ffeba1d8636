// Reads from replicas, and what is known of their lag: real servers, one of them behind a slow
// line.

#include <algorithm>
#include <thread>

#include "client_fixture.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"
#include "tiercel/l2/replica_reader.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;
using tiercel::testing::SentinelSetup;
using tiercel::testing::TcpProxy;

class ReplicaReaderTest : public ClientTest {
 protected:
  ~ReplicaReaderTest() override {
    reader_.reset();
    client_.reset();
  }

  static std::unique_ptr<RedisServer> start_replica(std::uint16_t master_port) {
    return RedisServer::start(
        {.arguments = {"--replicaof", "127.0.0.1", std::to_string(master_port)}});
  }
  void open_reader(const std::string& url) {
    open(url);
    ReplicaReaderConfig config;
    config.redis = options_for(url);
    config.sample_interval = 50ms;
    config.seed = 7;
    auto reader = ReplicaReader::open(std::move(config), *client_, loop_);
    ASSERT_TRUE(reader) << reader.error().to_string();
    reader_ = std::move(*reader);
  }
  // How many replicas may answer.
  std::size_t ready_count() {
    const auto statuses = reader_->replicas();
    return static_cast<std::size_t>(
        std::count_if(statuses.begin(), statuses.end(),
                      [](const ReplicaStatus& status) { return status.lag.has_value(); }));
  }
  bool wait_ready(std::size_t count) {
    return poll_until([&] { return ready_count() == count; }, kPatience);
  }
  Result<ReplicaReply> read(std::initializer_list<std::string_view> words,
                            ReplicaReadOptions options = {.staleness_max = 60s},
                            Retry retry = Retry::kSafe, Duration timeout = kPatience) {
    const auto answer = std::make_shared<std::promise<Result<ReplicaReply>>>();
    auto future = answer->get_future();
    reader_->read(Command{retry, words}, options, in(timeout),
                  [answer](Result<ReplicaReply> result) { answer->set_value(std::move(result)); });
    return future.get();
  }

  std::unique_ptr<ReplicaReader> reader_;
};

TEST_F(ReplicaReaderTest, ReadsFromEveryReplicaInTurnAndNotFromTheMaster) {
  const auto master = RedisServer::start();
  const auto first = start_replica(master->port());
  const auto second = start_replica(master->port());
  open_reader(master->url());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  ASSERT_TRUE(wait_ready(2));
  ASSERT_TRUE(poll_until([&] {
    return first->command({"GET", "k"}) == "v" && second->command({"GET", "k"}) == "v";
  }));
  // Again where the machine stood still for a while: a replica that has been silent for 200 ms is
  // passed over.
  EXPECT_TRUE(poll_until(
      [&] {
        std::vector<int> answers(2);
        for (int i = 0; i < 10; ++i) {
          const auto answer = read({"GET", "k"});
          if (!answer) ADD_FAILURE() << answer.error().to_string();
          if (!answer || !answer->lag) return false;
          EXPECT_EQ(answer->reply.text, "v");
          EXPECT_GT(answer->lag->behind_max, 0ms);
          EXPECT_GE(answer->lag->behind_max, answer->lag->sampled_ago);
          ++answers[answer->server.port == first->port() ? 0 : 1];
        }
        return answers[0] > 0 && answers[1] > 0;
      },
      kPatience));
}

// The promise: every write acknowledged more than behind_max before the read was sent is seen.
TEST_F(ReplicaReaderTest, AnAnswerIsNoFurtherBehindThanItSays) {
  const auto master = RedisServer::start();
  TcpProxy line{master->port()};
  const auto replica = start_replica(line.port());
  open_reader(master->url());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "n", "0"}));
  ASSERT_TRUE(wait_ready(1));
  ASSERT_TRUE(poll_until([&] { return replica->command({"GET", "n"}) == "0"; }));
  line.set_server_to_client({.delay = 200ms});

  Mutex mutex;
  std::vector<TimePoint> acknowledged;  // By value - 1.
  std::atomic<bool> is_over{false};
  std::thread writer{[&] {
    while (!is_over) {
      if (!call(Retry::kIfNotSent, {"INCR", "n"})) continue;
      MutexLock lock{mutex};
      acknowledged.push_back(Clock::system().now());
    }
  }};
  Duration behind_most{};
  std::uint64_t bytes_most = 0;
  int reads = 0;
  int lagging = 0;
  // Long enough for the lag to be there and to be sampled, on any machine.
  const auto has_seen_enough = [&] {
    const TimePoint before = Clock::system().now();
    const auto answer = read({"GET", "n"}, {.staleness_max = 60s, .from = ReadFrom::kReplica});
    if (!answer) return false;  // Too far behind for a moment, on a machine that stands still.
    const auto value = static_cast<std::size_t>(std::stoll(answer->reply.text));
    MutexLock lock{mutex};
    const TimePoint horizon = before - answer->lag->behind_max;
    const auto owed = static_cast<std::size_t>(
        std::upper_bound(acknowledged.begin(), acknowledged.end(), horizon) - acknowledged.begin());
    EXPECT_GE(value, owed);
    lagging += value < acknowledged.size() ? 1 : 0;
    behind_most = std::max(behind_most, answer->lag->behind_max);
    bytes_most = std::max(bytes_most, answer->lag->bytes);
    return ++reads >= 2000 && lagging >= 500;
  };
  EXPECT_TRUE(poll_until(has_seen_enough, kPatience, 1ms));
  is_over = true;
  writer.join();
  EXPECT_GT(lagging, 0);
  EXPECT_GE(behind_most, 150ms);
  EXPECT_GT(bytes_most, 0u);
}

TEST_F(ReplicaReaderTest, WhoAcceptsLessThanIsKnownIsAnsweredByTheMaster) {
  const auto master = RedisServer::start();
  const auto replica = start_replica(master->port());
  open_reader(master->url());
  ASSERT_TRUE(wait_ready(1));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  replica->command({"REPLICAOF", "127.0.0.1", "1"});  // Follows nobody from here on.
  ASSERT_TRUE(poll_until([&] { return reader_->replicas().empty(); }, kPatience));
  const auto answer = read({"GET", "k"});
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(answer->reply.text, "v");
  EXPECT_FALSE(answer->lag);
  const auto refused = read({"GET", "k"}, {.staleness_max = 60s, .from = ReadFrom::kReplica});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(refused.error().message.find("none online"), std::string::npos)
      << refused.error().message;
}

TEST_F(ReplicaReaderTest, AReplicaThatHangsIsPassedOver) {
  const auto master = RedisServer::start();
  const auto replica = start_replica(master->port());
  open_reader(master->url());
  ASSERT_TRUE(wait_ready(1));
  replica->stop_process();
  // What was given to it is answered by the master, long before its deadline.
  const auto answer = read({"GET", "k"});
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_FALSE(answer->lag);
  const auto refused = read({"GET", "k"}, {.staleness_max = 60s, .from = ReadFrom::kReplica});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("it does not answer"), std::string::npos)
      << refused.error().message;
  replica->continue_process();
  EXPECT_TRUE(poll_until(
      [&] {
        const auto again = read({"GET", "k"});
        return again && again->lag;
      },
      kPatience));
}

TEST_F(ReplicaReaderTest, ReadsOfADyingReplicaAreAnsweredByAnother) {
  const auto master = RedisServer::start();
  const auto first = start_replica(master->port());
  const auto second = start_replica(master->port());
  open_reader(master->url());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  ASSERT_TRUE(wait_ready(2));
  ASSERT_TRUE(poll_until([&] { return second->command({"GET", "k"}) == "v"; }));
  first->stop_process();
  std::vector<std::shared_ptr<std::promise<Result<ReplicaReply>>>> answers;
  for (int i = 0; i < 100; ++i) {
    answers.push_back(std::make_shared<std::promise<Result<ReplicaReply>>>());
    reader_->read(Command{Retry::kSafe, {"GET", "k"}},
                  {.staleness_max = 60s, .from = ReadFrom::kReplica}, in(kPatience),
                  [answer = answers.back()](Result<ReplicaReply> result) {
                    answer->set_value(std::move(result));
                  });
  }
  first->kill();
  for (const auto& answer : answers) {
    auto result = answer->get_future().get();
    // On a machine that stands still the other may not answer either for a while.
    ASSERT_TRUE(poll_until(
        [&] {
          if (result || result.error().code != ErrorCode::kUnavailable) return true;
          EXPECT_NE(result.error().message.find("no replica may answer"), std::string::npos)
              << result.error().to_string();
          result = read({"GET", "k"}, {.staleness_max = 60s, .from = ReadFrom::kReplica});
          return result.has_value();
        },
        kPatience));
    ASSERT_TRUE(result) << result.error().to_string();
    EXPECT_EQ(result->reply.text, "v");
    EXPECT_EQ(result->server.port, second->port());
  }
  // And it is read from again when it is back.
  first->restart();
  EXPECT_TRUE(wait_ready(2));
}

TEST_F(ReplicaReaderTest, GoesOnWithoutTheMasterForThoseWhoAcceptIt) {
  const auto master = RedisServer::start();
  const auto replica = start_replica(master->port());
  open_reader(master->url());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  ASSERT_TRUE(wait_ready(1));
  ASSERT_TRUE(poll_until([&] { return replica->command({"GET", "k"}) == "v"; }));
  master->kill();
  ASSERT_TRUE(poll_until(
      [&] {
        const auto answer = read({"GET", "k"}, {.staleness_max = 60s, .from = ReadFrom::kReplica});
        return answer && answer->reply.text == "v" && answer->lag->behind_max >= 1s;
      },
      kPatience));
  // Refused at once; why, when the master's end has been seen and the replica is being asked.
  const auto is_refused = [&](std::chrono::milliseconds staleness_max, const char* why) {
    return poll_until(
        [&] {
          const auto reply =
              read({"GET", "k"}, {.staleness_max = staleness_max, .from = ReadFrom::kReplica});
          EXPECT_FALSE(reply);
          return !reply && reply.error().message.find(why) != std::string::npos;
        },
        kPatience);
  };
  EXPECT_TRUE(is_refused(500ms, "the master cannot be asked"));
  // One that refuses to answer without its master is believed.
  replica->command({"CONFIG", "SET", "replica-serve-stale-data", "no"});
  EXPECT_TRUE(is_refused(60s, "MASTERDOWN"));
}

TEST_F(ReplicaReaderTest, FollowsAFailover) {
  const auto setup = SentinelSetup::start();
  open_reader(setup->url());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  ASSERT_TRUE(wait_ready(2));
  setup->server(0).kill();
  ASSERT_TRUE(wait_data_lost());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "w"}, 120s));
  const int promoted = setup->wait_for_new_master(0);
  ASSERT_GT(promoted, 0);
  const auto& survivor = setup->server(promoted == 1 ? 2 : 1);
  ASSERT_TRUE(poll_until(
      [&] {
        const auto answer = read({"GET", "k"}, {.staleness_max = 1s});
        return answer && answer->lag && answer->server.port == survivor.port() &&
               answer->reply.text == "w";
      },
      kPatience));
}

TEST_F(ReplicaReaderTest, RefusesWhatIsNoRead) {
  const auto master = RedisServer::start();
  open_reader(master->url());
  EXPECT_EQ(read({"SET", "k", "v"}, {}, Retry::kIfNotSent).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(read({"GET", "k"}, {.staleness_max = 0ms}).error().code, ErrorCode::kInvalidArgument);
  ReplicaReaderConfig config;
  config.redis = options_for(master->url());
  config.sample_interval = 1ms;
  EXPECT_FALSE(ReplicaReader::open(config, *client_, loop_));
  reader_->close();
  EXPECT_EQ(read({"GET", "k"}).error().code, ErrorCode::kClosed);
}

TEST_F(ReplicaReaderTest, ClosesWhileReadsWait) {
  const auto master = RedisServer::start();
  const auto replica = start_replica(master->port());
  open_reader(master->url());
  ASSERT_TRUE(wait_ready(1));
  replica->stop_process();
  std::atomic<int> answer_count{0};
  for (int i = 0; i < 10; ++i) {
    reader_->read(Command{Retry::kSafe, {"GET", "k"}},
                  {.staleness_max = 60s, .from = ReadFrom::kReplica}, in(kPatience),
                  [&answer_count](const Result<ReplicaReply>& answer) {
                    EXPECT_FALSE(answer);  // kClosed, unless this thread stood still for long.
                    ++answer_count;
                  });
  }
  reader_->close();
  EXPECT_EQ(answer_count, 10);
}

}  // namespace
}  // namespace tiercel::l2
