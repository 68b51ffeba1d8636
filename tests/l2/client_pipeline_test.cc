// Pipelines: many commands handed over together, each answered by itself.

#include <thread>

#include "client_fixture.h"
#include "support/redis_server.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;

class ClientPipeline : public ClientTest {
 protected:
  // The answers of one pipeline, by index; a second one for the same command fails the test.
  class Answers {
   public:
    explicit Answers(std::size_t count) : texts_(count), codes_(count), left_(count) {}

    void take(std::size_t index, const Result<ReplyView>& reply) {
      MutexLock lock{mutex_};
      ASSERT_LT(index, texts_.size());
      EXPECT_FALSE(texts_[index] || codes_[index]) << index << " is answered twice";
      if (reply) {
        texts_[index] =
            reply->is_integer() ? std::to_string(reply->integer()) : std::string{reply->text()};
      } else {
        codes_[index] = reply.error().code;
      }
      --left_;
    }
    [[nodiscard]] bool wait() {
      return poll_until(
          [this] {
            MutexLock lock{mutex_};
            return left_ == 0;
          },
          kPatience);
    }
    [[nodiscard]] std::string text(std::size_t index) {
      MutexLock lock{mutex_};
      return texts_[index].value_or("no reply");
    }
    [[nodiscard]] std::optional<ErrorCode> code(std::size_t index) {
      MutexLock lock{mutex_};
      return codes_[index];
    }

   private:
    Mutex mutex_;
    std::vector<std::optional<std::string>> texts_ TIERCEL_GUARDED_BY(mutex_);
    std::vector<std::optional<ErrorCode>> codes_ TIERCEL_GUARDED_BY(mutex_);
    std::size_t left_ TIERCEL_GUARDED_BY(mutex_);
  };

  std::shared_ptr<Answers> submit(Pipeline& pipeline, Duration timeout = kPatience) {
    auto answers = std::make_shared<Answers>(pipeline.size());
    client_->submit_pipeline(pipeline, in(timeout),
                             [answers](std::size_t index, const Result<ReplyView>& reply) {
                               answers->take(index, reply);
                             });
    EXPECT_TRUE(pipeline.empty());
    return answers;
  }
  // The callback, and what it holds, goes with the last answer.
  static void expect_released(const std::shared_ptr<Answers>& answers) {
    EXPECT_TRUE(poll_until([&] { return answers.use_count() == 1; }));
  }
};

TEST_F(ClientPipeline, EachCommandGetsItsOwnAnswer) {
  const auto server = RedisServer::start();
  open(server->url());
  Pipeline pipeline;
  const std::string large(100'000, 'x');
  for (int round = 0; round < 3; ++round) {  // It is used again.
    for (int i = 0; i < 1000; ++i) {
      pipeline.add(Retry::kSafe, "ECHO", std::to_string(i) + (i % 100 == 7 ? large : ""));
    }
    EXPECT_EQ(pipeline.size(), 1000u);
    const auto answers = submit(pipeline);
    ASSERT_TRUE(answers->wait());
    for (std::size_t i = 0; i < 1000; ++i) {
      ASSERT_EQ(answers->text(i), std::to_string(i) + (i % 100 == 7 ? large : "")) << i;
    }
    expect_released(answers);
  }
  EXPECT_EQ(client_->stats().commands_submitted, 3000u);
  pipeline.add(Retry::kSafe, {"PING"});
  pipeline.clear();
  client_->submit_pipeline(pipeline, in(kPatience), [](std::size_t, const Result<ReplyView>&) {
    FAIL() << "there is nothing to answer";
  });
}

TEST_F(ClientPipeline, KeepsTheOrderAmongOtherCommands) {
  const auto server = RedisServer::start();
  open(server->url());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, key = "k" + std::to_string(t)] {
      Pipeline pipeline;
      for (int i = 0; i < 300; ++i) {
        pipeline.add(Retry::kIfNotSent, "SET", key, std::to_string(2 * i));
        pipeline.add(Retry::kSafe, "GET", key);
        const auto answers = submit(pipeline);
        const Pending set = send(Retry::kIfNotSent, {"SET", key, std::to_string(2 * i + 1)});
        EXPECT_EQ(text_of({"GET", key}), std::to_string(2 * i + 1));
        EXPECT_TRUE(set.get());
        ASSERT_TRUE(answers->wait());
        EXPECT_EQ(answers->text(1), std::to_string(2 * i));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_F(ClientPipeline, IsRefusedAsAWhole) {
  const auto server = RedisServer::start();
  auto options = options_for(server->url());
  options.queue_commands_max = 10;
  open(options);
  ASSERT_TRUE(wait_data_up());
  server->stop_process();
  Pipeline pipeline;
  for (int i = 0; i < 11; ++i) pipeline.add(Retry::kSafe, "PING");
  const auto too_long = submit(pipeline);
  EXPECT_EQ(too_long->code(10), ErrorCode::kInvalidArgument);
  for (int i = 0; i < 6; ++i) pipeline.add(Retry::kSafe, "PING");
  const auto accepted = submit(pipeline);
  for (int i = 0; i < 5; ++i) pipeline.add(Retry::kSafe, "PING");
  const auto refused = submit(pipeline);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(refused->code(i), ErrorCode::kOverloaded);
  for (int i = 0; i < 4; ++i) pipeline.add(Retry::kIfNotSent, "PING");
  const auto also_accepted = submit(pipeline);
  EXPECT_EQ(client_->stats().commands_waiting, 10u);
  client_->close();
  ASSERT_TRUE(accepted->wait());
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(accepted->code(i), ErrorCode::kClosed);
  ASSERT_TRUE(also_accepted->wait());
  pipeline.add(Retry::kSafe, "PING");
  EXPECT_EQ(submit(pipeline)->code(0), ErrorCode::kClosed);
  for (const auto& answers : {too_long, accepted, refused, also_accepted}) {
    EXPECT_EQ(answers.use_count(), 2);  // The list above has one.
  }
  server->continue_process();
}

TEST_F(ClientPipeline, EachCommandIsRetriedOrGivenUpByItself) {
  FakeServer fake;
  open(fake.url());
  ASSERT_TRUE(wait_data_up());
  Pipeline pipeline;
  fake.inject({.end_after_bytes = 4}, FakeServer::named("INCR"));  // After the first ":1\r\n".
  for (int i = 0; i < 10; ++i) {
    pipeline.add(Retry::kIfNotSent, "INCR", "n");
    pipeline.add(Retry::kSafe, "ECHO", std::to_string(i));
  }
  const auto answers = submit(pipeline);
  ASSERT_TRUE(answers->wait());
  EXPECT_EQ(answers->text(0), "1");
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(answers->text(2 * i + 1), std::to_string(i));
    if (i > 0) {
      EXPECT_EQ(answers->code(2 * i), ErrorCode::kDeadlineExceeded);
    }
  }
  expect_released(answers);

  fake.freeze();
  for (int i = 0; i < 10; ++i) pipeline.add(Retry::kSafe, "ECHO", "late");
  const auto late = submit(pipeline, 20ms);
  ASSERT_TRUE(late->wait());
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(late->code(i), ErrorCode::kUnavailable);
  expect_released(late);
  fake.thaw();
  EXPECT_EQ(text_of({"ECHO", "in step"}), "in step");
}

}  // namespace
}  // namespace tiercel::l2
