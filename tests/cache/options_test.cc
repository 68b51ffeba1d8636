#include <limits>

#include "cache_fixture.h"

namespace tiercel::testing {
namespace {

struct Refusal {
  std::string field;  // What the message must name.
  CacheOptions options;
};

TEST(CacheOptions, DefaultsAreValid) { EXPECT_TRUE(validate(CacheOptions{})); }

TEST(CacheOptions, EachFieldOutOfRangeIsRefusedByName) {
  const std::vector<Refusal> refusals{
      {"namespace", {.name_space = ""}},
      {"namespace", {.name_space = "a:b"}},
      {"namespace", {.name_space = std::string(65, 'a')}},
      {"redis_url and redis",
       {.redis_url = "redis://h", .redis = l2::RedisOptions{.server = {"h", 1, {}}}}},
      {"capacity_bytes_max", {.l1_capacity_bytes_max = 1}},
      {"stripes", {.l1_stripes = 3}},
      {"lease", {.lease = 19ms}},
      {"lease", {.lease = 60001ms, .stream_timeout = 60001ms}},
      {"stream_timeout", {.lease = 500ms, .stream_timeout = 499ms}},
      {"ttl", {.ttl = 0ms}},
      {"ttl", {.ttl = -5ms}},
      {"ttl_jitter", {.ttl_jitter = 0.91}},
      {"ttl_jitter", {.ttl_jitter = -0.1}},
      {"ttl_jitter", {.ttl_jitter = std::numeric_limits<double>::quiet_NaN()}},
      {"negative_ttl", {.negative_ttl = 0ms}},
      {"read_timeout", {.read_timeout = 0ms}},
      {"write_timeout", {.write_timeout = 3600001ms}},
      {"read_timeout_before_load", {.read_timeout_before_load = 0ms}},
      {"fill_lease", {.fill_lease = 9ms}},
      {"reads_waiting_max", {.reads_waiting_max = 0}},
      {"value_bytes_max", {.value_bytes_max = 0}},
      {"value_bytes_max", {.value_bytes_max = std::size_t{512} << 20}},
      {"history_entries", {.history_entries = 15}},
      {"audit_one_in", {.audit_one_in = 0}},
      {"audit_one_in", {.audit_one_in = 1'000'000'001}},
      {"clock", {.clock = nullptr}},
  };
  for (const auto& refusal : refusals) {
    const auto valid = validate(refusal.options);
    ASSERT_FALSE(valid) << refusal.field;
    EXPECT_EQ(valid.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(valid.error().message, ::testing::HasSubstr(refusal.field));
    EXPECT_FALSE(Cache::open(refusal.options));
  }
}

TEST(CacheOptions, AWrongUrlIsRefusedWithTheReasonAndWithoutThePassword) {
  for (const std::string url :
       {"http://localhost", "redis://", "redis://user:secret@host:notaport", "redis://host/x",
        "redis+sentinel://h1:26379", "unix://", "redis://u:secret@host:70000/0"}) {
    const auto cache = Cache::open({.redis_url = url});
    ASSERT_FALSE(cache) << url;
    EXPECT_EQ(cache.error().code, ErrorCode::kInvalidArgument) << url;
    EXPECT_THAT(cache.error().message, ::testing::Not(::testing::HasSubstr("secret"))) << url;
    EXPECT_FALSE(cache.error().message.empty());
  }
}

}  // namespace
}  // namespace tiercel::testing
