// The client over TLS, against real servers and Sentinels: that it works, and what it says when it
// does not.

#include <filesystem>

#include "client_fixture.h"
#include "support/blocking_redis.h"
#include "support/fake_server.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"
#include "support/test_certificates.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::BlockingRedis;
using tiercel::testing::CertificateFiles;
using tiercel::testing::CertificateSpec;
using tiercel::testing::RedisServer;
using tiercel::testing::RedisTls;
using tiercel::testing::SentinelSetup;
using tiercel::testing::TcpProxy;
using tiercel::testing::TestAuthority;

class ClientTlsTest : public ClientTest {
 protected:
  [[nodiscard]] RedisTls redis_tls(const CertificateFiles& files,
                                   std::string client_certificates = "no") const {
    return {authority_.file(), files.certificate, files.key, std::move(client_certificates)};
  }
  [[nodiscard]] std::unique_ptr<RedisServer> start(const CertificateSpec& spec = {},
                                                   std::string client_certificates = "no",
                                                   std::vector<std::string> arguments = {}) const {
    return RedisServer::start(
        {.arguments = std::move(arguments),
         .tls = redis_tls(authority_.issue(spec), std::move(client_certificates))});
  }
  [[nodiscard]] std::string with_ca(const std::string& url) const {
    return url + "?ca=" + authority_.file();
  }

  // What a command is told at once, and again and again while the client goes on dialling.
  Error refused(const std::string& url) { return refused(options_for(url)); }
  Error refused(RedisOptions options) {
    open(std::move(options));
    const auto reply = call(Retry::kIfNotSent, {"SET", "k", "v"});
    EXPECT_FALSE(reply);
    if (reply) return internal("not refused");
    const Error error = reply.error();
    const auto failed = client_->stats().connects_failed;
    EXPECT_TRUE(poll_until([&] { return client_->stats().connects_failed > failed + 1; }));
    const auto trouble = client_->data_trouble();
    EXPECT_TRUE(trouble);
    if (trouble) {
      EXPECT_EQ(trouble->message.substr(0, 60), error.message.substr(0, 60));
    }
    EXPECT_NE(log().find(error.message.substr(0, 60)), std::string::npos);
    return error;
  }

  static void expect(const Error& error, ErrorCode code, std::vector<std::string> parts) {
    EXPECT_EQ(error.code, code) << error.to_string();
    for (const std::string& part : parts) {
      EXPECT_NE(error.message.find(part), std::string::npos) << part << "\n" << error.to_string();
    }
  }

  // What the client comes to say while commands wait.
  void expect_unavailable(const std::vector<std::string>& parts) {
    std::optional<Error> trouble;
    EXPECT_TRUE(poll_until([&] {
      trouble = client_->data_trouble();
      return trouble && trouble->message.find(parts[0]) != std::string::npos;
    }));
    ASSERT_TRUE(trouble);
    expect(*trouble, ErrorCode::kUnavailable, parts);
    const auto reply = call(Retry::kIfNotSent, {"SET", "k", "v"}, 50ms);
    EXPECT_EQ(reply.error().code, ErrorCode::kUnavailable);
  }

  const TestAuthority authority_;
};

TEST_F(ClientTlsTest, WorksByNameAndByAddress) {
  const auto server = start();
  open(with_ca(server->url()), "news");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "by address"}));
  EXPECT_EQ(text_of({"GET", "k"}), "by address");
  ASSERT_TRUE(wait_stream_up());
  ping("token");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 1; }));
  EXPECT_EQ(server->command({"PUBLISH", "news", "hello"}), "1");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.messages.size() == 1; }));
  EXPECT_FALSE(client_->data_trouble());

  open(with_ca("rediss://localhost:" + std::to_string(server->port())));
  EXPECT_EQ(text_of({"GET", "k"}), "by address");
  EXPECT_EQ(client_->stats().connects_failed, 0u);
}

// IPv6, and what a certificate must say for each way to dial.
TEST_F(ClientTlsTest, VerifiesWhatWasDialled) {
  const std::vector<std::string> both{"--bind", "127.0.0.1", "::1"};
  const auto start_for = [&](std::vector<std::string> names) {
    return start({.names = std::move(names)}, "no", both);
  };
  const auto url = [&](const char* host, const RedisServer& server) {
    return with_ca(std::string{"rediss://"} + host + ":" + std::to_string(server.port()));
  };
  const auto six = start_for({"IP:::1"});
  open(url("[::1]", *six), "news");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v6"}));
  EXPECT_TRUE(wait_stream_up());
  EXPECT_EQ(observer_.seen().data_server.endpoint.to_string(),
            "[::1]:" + std::to_string(six->port()));
  expect(refused(url("127.0.0.1", *six)), ErrorCode::kInvalidArgument, {"not for '127.0.0.1'"});
  expect(refused(url("localhost", *six)), ErrorCode::kInvalidArgument, {"not for 'localhost'"});

  const auto named = start_for({"DNS:localhost"});
  open(url("localhost", *named));
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "by name"}));
  expect(refused(url("[::1]", *named)), ErrorCode::kInvalidArgument, {"not for '::1'"});
}

TEST_F(ClientTlsTest, CarriesLargeValuesBothWays) {
  const auto server = start();
  open(with_ca(server->url()));
  const std::string large(5'000'000, 'v');
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "large", large}));
  EXPECT_TRUE(call(Retry::kSafe, {"GET", "large"})->text == large);
  const std::string value(300'000, 'x');
  std::vector<Pending> answers;
  for (int i = 0; i < 150; ++i) answers.push_back(send(Retry::kSafe, {"ECHO", value}));
  for (const Pending& answer : answers) {
    const auto reply = answer.get();
    ASSERT_TRUE(reply) << reply.error().to_string();
    ASSERT_TRUE(reply->text == value);
  }
  std::vector<Pending> small;
  for (int i = 0; i < 5000; ++i) small.push_back(send(Retry::kSafe, {"ECHO", std::to_string(i)}));
  for (int i = 0; i < 5000; ++i) {
    EXPECT_EQ(small[static_cast<std::size_t>(i)].get()->text, std::to_string(i));
  }
}

TEST_F(ClientTlsTest, ReadsWhateverTheChunks) {
  const auto server = start();
  TcpProxy proxy{server->port()};
  proxy.set_server_to_client({.chunk_bytes_max = 1});
  proxy.set_client_to_server({.chunk_bytes_max = 3});
  open(with_ca("rediss://127.0.0.1:" + std::to_string(proxy.port())), "channel");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "a value"}));
  EXPECT_EQ(text_of({"GET", "k"}), "a value");
  EXPECT_TRUE(wait_stream_up());
}

// The stream ends without a close_notify, or with a reset: as with plain TCP.
TEST_F(ClientTlsTest, ComesBackAfterCutsAndKilledServers) {
  const auto server = start();
  TcpProxy proxy{server->port()};
  open(with_ca("rediss://127.0.0.1:" + std::to_string(proxy.port())), "channel");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(wait_stream_up());
    proxy.reset_all();
    EXPECT_EQ(text_of({"GET", "k"}), "v");
  }
  server->kill();
  ASSERT_TRUE(observe([](const Observed& seen) { return !seen.is_data_up && !seen.is_stream_up; }));
  server->restart();
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "new"}));
  EXPECT_TRUE(wait_stream_up());
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

// Cut at every byte of the handshake.
TEST_F(ClientTlsTest, SurvivesAHandshakeThatIsCutAnywhere) {
  const auto server = start();
  TcpProxy proxy{server->port()};
  for (std::size_t bytes = 0; bytes < 1500; bytes += 1 + bytes / 16) {
    proxy.set_server_to_client({.reset_after_bytes = bytes});
    auto options = options_for(with_ca("rediss://127.0.0.1:" + std::to_string(proxy.port())));
    options.backoff_min = options.backoff_max = 1ms;
    open(options);
    const Pending read = send(Retry::kSafe, {"PING"});
    ASSERT_TRUE(poll_until([&] { return read.has_come() || client_->stats().connects_failed > 1; }))
        << bytes;
    proxy.heal();
    const auto reply = read.get();
    ASSERT_TRUE(reply) << bytes << ": " << reply.error().to_string();
  }
}

TEST_F(ClientTlsTest, TheHandshakeHasADeadline) {
  const auto server = start();
  server->stop_process();  // The kernel accepts; nobody answers the ClientHello.
  auto options = options_for(with_ca(server->url()));
  options.connect_timeout = 50ms;
  open(options, "channel");
  ASSERT_TRUE(poll_until([&] { return client_->stats().connects_failed >= 4; }));
  EXPECT_NE(client_->data_trouble()->message.find("within 50 ms"), std::string::npos);
  server->continue_process();
}

TEST_F(ClientTlsTest, RefusesCertificatesAndSaysWhy) {
  const auto expired = start({.begins = -10h, .ends = -1h});
  expect(refused(with_ca(expired->url())), ErrorCode::kInvalidArgument,
         {"expired on 20", "renew it on the server"});
  const auto early = start({.begins = 2h});
  expect(refused(with_ca(early->url())), ErrorCode::kInvalidArgument,
         {"not valid before 20", "clock"});
  const auto elsewhere = start({.names = {"DNS:redis.example", "IP:10.9.8.7"}});
  expect(refused(with_ca(elsewhere->url())), ErrorCode::kInvalidArgument,
         {"not for '127.0.0.1'", "redis.example, 10.9.8.7", "sni="});
  const TestAuthority other{"Unknown CA"};
  expect(refused(elsewhere->url() + "?ca=" + other.file()), ErrorCode::kInvalidArgument,
         {"CA is unknown", "CN=Test CA", "ca="});
  expect(refused(elsewhere->url()), ErrorCode::kInvalidArgument, {"the system's CAs"});

  // What mends it.
  open(with_ca(elsewhere->url()) + "&sni=redis.example");
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  open(with_ca(elsewhere->url()) + "&sni=10.9.8.7");
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  open(expired->url() + "?insecure_skip_verification=true");
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  EXPECT_NE(log().find("insecure_skip_verification is set"), std::string::npos);
}

// Nothing is restarted: the client goes on dialling.
TEST_F(ClientTlsTest, ARenewedCertificateHealsByItself) {
  const CertificateFiles files = authority_.issue({.begins = -10h, .ends = -1h});
  const auto server = RedisServer::start({.tls = redis_tls(files)});
  open(with_ca(server->url()), "channel");
  expect(call(Retry::kSafe, {"GET", "k"}).error(), ErrorCode::kInvalidArgument, {"expired"});
  static_cast<void>(authority_.issue({.over = files}));
  EXPECT_EQ(server->command(
                {"CONFIG", "SET", "tls-cert-file", files.certificate, "tls-key-file", files.key}),
            "OK");
  ASSERT_TRUE(wait_data_up());
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  EXPECT_TRUE(wait_stream_up());
}

TEST_F(ClientTlsTest, ShowsItsCertificate) {
  const CertificateFiles ours = authority_.issue({.common_name = "app", .passphrase = "pass"});
  const TestAuthority stranger{"Stranger"};
  const CertificateFiles strange = stranger.issue();
  for (const char* versions : {"TLSv1.2", "TLSv1.3"}) {
    const auto server = start({}, "yes", {"--tls-protocols", versions});
    expect(refused(with_ca(server->url())), ErrorCode::kInvalidArgument,
           {"wants a client certificate", "cert=FILE and key=FILE"});
    expect(refused(with_ca(server->url()) + "&cert=" + strange.certificate + "&key=" + strange.key),
           ErrorCode::kInvalidArgument, {"refuses our client certificate", strange.certificate});
    auto options = options_for(with_ca(server->url()));
    options.tls->certificate_file = ours.certificate;
    options.tls->key_file = ours.key;
    options.tls->key_passphrase = "pass";
    open(options, "channel");
    EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
    EXPECT_TRUE(wait_stream_up());
    EXPECT_EQ(client_->stats().connects_failed, 0u);
  }
}

TEST_F(ClientTlsTest, AgreesOnAVersion) {
  const auto old = start({}, "no", {"--tls-protocols", "TLSv1.2"});
  open(with_ca(old->url()));
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  expect(refused(with_ca(old->url()) + "&tls_min=1.3"), ErrorCode::kInvalidArgument,
         {"does not speak TLS 1.3", "tls_min=1.2"});
  const auto current = start({}, "no", {"--tls-protocols", "TLSv1.3"});
  open(with_ca(current->url()) + "&tls_min=1.3");
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
}

TEST_F(ClientTlsTest, KnowsPlainFromTls) {
  const auto plain = RedisServer::start();
  const std::string port = std::to_string(plain->port());
  // Redis takes our ClientHello for half a request and waits for the rest, like one that hangs.
  for (const std::string& url :
       {"rediss://127.0.0.1:" + port, "rediss+sentinel://127.0.0.1:" + port + "/m"}) {
    auto options = options_for(with_ca(url));
    options.connect_timeout = 100ms;
    open(options);
    expect_unavailable({"does not speak TLS", "redis://"});
  }
  // OpenSSL says nothing to a client that is plain, it hangs up: that may pass.
  const auto tls = start();
  open("redis://127.0.0.1:" + std::to_string(tls->port()));
  expect_unavailable({"use rediss://"});
}

// Redis hangs up on a plain client; what stands in front of it may send an alert first.
TEST_F(ClientTlsTest, KnowsATlsAlertWhereAReplyShouldBegin) {
  FakeServer server{[](const FakeServer::Words&) {
    return std::string{"\x15\x03\x01\x00\x02\x02\x46", 7};
  }};
  expect(refused("redis://127.0.0.1:" + std::to_string(server.port())), ErrorCode::kInvalidArgument,
         {"speaks TLS on this port", "rediss://"});
}

// One that speaks first, or at once, is known for certain.
TEST_F(ClientTlsTest, KnowsAnAnswerThatIsNotTls) {
  const auto full = RedisServer::start({.arguments = {"--maxclients", "1"}});
  auto holder = BlockingRedis::connect("127.0.0.1", full->port());
  ASSERT_TRUE(poll_until([&] {  // The server may still count the connection that start() made.
    if (holder && holder->command({"PING"}).value_or(tiercel::testing::RedisReply{}).text == "PONG")
      return true;
    holder = BlockingRedis::connect("127.0.0.1", full->port());
    return false;
  }));
  expect(refused(with_ca("rediss://127.0.0.1:" + std::to_string(full->port()))),
         ErrorCode::kInvalidArgument, {"does not speak TLS", "redis://"});
}

TEST_F(ClientTlsTest, OpenNamesTheFileThatIsBad) {
  ClientConfig config;
  config.redis = options_for("rediss://localhost?ca=/nowhere/ca.pem");
  const auto client = Client::open(std::move(config), loop_);
  ASSERT_FALSE(client);
  expect(client.error(), ErrorCode::kInvalidArgument, {"tls.ca_file", "/nowhere/ca.pem"});
}

// All links speak TLS: ours to Sentinels and servers, theirs to each other. The Sentinels announce
// bare addresses, the servers' certificates have a name only.
TEST_F(ClientTlsTest, FollowsAFailover) {
  const CertificateFiles files = authority_.issue({.names = {"DNS:redis.example"}});
  const auto setup = SentinelSetup::start({.tls = redis_tls(files, "yes")});
  const std::string url = with_ca(setup->url()) + "&cert=" + files.certificate +
                          "&key=" + files.key + "&sentinel_sni=redis.example";
  // Without the name of the servers the Sentinels are believed, and the master is not.
  expect(refused(url), ErrorCode::kInvalidArgument, {"not for '127.0.0.1'", "redis.example"});

  // response_timeout is a minute: only what a Sentinel announces is that fast.
  open(url + "&sni=redis.example", "news");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "before"}));
  ASSERT_TRUE(wait_stream_up());
  for (std::size_t i = 1; i < setup->server_count(); ++i) {  // Replication is asynchronous.
    ASSERT_TRUE(poll_until([&] { return setup->server(i).command({"GET", "k"}) == "before"; }));
  }
  setup->server(0).stop_process();
  const Pending read = send(Retry::kSafe, {"GET", "k"}, 50s);  // In flight to the hung one.
  ASSERT_TRUE(observe([&](const Observed& seen) {
    return seen.is_data_up && seen.is_stream_up &&
           seen.data_server.endpoint.port != setup->server(0).port() &&
           seen.stream_server == seen.data_server;
  }));
  const auto answer = read.get();
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(answer->text, "before");
  setup->server(0).continue_process();
}

TEST_F(ClientTlsTest, SaysWhatSentinelsRefuse) {
  const CertificateFiles files = authority_.issue({.names = {"DNS:redis.example"}});
  const auto setup = SentinelSetup::start({.replicas = 1, .tls = redis_tls(files, "yes")});
  const std::string shown = "&cert=" + files.certificate + "&key=" + files.key;
  expect(refused(with_ca(setup->url()) + shown), ErrorCode::kInvalidArgument,
         {"no Sentinel names the master", "not for '127.0.0.1'", "sentinel_sni="});
  expect(refused(with_ca(setup->url()) + "&sentinel_sni=redis.example"),
         ErrorCode::kInvalidArgument, {"wants a client certificate"});
}

}  // namespace
}  // namespace tiercel::l2
