// The other forms of a command: by view, awaited, blocking by the hundred, in batches; and the
// client in a forked child and on a loop of the user's.

#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <thread>

#include "client_fixture.h"
#include "fake_sentinel.h"
#include "support/detached.h"
#include "support/redis_server.h"
#include "tiercel/l2/replica_reader.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;

class ClientForms : public ClientTest {};

TEST_F(ClientForms, AViewIsTheReplyUncopied) {
  const auto server = RedisServer::start();
  open(server->url());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "value"}));
  std::promise<std::string> seen;
  client_->submit_view(
      Command{Retry::kSafe, {"MGET", "k", "missing"}}, in(kPatience), [&](Result<ReplyView> reply) {
        seen.set_value(std::string{(*reply)[0].text()} + ((*reply)[1].is_nil() ? " nil" : " ?"));
      });
  EXPECT_EQ(seen.get_future().get(), "value nil");

  static const Script script{"return {KEYS[1], ARGV[1]}"};
  const std::string_view keys[] = {"key"};
  const std::string_view arguments[] = {"argument"};
  std::promise<std::string> scripted;
  client_->submit_script_view(
      script, keys, arguments, Retry::kSafe, in(kPatience), [&](Result<ReplyView> reply) {
        scripted.set_value(reply ? std::string{(*reply)[1].text()} : reply.error().to_string());
      });
  EXPECT_EQ(scripted.get_future().get(), "argument");

  client_->close();
  std::optional<ErrorCode> refused;
  client_->submit_view(Command{Retry::kSafe, "PING"}, in(kPatience),
                       [&](Result<ReplyView> reply) { refused = reply.error().code; });
  EXPECT_EQ(refused, ErrorCode::kClosed);
}

// Parameters and not captures: they live in the coroutine's frame.
testing::Detached increment(Client& client, EventLoop& loop, int times, TimePoint deadline,
                            std::atomic<int>& right, std::atomic<int>& finished) {
  for (int i = 0; i < times; ++i) {
    const auto reply = co_await client.execute(Command{Retry::kIfNotSent, "INCR", "n"}, deadline);
    if (reply && reply->is_integer() && loop.on_loop_thread()) right.fetch_add(1);
  }
  finished.fetch_add(1);
}

TEST_F(ClientForms, CoroutinesGoOnOnTheLoopThread) {
  const auto server = RedisServer::start();
  open(server->url());
  std::atomic<int> right{0};
  std::atomic<int> finished{0};
  for (int i = 0; i < 100; ++i) {
    increment(*client_, loop_, 100, in(kPatience), right, finished);
  }
  ASSERT_TRUE(poll_until([&] { return finished == 100; }, kPatience));
  EXPECT_EQ(right, 10'000);
  EXPECT_EQ(server->command({"GET", "n"}), "10000");
}

testing::Detached collect_codes(Client& client, TimePoint deadline, int times,
                                std::vector<ErrorCode>& codes, std::atomic<bool>& finished) {
  for (int i = 0; i < times; ++i) {
    const auto reply = co_await client.execute(Command{Retry::kSafe, "PING"}, deadline);
    codes.push_back(reply ? ErrorCode::kInternal : reply.error().code);
  }
  finished = true;
}

TEST_F(ClientForms, ACoroutineIsAnsweredByCloseAndThenAtOnce) {
  const auto server = RedisServer::start();
  open(server->url());
  ASSERT_TRUE(wait_data_up());
  server->stop_process();
  std::vector<ErrorCode> codes;
  std::atomic<bool> finished{false};
  // The first waits; the rest are refused where they stand, without one stack frame for each.
  collect_codes(*client_, in(kPatience), 100'000, codes, finished);
  client_->close();
  ASSERT_TRUE(poll_until([&] { return finished.load(); }, kPatience));
  ASSERT_EQ(codes.size(), 100'000u);
  for (const ErrorCode code : codes) ASSERT_EQ(code, ErrorCode::kClosed);
  server->continue_process();
}

TEST_F(ClientForms, AHundredThreadsBlockEachForItsOwnAnswer) {
  const auto server = RedisServer::start();
  open(server->url());
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 100; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string word = std::to_string(t) + ":" + std::to_string(i);
        const auto reply = client_->call(Command{Retry::kSafe, {"ECHO", word}}, in(kPatience));
        if (reply && reply->text == word) right.fetch_add(1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, 5000);
}

// And nothing that others submit meanwhile is left lying.
TEST_F(ClientForms, WhatIsSubmittedTogetherLeavesAtItsEnd) {
  const auto server = RedisServer::start();
  open(server->url());
  constexpr int kTimes = 200;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kTimes; ++i) {
        ASSERT_TRUE(call(Retry::kIfNotSent, {"INCR", "others"}));
      }
    });
  }
  for (int i = 0; i < kTimes; ++i) {
    Pending first;
    Pending second;
    loop_.post([&] {
      client_->submit_together([&] {
        client_->submit(Command{Retry::kIfNotSent, "INCR", "n"}, in(kPatience), first.callback());
        client_->submit(Command{Retry::kSafe, "GET", "n"}, in(kPatience), second.callback());
      });
    });
    const auto counted = first.get();
    const auto read = second.get();
    ASSERT_TRUE(counted && read);
    ASSERT_EQ(counted->integer, i + 1);
    ASSERT_EQ(read->text, std::to_string(i + 1));
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(server->command({"GET", "others"}), std::to_string(4 * kTimes));
}

TEST_F(ClientForms, GetsAndSetsTenThousandKeysInOneCall) {
  const auto server = RedisServer::start();
  open(server->url());
  constexpr std::size_t kKeys = 10'000;
  std::vector<std::string> keys;
  std::vector<std::string> values;
  for (std::size_t i = 0; i < kKeys; ++i) {
    keys.push_back("key" + std::to_string(i));
    // Small ones, empty ones, and some that are commands of their own.
    values.emplace_back(i % 1000 == 7 ? 70'000 : i % 50, static_cast<char>('a' + i % 26));
  }
  std::vector<KeyValue> entries;
  for (std::size_t i = 0; i < kKeys; ++i) {
    if (i % 10 != 3) entries.push_back({keys[i], values[i]});
  }
  std::promise<BatchErrors> written;
  client_->set_many(entries, std::nullopt, in(kPatience),
                    [&](BatchErrors errors) { written.set_value(std::move(errors)); });
  const BatchErrors errors = written.get_future().get();
  EXPECT_TRUE(errors.empty()) << errors.first()->to_string();
  EXPECT_EQ(server->command({"DBSIZE"}), "9000");
  EXPECT_EQ(server->command({"LPUSH", keys[3], "not a string"}), "1");

  const std::vector<std::string_view> wanted{keys.begin(), keys.end()};
  std::promise<ValueBatch> got;
  client_->get_many(wanted, in(kPatience),
                    [&](ValueBatch batch) { got.set_value(std::move(batch)); });
  const ValueBatch batch = got.get_future().get();
  ASSERT_EQ(batch.size(), kKeys);
  EXPECT_TRUE(batch.errors().empty());
  for (std::size_t i = 0; i < kKeys; ++i) {
    ASSERT_EQ(batch[i].has_value(), i % 10 != 3) << i;
    if (batch[i]) {
      ASSERT_EQ(*batch[i], values[i]) << i;
    }
  }

  std::promise<BatchErrors> mortal;
  client_->set_many(std::span{entries}.first(100), 60'000ms, in(kPatience),
                    [&](BatchErrors failed) { mortal.set_value(std::move(failed)); });
  EXPECT_TRUE(mortal.get_future().get().empty());
  EXPECT_GT(std::stoll(server->command({"PTTL", std::string{entries[99].key}})), 0);
  EXPECT_EQ(server->command({"PTTL", std::string{entries[100].key}}), "-1");
}

// What one command reads is copied in one go, so where values are large it reads few of them.
TEST_F(ClientForms, LargeValuesAreReadBySmallerCommands) {
  const auto server = RedisServer::start();
  auto options = options_for(server->url());
  options.queue_commands_max = 100;
  open(options);
  constexpr std::size_t kKeys = 2 * kKeysPerPart + 9;
  std::vector<std::string> names;
  std::vector<std::string> values;
  std::vector<KeyValue> entries;
  for (std::size_t i = 0; i < kKeys; ++i) {
    names.push_back("key" + std::to_string(i));
    values.emplace_back(40'000 + i, static_cast<char>('a' + i % 26));
  }
  for (std::size_t i = 0; i < kKeys; ++i) entries.push_back({names[i], values[i]});
  std::promise<BatchErrors> written;
  client_->set_many(entries, std::nullopt, in(kPatience),
                    [&](BatchErrors errors) { written.set_value(std::move(errors)); });
  ASSERT_TRUE(written.get_future().get().empty());
  const std::vector<std::string_view> wanted{names.begin(), names.end()};
  const auto get = [&] {
    std::promise<ValueBatch> got;
    client_->get_many(wanted, in(kPatience),
                      [&](ValueBatch batch) { got.set_value(std::move(batch)); });
    return got.get_future().get();
  };
  const auto expect_all = [&](const ValueBatch& batch) {
    EXPECT_TRUE(batch.errors().empty());
    for (std::size_t i = 0; i < kKeys; ++i) ASSERT_EQ(batch[i], values[i]) << i;
  };
  expect_all(get());
  EXPECT_EQ(server->calls_of("mget"), 3);
  expect_all(get());
  EXPECT_EQ(server->calls_of("mget"),
            3 + (static_cast<int>(kKeys) + 1) / 2);  // Two at a time: 80 KB.

  // Of a part that is some commands, any may fail, and then all its keys have the error.
  server->stop_process();
  std::promise<ValueBatch> got;
  std::vector<Pending> others;
  for (int i = 0; i < 60; ++i) others.push_back(send(Retry::kSafe, {"PING"}));
  client_->get_many(wanted, in(kPatience),
                    [&](ValueBatch batch) { got.set_value(std::move(batch)); });
  server->continue_process();
  const ValueBatch partly = got.get_future().get();
  EXPECT_EQ(partly.errors().of(0), nullptr);
  ASSERT_NE(partly.errors().of(kKeysPerPart), nullptr);
  EXPECT_EQ(partly.errors().of(kKeysPerPart)->code, ErrorCode::kOverloaded);
  EXPECT_EQ(partly[0], values[0]);
  EXPECT_EQ(partly[kKeys - 1], std::nullopt);
}

TEST_F(ClientForms, ABatchMayFailInPart) {
  const auto server = RedisServer::start();
  auto options = options_for(server->url());
  options.queue_commands_max = 2;
  open(options);
  ASSERT_TRUE(wait_data_up());
  server->stop_process();  // So that no part is done before the third is refused.
  std::vector<std::string> names;
  for (std::size_t i = 0; i < 3 * kKeysPerPart; ++i) names.push_back(std::to_string(i));
  const std::vector<std::string_view> keys{names.begin(), names.end()};
  std::promise<ValueBatch> got;
  client_->get_many(keys, in(kPatience),
                    [&](ValueBatch batch) { got.set_value(std::move(batch)); });
  server->continue_process();
  const ValueBatch batch = got.get_future().get();
  EXPECT_EQ(batch.errors().of(0), nullptr);
  EXPECT_EQ(batch.errors().of(2 * kKeysPerPart - 1), nullptr);
  const Error* const refused = batch.errors().of(2 * kKeysPerPart);
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->code, ErrorCode::kOverloaded);
  EXPECT_EQ(batch.errors().first(), refused);

  // A server that refuses says so for the whole part; and no keys at all is no error.
  EXPECT_EQ(server->command({"CONFIG", "SET", "maxmemory", "1"}), "OK");
  std::promise<BatchErrors> written;
  const KeyValue entry{"k", "v"};
  client_->set_many({&entry, 1}, std::nullopt, in(kPatience),
                    [&](BatchErrors errors) { written.set_value(std::move(errors)); });
  const BatchErrors errors = written.get_future().get();
  ASSERT_NE(errors.of(0), nullptr);
  EXPECT_NE(errors.of(0)->message.find("OOM"), std::string::npos) << errors.of(0)->message;
  bool is_answered = false;
  client_->get_many({}, in(kPatience), [&](const ValueBatch& none) {
    is_answered = none.size() == 0 && none.errors().empty();
  });
  EXPECT_TRUE(is_answered);
}

// In the child everything returns at once, and the parent's connection is as it was.
TEST_F(ClientForms, AForkedChildIsToldThatItIsClosed) {
  const auto server = RedisServer::start();
  auto loop = std::make_unique<EventLoop>();
  ClientConfig config;
  config.redis = options_for(server->url());
  auto opened = Client::open(std::move(config), *loop);
  ASSERT_TRUE(opened);
  std::unique_ptr<Client> client = std::move(*opened);
  ASSERT_TRUE(client->call(Command{Retry::kIfNotSent, "SET", "k", "v"}, in(kPatience)));
  // Busy while it forks, so that locks may be held.
  std::atomic<bool> stop{false};
  std::thread busy{[&] {
    while (!stop) static_cast<void>(client->call(Command{Retry::kSafe, "GET", "k"}, in(kPatience)));
  }};
  const auto connections = client->stats().connects_attempted;
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(60);
      const auto is_closed = [](const Error& error) { return error.code == ErrorCode::kClosed; };
      bool good = false;
      client->submit(Command{Retry::kSafe, "GET", "k"}, in(kPatience),
                     [&](const Result<Reply>& reply) { good = is_closed(reply.error()); });
      good = good && is_closed(client->call(Command{Retry::kSafe, "PING"}, in(1h)).error());
      good = good && is_closed(*client->data_trouble()) && client->stats().commands_waiting == 0;
      ClientConfig another;
      another.redis = options_for("redis://127.0.0.1:1");
      good = good && is_closed(Client::open(std::move(another), *loop).error());
      client->close();
      client.reset();
      loop->stop();
      loop.reset();
      _exit(good ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  stop = true;
  busy.join();
  EXPECT_EQ(client->call(Command{Retry::kSafe, "GET", "k"}, in(kPatience))->text, "v");
  EXPECT_EQ(client->stats().connects_attempted, connections);
}

// Of what the child may ask, and what is not there in the child: no Sentinel, no replica, no loop
// that could tell that all is closed. Locks are held while it forks.
TEST_F(ClientForms, AForkedChildAsksAndClosesWithoutWaiting) {
  FakeSentinel sentinel{{.run_id = "one", .master_port = 1}};
  auto loop = std::make_unique<EventLoop>();
  ClientConfig config;
  config.redis = options_for(sentinel_url({sentinel.port()}, "mymaster"));
  auto opened = Client::open(config, *loop);
  ASSERT_TRUE(opened);
  std::unique_ptr<Client> client = std::move(*opened);
  ReplicaReaderConfig reading;
  reading.redis = config.redis;
  auto reader = ReplicaReader::open(std::move(reading), *client, *loop);
  ASSERT_TRUE(reader);
  ASSERT_EQ(client->sentinels().size(), 1u);
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  for (int i = 0; i < 2; ++i) {
    busy.emplace_back([&] {
      while (!stop) {
        static_cast<void>(client->sentinels());
        static_cast<void>(client->stream_trouble());
        static_cast<void>((*reader)->replicas());
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(60);
      bool good = client->sentinels().empty() && (*reader)->replicas().empty();
      good = good && client->stream_trouble()->code == ErrorCode::kClosed;
      bool is_refused = false;
      (*reader)->read(Command{Retry::kSafe, "GET", "k"}, {}, in(1h),
                      [&](const Result<ReplicaReply>& reply) {
                        is_refused = !reply && reply.error().code == ErrorCode::kClosed;
                      });
      bool is_told = false;
      client->close_then([&] { is_told = true; });
      (*reader)->close();
      reader->reset();
      client.reset();
      loop.reset();
      _exit(good && is_refused && !is_told ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  stop = true;
  for (auto& thread : busy) thread.join();
  (*reader)->close();
}

TEST_F(ClientForms, RunsOnALoopOfTheUsers) {
  const auto server = RedisServer::start();
  uv_loop_t users_loop;
  ASSERT_EQ(uv_loop_init(&users_loop), 0);
  auto loop = std::make_unique<EventLoop>(&users_loop);
  EXPECT_TRUE(loop->on_loop_thread());
  ClientConfig config;
  config.redis = options_for(server->url());
  auto opened = Client::open(std::move(config), *loop);
  ASSERT_TRUE(opened);
  std::unique_ptr<Client> client = std::move(*opened);
  std::string got;
  std::thread other;
  client->submit(Command{Retry::kIfNotSent, "SET", "k", "v"}, in(kPatience),
                 [&](const Result<Reply>& set) {
                   EXPECT_TRUE(set) << set.error().to_string();
                   EXPECT_TRUE(loop->on_loop_thread());
                   other = std::thread{[&] {
                     got = client->call(Command{Retry::kSafe, "GET", "k"}, in(kPatience))->text;
                     client->close_then([&] {
                       client.reset();
                       loop.reset();
                     });
                   }};
                 });
  EXPECT_EQ(uv_run(&users_loop, UV_RUN_DEFAULT), 0);  // Ends when all of ours is closed.
  other.join();
  EXPECT_EQ(got, "v");
  EXPECT_EQ(client, nullptr);
  EXPECT_EQ(uv_loop_close(&users_loop), 0);
}

TEST_F(ClientForms, CloseThenAnswersAndTells) {
  const auto server = RedisServer::start();
  open(server->url(), "channel");
  ASSERT_TRUE(wait_data_up());
  server->stop_process();
  const Pending read = send(Retry::kSafe, {"GET", "k"});
  std::promise<bool> told;
  client_->close_then([&] { told.set_value(read.has_come()); });
  EXPECT_TRUE(told.get_future().get());
  EXPECT_EQ(read.get().error().code, ErrorCode::kClosed);
  std::promise<void> again;
  client_->close_then([&] { again.set_value(); });  // Also when it is closed already.
  again.get_future().get();
  client_->close();
  server->continue_process();
}

}  // namespace
}  // namespace tiercel::l2
