// How long the loop of the L2 client is held up: by many deadlines, by big batches; and how long
// small commands wait behind large values. Each turn of the loop is timed, from one sleep to the
// next; what is said is the longest. docs/bench/l2.md.

#include <fmt/core.h>
#include <time.h>
#include <uv.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "figures.h"
#include "support/redis_server.h"
#include "tiercel/base/random.h"
#include "tiercel/l2/client.h"

namespace tiercel::bench {
namespace {

using l2::Client;
using l2::ClientConfig;
using l2::Command;
using l2::EventLoop;
using l2::Retry;
using tiercel::testing::RedisServer;
using namespace std::chrono_literals;

double to_ms(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

TimePoint now() { return Clock::system().now(); }

Duration thread_cpu() {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return std::chrono::seconds{spent.tv_sec} + std::chrono::nanoseconds{spent.tv_nsec};
}

[[noreturn]] void fail(const std::string& why) {
  fmt::print(stderr, "l2_stall_bench: {}\n", why);
  std::exit(1);
}

// A loop on a thread of ours that is run turn by turn.
class TimedLoop {
 public:
  // The longest turn: as others see it, which includes the time when the thread had no core, and
  // in CPU time of the thread.
  struct Longest {
    double wall_ms = 0;
    double cpu_ms = 0;
  };

  TimedLoop() : thread_{[this] { run(); }} { started_.get_future().get(); }
  // After the clients are gone.
  ~TimedLoop() {
    loop_->post([this] { loop_.reset(); });
    thread_.join();
  }
  [[nodiscard]] EventLoop& loop() { return *loop_; }
  // Since the last call. On any thread; the turn under way does not count yet.
  Longest take() {
    std::promise<Longest> taken;
    loop_->post([&] { taken.set_value(std::exchange(longest_, {})); });
    return taken.get_future().get();
  }

 private:
  void run() {
    uv_loop_init(&uv_);
    uv_loop_configure(&uv_, UV_METRICS_IDLE_TIME);
    loop_ = std::make_unique<EventLoop>(&uv_);
    started_.set_value();
    bool is_alive = true;
    while (is_alive) {
      const auto idle = uv_metrics_idle_time(&uv_);
      const Duration cpu = thread_cpu();
      const TimePoint began = now();
      is_alive = uv_run(&uv_, UV_RUN_ONCE) != 0;
      const Duration slept{static_cast<Duration::rep>(uv_metrics_idle_time(&uv_) - idle)};
      longest_.wall_ms = std::max(longest_.wall_ms, to_ms(now() - began - slept));
      longest_.cpu_ms = std::max(longest_.cpu_ms, to_ms(thread_cpu() - cpu));
    }
    uv_loop_close(&uv_);
  }

  uv_loop_t uv_{};
  std::unique_ptr<EventLoop> loop_;
  Longest longest_;  // Of the loop's thread.
  std::promise<void> started_;
  std::thread thread_;
};

class OpenClient {
 public:
  OpenClient(const RedisServer& server, TimedLoop& timed) {
    ClientConfig config;
    config.redis = *l2::parse_url(server.url());
    config.redis.queue_commands_max = 1 << 20;
    config.redis.queue_bytes_max = std::size_t{4} << 30;
    config.redis.response_timeout = 60s;
    auto client = Client::open(std::move(config), timed.loop());
    if (!client) fail(client.error().to_string());
    client_ = std::move(*client);
    if (const auto pong = client_->call(Command{Retry::kSafe, "PING"}, now() + 10s); !pong) {
      fail(pong.error().to_string());
    }
  }
  ~OpenClient() {
    std::promise<void> closed;
    client_->close_then([&] { closed.set_value(); });
    closed.get_future().get();
  }
  Client* operator->() { return client_.get(); }

 private:
  std::unique_ptr<Client> client_;
};

// ----- deadlines

void measure_deadlines(RedisServer& server, std::size_t commands, Duration spread,
                       const char* name) {
  TimedLoop timed;
  OpenClient client{server, timed};
  server.stop_process();
  Random random{5};
  std::atomic<std::size_t> left{commands};
  std::atomic<Duration::rep> latest{0};
  const TimePoint base = now() + 1s;
  for (std::size_t i = 0; i < commands; ++i) {
    const TimePoint deadline = base + Duration{static_cast<Duration::rep>(random.below(
                                          static_cast<std::uint64_t>(spread.count()) + 1))};
    client->submit(Command{Retry::kSafe, "GET", "some-key-or-other"}, deadline,
                   [&left, &latest, deadline](const Result<l2::Reply>&) {
                     const auto late = (now() - deadline).count();
                     if (late > latest) latest = late;
                     left.fetch_sub(1);
                   });
  }
  std::this_thread::sleep_for(300ms);
  timed.take();
  while (left > 0) std::this_thread::sleep_for(1ms);
  const auto longest = timed.take();
  server.continue_process();
  fmt::print("{:32} {:9.2f} {:9.2f}   latest answer {:.1f} ms after its deadline\n", name,
             longest.cpu_ms, longest.wall_ms, to_ms(Duration{latest.load()}));
  print_figure(fmt::format("l2_stall_cpu_ms_{}", name), longest.cpu_ms);
}

// ----- batches

void measure_batch(RedisServer& server, std::size_t keys, std::size_t value_bytes) {
  constexpr int kRounds = 15;
  TimedLoop timed;
  OpenClient client{server, timed};
  std::vector<std::string> names;
  for (std::size_t i = 0; i < keys; ++i) names.push_back(fmt::format("key:{:08}", i));
  const std::string value(value_bytes, 'v');
  const std::vector<std::string_view> wanted{names.begin(), names.end()};
  std::vector<l2::KeyValue> entries;
  for (const std::string& name : names) entries.push_back({name, value});
  std::vector<double> set_cpu, set_wall, get_cpu, get_wall, get_ms;
  for (int round = 0; round <= kRounds; ++round) {
    std::promise<void> written;
    timed.take();
    client->set_many(entries, std::nullopt, now() + 60s, [&](const l2::BatchErrors& errors) {
      if (!errors.empty()) fail(errors.first()->to_string());
      written.set_value();
    });
    written.get_future().get();
    const auto set = timed.take();
    std::promise<void> got;
    const TimePoint began = now();
    l2::ValueBatch values;
    client->get_many(wanted, now() + 60s, [&](l2::ValueBatch batch) {
      values = std::move(batch);  // Not freed here: that is the taker's business.
      got.set_value();
    });
    got.get_future().get();
    const double took = to_ms(now() - began);
    const auto get = timed.take();
    if (!values.errors().empty() || values[keys - 1] != value) fail("a value is missing");
    if (round == 0) continue;
    set_cpu.push_back(set.cpu_ms);
    set_wall.push_back(set.wall_ms);
    get_cpu.push_back(get.cpu_ms);
    get_wall.push_back(get.wall_ms);
    get_ms.push_back(took);
  }
  fmt::print(
      "{:6} keys of {:7} bytes: get_many {:6.2f} {:6.2f} ({:6.1f} in all), set_many {:6.2f} "
      "{:6.2f}\n",
      keys, value_bytes, median(get_cpu), median(get_wall), median(get_ms), median(set_cpu),
      median(set_wall));
  print_figure(fmt::format("l2_stall_cpu_ms_get_{}x{}", keys, value_bytes), median(get_cpu));
  print_figure(fmt::format("l2_stall_cpu_ms_set_{}x{}", keys, value_bytes), median(set_cpu));
  server.command({"FLUSHALL"});
}

// ----- small commands behind large values

struct Latency {
  double p50_us = 0;
  double p99_us = 0;
};

Latency measure_small(OpenClient& client, Duration how_long) {
  std::vector<double> took;
  const TimePoint end = now() + how_long;
  for (TimePoint began = now(); began < end; began = now()) {
    if (!client->call(Command{Retry::kSafe, "GET", "small"}, began + 60s)) fail("no answer");
    took.push_back(to_ms(now() - began) * 1000);
  }
  std::sort(took.begin(), took.end());
  return {took[took.size() / 2], took[took.size() * 99 / 100]};
}

// 100 MB a second of them, or as many as there can be one after the other, for as long as it lives.
class LargeReads {
 public:
  LargeReads(OpenClient& client, std::size_t bytes)
      : thread_{[this, &client, bytes] {
          while (!is_over_) {
            const TimePoint next =
                now() + std::chrono::nanoseconds{static_cast<std::int64_t>(bytes) * 10};
            std::promise<void> came;
            client->submit_view(Command{Retry::kSafe, "GET", "large"}, now() + 60s,
                                [&](const Result<l2::ReplyView>& reply) {
                                  if (!reply) fail(reply.error().to_string());
                                  came.set_value();
                                });
            came.get_future().get();
            ++count_;
            std::this_thread::sleep_for(next - now());
          }
        }} {}
  ~LargeReads() {
    is_over_ = true;
    thread_.join();
  }
  [[nodiscard]] int count() const { return count_; }

 private:
  std::atomic<bool> is_over_{false};
  std::atomic<int> count_{0};
  std::thread thread_;
};

void measure_mixed(RedisServer& server) {
  constexpr Duration kTurn = 1500ms;
  TimedLoop timed;
  TimedLoop other_loop;
  OpenClient small{server, timed};
  OpenClient beside{server, timed};  // On the same loop.
  OpenClient apart{server, other_loop};
  const auto set = [&](const char* key, std::size_t bytes) {
    if (!small->call(Command{Retry::kIfNotSent, "SET", key, std::string(bytes, 'v')},
                     now() + 60s)) {
      fail("SET failed");
    }
  };
  set("small", 100);
  const auto say = [](const char* size, const char* where, const Latency& latency, double per_s) {
    fmt::print("{:>8} {:34} {:9.0f} {:9.0f} {:9.0f}\n", size, where, latency.p50_us, latency.p99_us,
               per_s);
    print_figure(fmt::format("l2_small_p99_us_{}_{}", size, where), latency.p99_us);
  };
  fmt::print(
      "\n100-byte GETs, one at a time, while 100 MB/s of large GETs run\n"
      "   large  by                                    p50 us    p99 us   large/s\n");
  say("none", "nobody", measure_small(small, kTurn), 0);
  for (const auto& [name, bytes] :
       {std::pair{"1MiB", std::size_t{1} << 20}, {"8MiB", std::size_t{8} << 20}}) {
    set("large", bytes);
    struct Case {
      const char* where;
      OpenClient& client;
    };
    for (const Case& each : {Case{"same_client", small}, Case{"second_client_same_loop", beside},
                             Case{"second_client_own_loop", apart}}) {
      LargeReads reads{each.client, bytes};
      const Latency latency = measure_small(small, kTurn);
      say(name, each.where, latency, reads.count() / std::chrono::duration<double>(kTurn).count());
    }
  }
}

int run(std::string_view what) {
  const auto wanted = [what](std::string_view part) { return what.empty() || what == part; };
  if (!RedisServer::available()) fail(RedisServer::unavailable_message());
  const auto server = RedisServer::start();
  setvbuf(stdout, nullptr, _IOLBF, 0);
  if (wanted("deadlines")) {
    fmt::print("The longest turn of the loop, in ms       CPU      wall\n\n");
    measure_deadlines(*server, 100'000, 1s, "100k_deadlines_over_1s");
    measure_deadlines(*server, 250'000, 2s, "250k_deadlines_over_2s");
    measure_deadlines(*server, 100'000, Duration{0}, "100k_deadlines_at_once");
  }
  if (wanted("batches")) {
    fmt::print("\nThe longest turn of the loop, in ms: CPU and wall, medians of 15 batches\n\n");
    measure_batch(*server, 10'000, 100);
    measure_batch(*server, 10'000, 1'000);
    measure_batch(*server, 10'000, 10'000);
    measure_batch(*server, 2'000, 50'000);
    measure_batch(*server, 1'000, 200'000);
  }
  if (wanted("mixed")) measure_mixed(*server);
  return 0;
}

}  // namespace
}  // namespace tiercel::bench

// Optionally: deadlines, batches or mixed.
int main(int argc, char** argv) { return tiercel::bench::run(argc > 1 ? argv[1] : ""); }
