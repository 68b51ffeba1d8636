#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tiercel/l2/options.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;

TEST(ParseUrl, ReadsOneServer) {
  const auto plain = parse_url("redis://localhost");
  ASSERT_TRUE(plain) << plain.error().to_string();
  EXPECT_EQ(plain->server, (Endpoint{"localhost", 6379, {}}));
  EXPECT_EQ(plain->database, 0u);
  EXPECT_TRUE(plain->credentials.password.empty());
  EXPECT_TRUE(plain->sentinels.empty());

  const auto full = parse_url("redis://app:s%40cret%2F%25@cache-1.example_net.org:7001/12");
  ASSERT_TRUE(full) << full.error().to_string();
  EXPECT_EQ(full->server, (Endpoint{"cache-1.example_net.org", 7001, {}}));
  EXPECT_EQ(full->credentials.username, "app");
  EXPECT_EQ(full->credentials.password, "s@cret/%");
  EXPECT_EQ(full->database, 12u);

  const auto no_user = parse_url("REDIS://:a:b@10.0.0.1/");
  ASSERT_TRUE(no_user) << no_user.error().to_string();
  EXPECT_EQ(no_user->credentials.username, "");
  EXPECT_EQ(no_user->credentials.password, "a:b");
  EXPECT_EQ(no_user->server, (Endpoint{"10.0.0.1", 6379, {}}));

  const auto ipv6 = parse_url("redis://[2001:db8::1]:6390/1");
  ASSERT_TRUE(ipv6) << ipv6.error().to_string();
  EXPECT_EQ(ipv6->server, (Endpoint{"2001:db8::1", 6390, {}}));
  EXPECT_EQ(ipv6->server.to_string(), "[2001:db8::1]:6390");
}

TEST(ParseUrl, ReadsSentinels) {
  const auto options = parse_url("redis+sentinel://u:p@h1:1,h2,[::1]:3/my%20master/5");
  ASSERT_TRUE(options) << options.error().to_string();
  ASSERT_EQ(options->sentinels.size(), 3u);
  EXPECT_EQ(options->sentinels[0], (Endpoint{"h1", 1, {}}));
  EXPECT_EQ(options->sentinels[1], (Endpoint{"h2", 26379, {}}));
  EXPECT_EQ(options->sentinels[2], (Endpoint{"::1", 3, {}}));
  EXPECT_EQ(options->master_name, "my master");
  EXPECT_EQ(options->database, 5u);
  EXPECT_EQ(options->credentials.username, "u");
  EXPECT_EQ(options->server, Endpoint{});

  const auto short_form = parse_url("redis+sentinel://h1/mymaster");
  ASSERT_TRUE(short_form) << short_form.error().to_string();
  EXPECT_EQ(short_form->master_name, "mymaster");
  EXPECT_EQ(short_form->database, 0u);
}

TEST(ParseUrl, ReadsUnixSockets) {
  const auto plain = parse_url("unix:///run/redis/redis.sock");
  ASSERT_TRUE(plain) << plain.error().to_string();
  EXPECT_EQ(plain->server.unix_path, "/run/redis/redis.sock");
  EXPECT_EQ(plain->server.to_string(), "unix:/run/redis/redis.sock");

  const auto full = parse_url("unix://u:p@/tmp/r.sock?db=3");
  ASSERT_TRUE(full) << full.error().to_string();
  EXPECT_EQ(full->server.unix_path, "/tmp/r.sock");
  EXPECT_EQ(full->credentials.username, "u");
  EXPECT_EQ(full->credentials.password, "p");
  EXPECT_EQ(full->database, 3u);
}

TEST(ParseUrl, ReadsTls) {
  const auto plain = parse_url("RedisS://:pw@localhost");
  ASSERT_TRUE(plain) << plain.error().to_string();
  EXPECT_EQ(plain->server, (Endpoint{"localhost", 6379, {}}));
  ASSERT_TRUE(plain->tls);
  EXPECT_EQ(plain->tls->ca_file + plain->tls->ca_directory + plain->tls->server_name, "");
  EXPECT_EQ(plain->tls->version_min, TlsVersion::k1_2);
  EXPECT_FALSE(plain->tls->insecure_skip_verification);
  EXPECT_FALSE(parse_url("redis://localhost")->tls);

  const auto full = parse_url(
      "rediss://u:p@h:1/2?ca=/a%26b/%C3%A4.pem&ca_dir=dir&cert=c+d&key=e=f&sni=n&tls_min=1.3&"
      "insecure_skip_verification=true");
  ASSERT_TRUE(full) << full.error().to_string();
  EXPECT_EQ(full->server, (Endpoint{"h", 1, {}}));
  EXPECT_EQ(full->database, 2u);
  EXPECT_EQ(full->tls->ca_file, "/a&b/\xC3\xA4.pem");
  EXPECT_EQ(full->tls->ca_directory, "dir");
  EXPECT_EQ(full->tls->certificate_file, "c+d");
  EXPECT_EQ(full->tls->key_file, "e=f");
  EXPECT_EQ(full->tls->server_name, "n");
  EXPECT_EQ(full->tls->version_min, TlsVersion::k1_3);
  EXPECT_TRUE(full->tls->insecure_skip_verification);
  EXPECT_TRUE(full->tls->key_passphrase.empty());

  const auto sentinels = parse_url("rediss+sentinel://a,b:2/m/3?sni=redis.x&sentinel_sni=s.x");
  ASSERT_TRUE(sentinels) << sentinels.error().to_string();
  ASSERT_EQ(sentinels->sentinels.size(), 2u);
  EXPECT_EQ(sentinels->sentinels[0].port, 26379);
  EXPECT_EQ(sentinels->database, 3u);
  EXPECT_EQ(sentinels->tls->server_name, "redis.x");
  EXPECT_EQ(sentinels->tls->sentinel_server_name, "s.x");
  EXPECT_TRUE(parse_url("rediss://h?"));
}

struct BadUrl {
  const char* url;
  const char* said;  // Part of the message.
};

class BadUrls : public testing::TestWithParam<BadUrl> {};

TEST_P(BadUrls, AreRefusedWithTheReason) {
  const auto options = parse_url(GetParam().url);
  ASSERT_FALSE(options) << GetParam().url;
  EXPECT_EQ(options.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(options.error().message.find(GetParam().said), std::string::npos)
      << GetParam().url << "\n"
      << options.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    All, BadUrls,
    testing::Values(
        BadUrl{"", "scheme is missing"}, BadUrl{"localhost:6379", "scheme is missing"},
        BadUrl{"redis:/localhost", "scheme is missing"},
        BadUrl{"http://localhost", "scheme is unknown"}, BadUrl{"redis://h?ca=/x", "rediss"},
        BadUrl{"redis+sentinel://h/m?ca=/x", "rediss"}, BadUrl{"unix:///a?ca=/x", "db=N"},
        BadUrl{"rediss://h?ca", "ca is empty"}, BadUrl{"rediss://h?ca=", "ca is empty"},
        BadUrl{"rediss://h?sni=a&sni=b", "sni is given twice"}, BadUrl{"rediss://h?x=y", "only ca"},
        BadUrl{"rediss://h?ca=a&&key=b", "only ca"}, BadUrl{"rediss://h?ca=%2", "hex digits"},
        BadUrl{"rediss://h?key_passphrase=x", "only ca"},
        BadUrl{"rediss://h?tls_min=1.1", "1.2 or 1.3"},
        BadUrl{"rediss://h?insecure_skip_verification", "true or false"},
        BadUrl{"rediss://h?insecure_skip_verification=1", "true or false"},
        BadUrl{"rediss://h?cert=/x", "key_file"}, BadUrl{"rediss://h?key=/x", "certificate_file"},
        BadUrl{"rediss://h?sentinel_sni=x", "sentinel_server_name"},
        BadUrl{"rediss://h?ca=a%00b", "zero byte"}, BadUrl{"rediss://h1,h2", "rediss+sentinel"},
        BadUrl{"rediss+sentinel://h1", "master's name"}, BadUrl{"rediss+unix:///x", "unknown"},
        BadUrl{"redis://", "host of the server is missing"},
        BadUrl{"redis:///0", "host of the server is missing"},
        BadUrl{"redis://:6379", "host of the server is missing"},
        BadUrl{"redis://h:", "port of the server"}, BadUrl{"redis://h:0", "port of the server"},
        BadUrl{"redis://h:65536", "port of the server"},
        BadUrl{"redis://h:-1", "port of the server"}, BadUrl{"redis://h:12x", "port of the server"},
        BadUrl{"redis://h:99999999999999999999", "port of the server"},
        BadUrl{"redis://::1:6379", "brackets"}, BadUrl{"redis://[::1", "']'"},
        BadUrl{"redis://[::1]6379", "after the ']'"},
        BadUrl{"redis://[localhost]:1", "not an IPv6 address"}, BadUrl{"redis://a b", "character"},
        BadUrl{"redis://h\n", "character"}, BadUrl{"redis://h/x", "database"},
        BadUrl{"redis://h/-1", "database"}, BadUrl{"redis://h/1/2", "database"},
        BadUrl{"redis://h/4294967296", "database"}, BadUrl{"redis://h?db=1", "'?'"},
        BadUrl{"redis://h#x", "'#'"}, BadUrl{"redis://user@h", "no password"},
        BadUrl{"redis://@h", "no password"}, BadUrl{"redis://user:@h", "password is empty"},
        BadUrl{"redis://:@h", "password is empty"}, BadUrl{"redis://u:p@x@h", "%40"},
        BadUrl{"redis://u:p%4@h", "hex digits"}, BadUrl{"redis://u:p%zz@h", "hex digits"},
        BadUrl{"redis://u%:p@h", "hex digits"}, BadUrl{"redis://h1,h2", "redis+sentinel"},
        BadUrl{"redis+sentinel://h1:1", "master's name"},
        BadUrl{"redis+sentinel://h1:1/", "master's name"},
        BadUrl{"redis+sentinel:///m", "host of Sentinel 1"},
        BadUrl{"redis+sentinel://h1,,h2/m", "host of Sentinel 2"},
        BadUrl{"redis+sentinel://h1,h2:x/m", "port of Sentinel 2"},
        BadUrl{"redis+sentinel://h1,h1/m", "listed twice"},
        BadUrl{"redis+sentinel://h1/m/x", "database"}, BadUrl{"redis+sentinel://h1/m?db=1", "'?'"},
        BadUrl{"unix://run/redis.sock", "three slashes"}, BadUrl{"unix://", "path is missing"},
        BadUrl{"unix:///", "path is missing"}, BadUrl{"unix:///a?x=1", "db=N"},
        BadUrl{"unix:///a?db=", "db=N"}, BadUrl{"unix:///a?db=x", "database"},
        BadUrl{
            "unix:////////////////////////////////////////////////////////////////////////////////"
            "////////////////////////////////////too-long",
            "unix_path"}));

TEST(ParseUrl, NeverRepeatsThePassword) {
  // All are wrong, most because a character of the password was not escaped.
  for (const std::string_view url : {"redis://user:hunter2/x@host",
                                     "redis://user:hunter2?x@host",
                                     "redis://user:hunter2#x@host",
                                     "redis://user:hunter2@x@host",
                                     "redis://:hunter2%@host",
                                     "redis://:hunter2@ho st",
                                     "redis://user:hunter2",
                                     "redis://hunter2/x@host/0",
                                     "redis+sentinel://u:hunter2@h:x/m",
                                     "unix://u:hunter2@path",
                                     "redis://hunter2@host",
                                     "redis://u:hunter2@host:hunter2",
                                     "redis://u:hunter2@host/hunter2",
                                     "hunter2://h",
                                     "redis+sentinel://h,u:hunter2/m/a@b",
                                     "redis+sentinel://a,u:hunter2@b/m,x?y",
                                     "rediss://u:p@h?hunter2",
                                     "rediss://u:p@h?hunter2=x",
                                     "rediss://u:p@h?tls_min=hunter2",
                                     "rediss://u:p@h?insecure_skip_verification=hunter2",
                                     "rediss://u:p?hunter2@h",
                                     "rediss://u:p@h?key=%hunter2",
                                     "rediss://u:p@h?cert=hunter2",
                                     "rediss://u:p@h?sni=hunter2&sni=hunter2"}) {
    const auto options = parse_url(url);
    ASSERT_FALSE(options) << url;
    EXPECT_EQ(options.error().to_string().find("hunter2"), std::string::npos)
        << url << "\n"
        << options.error().to_string();
  }
}

RedisOptions good() {
  RedisOptions options;
  options.server = Endpoint{"localhost", 6379, {}};
  return options;
}

template <typename Change>
void expect_refused(const char* field, Change change) {
  RedisOptions options = good();
  change(options);
  const auto checked = validate(options);
  ASSERT_FALSE(checked) << field;
  EXPECT_EQ(checked.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(checked.error().message.starts_with(field)) << checked.error().message;
}

TEST(Validate, NamesTheFieldThatIsWrong) {
  EXPECT_TRUE(validate(good()));
  expect_refused("server.host", [](auto& o) { o.server = {}; });
  expect_refused("server.host", [](auto& o) { o.server.host = std::string(300, 'a'); });
  expect_refused("server.port", [](auto& o) { o.server.port = 0; });
  expect_refused("server", [](auto& o) { o.server.unix_path = "/x"; });
  expect_refused("server and sentinels", [](auto& o) {
    o.sentinels = {Endpoint{"s", 1, {}}};
    o.master_name = "m";
  });
  expect_refused("master_name", [](auto& o) { o.master_name = "m"; });
  expect_refused("master_name", [](auto& o) {
    o.server = {};
    o.sentinels = {Endpoint{"s", 1, {}}};
  });
  expect_refused("sentinels[1].port", [](auto& o) {
    o.server = {};
    o.sentinels = {Endpoint{"s", 1, {}}, Endpoint{"s", 0, {}}};
    o.master_name = "m";
  });
  expect_refused("sentinels[0]", [](auto& o) {
    o.server = {};
    o.sentinels = {Endpoint{"", 0, "/x"}};
    o.master_name = "m";
  });
  expect_refused("credentials.password", [](auto& o) { o.credentials.username = "u"; });
  expect_refused("tls: not over a Unix", [](auto& o) {
    o.server = Endpoint{{}, 0, "/x"};
    o.tls.emplace();
  });
  expect_refused("tls.key_file", [](auto& o) { o.tls = TlsOptions{.certificate_file = "c"}; });
  expect_refused("tls.certificate_file", [](auto& o) { o.tls = TlsOptions{.key_file = "k"}; });
  expect_refused("tls.key_passphrase", [](auto& o) { o.tls = TlsOptions{.key_passphrase = "p"}; });
  expect_refused("tls.ca_file", [](auto& o) { o.tls = TlsOptions{.ca_file = std::string(1, 0)}; });
  expect_refused("tls.server_name",
                 [](auto& o) { o.tls = TlsOptions{.server_name = std::string(254, 'a')}; });
  expect_refused("tls.sentinel_server_name",
                 [](auto& o) { o.tls = TlsOptions{.sentinel_server_name = "s"}; });
  expect_refused("connect_timeout", [](auto& o) { o.connect_timeout = 0ms; });
  expect_refused("connect_timeout", [](auto& o) { o.connect_timeout = 60'001ms; });
  expect_refused("response_timeout", [](auto& o) { o.response_timeout = 9ms; });
  expect_refused("backoff_min", [](auto& o) { o.backoff_min = 0ms; });
  expect_refused("backoff_max", [](auto& o) { o.backoff_max = o.backoff_min - 1ms; });
  expect_refused("queue_commands_max", [](auto& o) { o.queue_commands_max = 0; });
  expect_refused("queue_bytes_max", [](auto& o) { o.queue_bytes_max = 65535; });
}

}  // namespace
}  // namespace tiercel::l2
