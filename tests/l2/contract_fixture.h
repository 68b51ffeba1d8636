#pragma once

// The contract: what the client may rely on of the commands that it and its users send. Every test
// runs against the real Redis and against FakeServer, over TCP and over a Unix socket: what holds
// of one and not of the other is a bug of the fake, or a promise that nobody gave.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client_fixture.h"
#include "support/blocking_redis.h"
#include "support/fake_server.h"
#include "support/redis_server.h"
#include "support/resp_text.h"

namespace tiercel::l2 {

using tiercel::testing::BlockingRedis;
using tiercel::testing::FakeRedis;
using tiercel::testing::RedisServer;
namespace resp = tiercel::testing::resp;
using Kind = Reply::Kind;

enum class Server { kFakeTcp, kFakeUnix, kRealTcp, kRealUnix };

// Returns KEYS[1]'s counter after adding one, and the argument.
inline const Script& count_script() {
  static const Script script{"return redis.call('INCR', KEYS[1]) .. ':' .. ARGV[1]"};
  return script;
}
inline const Script& nested_script() {
  static const Script script{"return {1, {'a', {'', false, {}}, -2}, {}, 'z'}"};
  return script;
}
// An error among other elements, and one that is the whole answer.
inline const Script& partly_failing_script() {
  static const Script script{"return {redis.pcall('INCR', KEYS[1]), 'after'}"};
  return script;
}
inline const Script& failing_script() {
  static const Script script{"return redis.error_reply('MYERR of the script')"};
  return script;
}

class ContractTest : public ClientTest, public ::testing::WithParamInterface<Server> {
 protected:
  void SetUp() override {
    if (is_real()) {
      real_ = RedisServer::start();
    } else {
      fake_ = std::make_unique<FakeServer>();
      add_scripts();
    }
    auto admin = BlockingRedis::connect("127.0.0.1", port());
    ASSERT_TRUE(admin) << admin.error().to_string();
    admin_ = std::make_unique<BlockingRedis>(std::move(*admin));
  }
  void TearDown() override { client_.reset(); }  // Before its server.

  [[nodiscard]] bool is_real() const {
    return GetParam() == Server::kRealTcp || GetParam() == Server::kRealUnix;
  }
  [[nodiscard]] bool is_unix() const {
    return GetParam() == Server::kFakeUnix || GetParam() == Server::kRealUnix;
  }
  [[nodiscard]] std::uint16_t port() const { return is_real() ? real_->port() : fake_->port(); }

  [[nodiscard]] RedisOptions options(const std::string& user_info = {},
                                     std::uint32_t database = 0) const {
    const std::string where = is_unix() ? (is_real() ? real_->unix_path() : fake_->unix_path())
                                        : "127.0.0.1:" + std::to_string(port());
    auto parsed = options_for((is_unix() ? "unix://" : "redis://") + user_info + where);
    parsed.database = database;
    return parsed;
  }
  void open_up(std::string channel = {}) {
    const bool wants_stream = !channel.empty();
    open(options(), std::move(channel));
    ASSERT_TRUE(wait_data_up());
    ASSERT_TRUE(!wants_stream || wait_stream_up());
  }

  // Over a connection of its own, which shares nothing with the client.
  std::string admin(const std::vector<std::string>& words) {
    const auto reply = admin_->command(words);
    return reply ? reply->to_text() : reply.error().to_string();
  }
  // CLIENT LIST's id of the connection with this name.
  std::string id_of(const std::string& name) {
    const std::string list = admin({"CLIENT", "LIST"});
    const auto named = list.find("name=" + name);
    if (named == std::string::npos) return {};
    const auto line = list.rfind('\n', named) + 1;  // npos + 1 is 0.
    const auto id = list.find("id=", line) + 3;
    return list.substr(id, list.find(' ', id) - id);
  }

  Pending run(const Script& script, std::vector<std::string_view> keys,
              std::vector<std::string_view> arguments = {}, Retry retry = Retry::kIfNotSent) {
    Pending pending;
    client_->submit_script(script, keys, arguments, retry, in(kPatience), pending.callback());
    return pending;
  }
  void expect_error(std::initializer_list<std::string_view> words, std::string_view code,
                    std::string_view part) {
    const auto reply = call(Retry::kIfNotSent, words);
    ASSERT_TRUE(reply) << reply.error().to_string();
    EXPECT_TRUE(reply->is_error(code)) << reply->text;
    EXPECT_NE(reply->text.find(part), std::string::npos) << reply->text;
  }

  std::unique_ptr<RedisServer> real_;
  std::unique_ptr<FakeServer> fake_;
  std::unique_ptr<BlockingRedis> admin_;

 private:
  // The same in C++: the fake runs no Lua.
  void add_scripts() {
    using Words = FakeRedis::Words;
    const auto add = [this](const Script& script, auto run) {
      fake_->with_redis([&](FakeRedis& redis) {
        redis.add_script(std::string{script.source()}, {std::string{script.sha1()}, run});
      });
    };
    add(count_script(), [](FakeRedis& redis, FakeRedis::Session& session, const Words& keys,
                           const Words& arguments) {
      std::string number = redis.execute(session, {"INCR", keys[0]});
      return resp::bulk(number.substr(1, number.size() - 3) + ":" + arguments[0]);
    });
    add(nested_script(), [](FakeRedis&, FakeRedis::Session&, const Words&, const Words&) {
      const std::string inner = resp::array({resp::bulk(""), resp::nil(), resp::array({})});
      return resp::array({resp::integer(1),
                          resp::array({resp::bulk("a"), inner, resp::integer(-2)}), resp::array({}),
                          resp::bulk("z")});
    });
    add(partly_failing_script(),
        [](FakeRedis& redis, FakeRedis::Session& session, const Words& keys, const Words&) {
          return resp::array({redis.execute(session, {"INCR", keys[0]}), resp::bulk("after")});
        });
    add(failing_script(), [](FakeRedis&, FakeRedis::Session&, const Words&, const Words&) {
      return resp::error("MYERR of the script");
    });
  }
};

}  // namespace tiercel::l2
