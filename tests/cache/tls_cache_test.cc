// The cache over TLS, opened by URL.

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "support/test_certificates.h"

namespace tiercel::testing {
namespace {

class TlsCache : public ::testing::Test {
 protected:
  std::unique_ptr<RedisServer> start(const CertificateSpec& spec) {
    const CertificateFiles files = authority_.issue(spec);
    return RedisServer::start(
        {.tls = RedisTls{authority_.file(), files.certificate, files.key, "yes"}});
  }
  [[nodiscard]] std::string url_of(const RedisServer& server) const {
    return server.url() + "?ca=" + authority_.file() + "&cert=" + ours_.certificate +
           "&key=" + ours_.key;
  }

  const TestAuthority authority_;
  const CertificateFiles ours_ = authority_.issue({.common_name = "app", .names = {}});
};

TEST_F(TlsCache, InstancesShareAndInvalidate) {
  const auto server = start({});
  const auto a = open_ready(with_long_lease({.redis_url = url_of(*server)}));
  const auto b = open_ready(with_long_lease({.redis_url = url_of(*server)}));
  ASSERT_TRUE(a->set("k", "1"));
  EXPECT_EQ(described(b->get("k")), "1@l2");
  EXPECT_EQ(described(b->get("k")), "1@l1");
  ASSERT_TRUE(a->set("k", "2"));
  EXPECT_TRUE(poll_until([&] { return read_value(*b, "k") == "2"; }));

  std::vector<std::string> names;
  for (int i = 0; i < 2000; ++i) names.push_back("key" + std::to_string(i));
  const std::string value(1000, 'v');
  for (const std::string& name : names) ASSERT_TRUE(a->set(name, name + value));
  const std::vector<std::string_view> keys{names.begin(), names.end()};
  const auto results = b->get_many(keys, {.timeout = kPatience});
  ASSERT_EQ(results.size(), names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    ASSERT_TRUE(results[i] && *results[i]);
    EXPECT_EQ((*results[i])->bytes(), names[i] + value);
  }
}

TEST_F(TlsCache, SaysWhatIsWrong) {
  const auto expired = start({.begins = -10h, .ends = -1h});
  const auto cache = open_cache({.redis_url = url_of(*expired)});
  const auto ready = cache->wait_until_ready(kPatience);
  ASSERT_FALSE(ready);
  EXPECT_EQ(ready.error().code, ErrorCode::kInvalidArgument) << ready.error().to_string();
  EXPECT_THAT(ready.error().message, ::testing::HasSubstr("expired on"));

  const auto refused = Cache::open({.redis_url = "rediss://localhost?ca=/nowhere.pem"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("tls.ca_file '/nowhere.pem'"));
}

}  // namespace
}  // namespace tiercel::testing
