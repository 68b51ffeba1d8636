// Users, passwords and permissions: each refusal has its own text, and no text has a secret.

#include "client_fixture.h"
#include "support/fake_server.h"
#include "support/redis_server.h"
#include "support/test_certificates.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::CertificateFiles;
using tiercel::testing::RedisServer;
using tiercel::testing::TestAuthority;

class ClientAclTest : public ClientTest {
 protected:
  // Waits until the client says what is wrong with the data link (or the stream), and expects it.
  void expect_trouble(bool of_stream, const std::vector<std::string>& parts) {
    std::optional<Error> trouble;
    ASSERT_TRUE(poll_until([&] {
      trouble = of_stream ? client_->stream_trouble() : client_->data_trouble();
      return trouble && trouble->message.find(parts[0]) != std::string::npos;
    })) << parts[0]
        << "\n"
        << (trouble ? trouble->message : "no trouble");
    EXPECT_EQ(trouble->code, ErrorCode::kInvalidArgument) << trouble->message;
    for (const std::string& part : parts) {
      EXPECT_NE(trouble->message.find(part), std::string::npos) << part << "\n" << trouble->message;
    }
  }
  void expect_data_trouble(const std::vector<std::string>& parts) {
    expect_trouble(false, parts);
    EXPECT_EQ(call(Retry::kIfNotSent, {"SET", "k", "v"}).error().code, ErrorCode::kInvalidArgument);
  }
};

TEST_F(ClientAclTest, EachRefusalHasItsOwnText) {
  const auto server = RedisServer::start();
  const auto set_user = [&](std::vector<std::string> rules) {
    std::vector<std::string> words{"ACL", "SETUSER"};
    words.insert(words.end(), rules.begin(), rules.end());
    EXPECT_EQ(server->command(words), "OK");
  };
  const std::string host = "127.0.0.1:" + std::to_string(server->port());
  set_user({"app", "on", ">pw", "~*", "&*", "+@all"});

  open("redis://app:bad@" + host);
  expect_data_trouble({"password for user 'app' is wrong", "WRONGPASS"});
  open("redis://ghost:pw@" + host);
  expect_data_trouble({"user 'ghost'", "unknown"});
  set_user({"app", "off"});
  open("redis://app:pw@" + host, "news");
  expect_data_trouble({"user 'app'", "disabled"});
  expect_trouble(true, {"user 'app'", "disabled"});
  set_user({"app", "on", "-role"});  // Each is said as soon as the one before is mended.
  expect_data_trouble({"+role is missing", "user 'app'", "NOPERM"});
  set_user({"app", "+role", "-info"});
  expect_data_trouble({"+info is missing"});
  set_user({"app", "+info", "-subscribe"});
  ASSERT_TRUE(wait_data_up());
  expect_trouble(true, {"+subscribe is missing", "channel 'news'"});
  set_user({"app", "+subscribe", "resetchannels", "&other"});
  expect_trouble(true, {"&news is missing", "channel 'news'", "user 'app'"});
  set_user({"app", "&news"});
  ASSERT_TRUE(wait_stream_up());

  // Of a command the server itself says it, to the one who sent it.
  set_user({"app", "-get", "resetkeys", "~k*"});
  const auto get = call(Retry::kSafe, {"GET", "k"});
  ASSERT_TRUE(get);
  EXPECT_TRUE(get->is_error("NOPERM")) << get->text;
  EXPECT_NE(get->text.find("'get'"), std::string::npos) << get->text;

  open("redis://app:pw@" + host + "/3");
  ASSERT_TRUE(wait_data_up());
  set_user({"app", "-select"});
  open("redis://app:pw@" + host + "/3");
  expect_data_trouble({"+select is missing"});

  set_user(
      {"app", "+select", "-client|setname"});  // The name of the connection is only for people.
  open("redis://app:pw@" + host);
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));

  // A user who goes takes the connection along; who comes back is let in.
  EXPECT_EQ(server->command({"ACL", "DELUSER", "app"}), "1");
  expect_data_trouble({"user 'app'", "unknown"});
  set_user({"app", "on", ">pw", "~*", "+@all"});
  EXPECT_TRUE(observe([](const Observed& seen) { return seen.is_data_up; }));

  set_user({"default", "off"});
  open("redis://" + host);
  expect_data_trouble({"none is configured", "is off", "NOAUTH"});
}

constexpr const char* kPassword = "hunter2-PASSWORD";
constexpr const char* kPassphrase = "hunter2-PASSPHRASE";
constexpr const char* kSentinelPassword = "hunter2-SENTINEL";

// Everything that the client says, whatever the level.
class ClientSecretsTest : public ClientTest {
 protected:
  void add(const std::string& text) {
    MutexLock lock{texts_mutex_};
    texts_.append(text).append("\n");
  }
  [[nodiscard]] std::string texts() const {
    MutexLock lock{texts_mutex_};
    return texts_;
  }

  // Opens, waits for failures, and writes down all that is said. `said` must be among it.
  void run(RedisOptions options, const std::string& said) {
    options.backoff_max = 20ms;
    client_.reset();
    {
      MutexLock lock{texts_mutex_};
      texts_.clear();
    }
    ClientConfig config;
    config.redis = std::move(options);
    config.channel = "news";
    config.log = [this](LogLevel, std::string_view text) { add(std::string{text}); };
    auto client = Client::open(std::move(config), loop_);
    if (client) {
      client_ = std::move(*client);
      EXPECT_TRUE(poll_until([&] {
        return client_->stats().connects_failed >= 2 && texts().find(said) != std::string::npos;
      })) << said;
      const auto reply = call(Retry::kIfNotSent, {"SET", "k", "v"}, 200ms);
      add(reply ? reply->text : reply.error().to_string());
      for (const auto& trouble : {client_->data_trouble(), client_->stream_trouble()}) {
        if (trouble) add(trouble->to_string());
      }
      client_.reset();
    } else {
      add(client.error().to_string());
    }
    const std::string all = texts();
    EXPECT_NE(all.find(said), std::string::npos) << said << "\n" << all;
    EXPECT_EQ(all.find("hunter2"), std::string::npos) << all;
    ++runs_;
  }

  mutable Mutex texts_mutex_;
  std::string texts_ TIERCEL_GUARDED_BY(texts_mutex_);
  int runs_ = 0;
};

RedisOptions at(std::uint16_t port, const std::string& username = "app") {
  RedisOptions options;
  options.server = Endpoint{"127.0.0.1", port, {}};
  options.credentials = {username, kPassword};
  options.sentinel_credentials = {"", kSentinelPassword};
  options.connect_timeout = 5s;
  return options;
}

TEST_F(ClientSecretsTest, NoPlainFailureTellsThem) {
  const auto server = RedisServer::start({.arguments = {"--requirepass", "other"}});
  run(at(server->port()), "user 'app'");
  run(at(server->port(), ""), "the default user");
  const auto set_user = [&](const std::string& rule) {
    EXPECT_EQ(server->command({"ACL", "SETUSER", "app", "on", std::string{">"} + kPassword, "~*",
                               "+@all", "resetchannels", rule},
                              "other"),
              "OK");
  };
  set_user("-role");
  run(at(server->port()), "+role is missing");
  set_user("+role");
  run(at(server->port()), "&news is missing");
  set_user("off");
  run(at(server->port()), "disabled");
  const auto open_server = RedisServer::start();
  run(at(open_server->port(), ""), "remove ours");
  // Repeats what it is sent, password and all.
  FakeServer parrot{[](const FakeServer::Words& request) {
    std::string text = "-ERR unknown command, args:";
    for (const std::string& word : request) text += " '" + word + "'";
    return text + "\r\n";
  }};
  run(at(parrot.port()), "withheld");
  FakeServer garbler{[](const FakeServer::Words& request) {
    return "?" + request.back() + "\r\n";  // No reply of any kind.
  }};
  run(at(garbler.port()), "cannot read the reply");

  for (const std::uint16_t port : {server->port(), parrot.port()}) {
    RedisOptions sentinels = at(port);
    sentinels.sentinels = {std::exchange(sentinels.server, {})};
    sentinels.master_name = "mymaster";
    run(sentinels, "no Sentinel names the master");
  }
  EXPECT_EQ(runs_, 10);
}

TEST_F(ClientSecretsTest, NoTlsFailureTellsThem) {
  const TestAuthority authority;
  const TestAuthority stranger{"Stranger"};
  const CertificateFiles ours = authority.issue({.passphrase = kPassphrase});
  const CertificateFiles strange = stranger.issue({.passphrase = kPassphrase});
  const CertificateFiles locked = authority.issue({.passphrase = "another"});
  const auto start = [&](const testing::CertificateSpec& spec) {
    const CertificateFiles files = authority.issue(spec);
    return RedisServer::start(
        {.arguments = {"--requirepass", "other"},
         .tls = testing::RedisTls{authority.file(), files.certificate, files.key, "yes"}});
  };
  const auto tls = [&](const RedisServer& server, const CertificateFiles& files) {
    RedisOptions options = at(server.port());
    options.tls = TlsOptions{.ca_file = authority.file(),
                             .certificate_file = files.certificate,
                             .key_file = files.key,
                             .key_passphrase = kPassphrase};
    return options;
  };
  const auto server = start({});
  run(tls(*server, ours), "WRONGPASS");
  run(tls(*server, strange), "refuses our client certificate");
  run(tls(*server, locked), "cannot be decrypted");
  run(tls(*server, {ours.certificate, "/nowhere"}), "No such file");
  run(tls(*server, {ours.certificate, strange.key}), "is not the key of");
  RedisOptions bare = tls(*server, ours);
  bare.tls->certificate_file = bare.tls->key_file = bare.tls->key_passphrase = "";
  run(bare, "wants a client certificate");
  RedisOptions untrusting = tls(*server, ours);
  untrusting.tls->ca_file = stranger.file();
  run(untrusting, "CA is unknown");
  RedisOptions careless = tls(*server, ours);
  careless.tls->insecure_skip_verification = true;
  run(careless, "insecure_skip_verification");
  RedisOptions sentinels = tls(*server, ours);
  sentinels.sentinels = {std::exchange(sentinels.server, {})};
  sentinels.master_name = "mymaster";
  run(sentinels, "no Sentinel names the master");
  run(at(server->port()), "use rediss://");  // Plain to a TLS port.
  run(tls(*start({.begins = -10h, .ends = -1h}), ours), "expired");
  run(tls(*start({.names = {"DNS:redis.example"}}), ours), "not for '127.0.0.1'");
  const auto plain = RedisServer::start();
  RedisOptions mistaken = tls(*plain, ours);
  mistaken.connect_timeout = 100ms;
  run(mistaken, "does not speak TLS");
  EXPECT_EQ(runs_, 13);
}

}  // namespace
}  // namespace tiercel::l2
