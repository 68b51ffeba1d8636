#include "support/tcp_proxy.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
// The kernel's own header, for what glibc's struct tcp_info lacks; it replaces netinet/tcp.h.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "support/blocking_redis.h"
#include "support/poll_until.h"
#include "support/redis_server.h"
#include "support/unique_fd.h"

namespace tiercel::testing {
namespace {

using std::chrono::milliseconds;

constexpr Duration kLimit = std::chrono::seconds{30};
// How long to look for what must not come. Too short cannot make a test fail, only pass.
constexpr Duration kSilence = milliseconds{50};

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// One end of a connection under test.
class Peer {
 public:
  explicit Peer(UniqueFd fd) : fd_(std::move(fd)) {}

  static Peer connect(std::uint16_t port) {
    UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const sockaddr_in address = loopback(port);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return Peer{std::move(fd)};
  }

  void send(const std::string& bytes) const {
    EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  // Sends what goes without waiting.
  [[nodiscard]] std::size_t send_some(const std::string& bytes) const {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }

  // Up to `size` bytes; less at the end of the stream, at a reset or at the limit.
  [[nodiscard]] std::string receive(std::size_t size, Duration limit = kLimit) {
    const TimePoint deadline = Clock::system().now() + limit;
    std::string bytes;
    while (bytes.size() < size && wait_ready(fd_.get(), POLLIN, deadline)) {
      std::array<char, 4096> buffer;
      const std::size_t wanted = std::min(buffer.size(), size - bytes.size());
      const ssize_t count = ::recv(fd_.get(), buffer.data(), wanted, MSG_DONTWAIT);
      if (count < 0) {
        was_reset_ = errno == ECONNRESET;
        break;
      }
      if (count == 0) {
        was_ended_ = true;
        break;
      }
      bytes.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return bytes;
  }

  [[nodiscard]] bool is_silent() { return !wait_ready(fd_.get(), POLLIN, after(kSilence)); }
  [[nodiscard]] bool sees_reset() { return receive(1).empty() && was_reset_; }
  [[nodiscard]] bool sees_end() { return receive(1).empty() && was_ended_; }

  // Segments with data that this end has received.
  [[nodiscard]] std::uint32_t data_segments() const {
    tcp_info info{};
    socklen_t size = sizeof info;
    EXPECT_EQ(::getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    return info.tcpi_data_segs_in;
  }

  void half_close() const { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }

 private:
  static TimePoint after(Duration duration) { return Clock::system().now() + duration; }

  UniqueFd fd_;
  bool was_reset_ = false;
  bool was_ended_ = false;
};

// A proxy in front of a listening socket that the test itself serves.
class TcpProxyTest : public ::testing::Test {
 protected:
  TcpProxyTest() : listener_(listen_on_loopback()), proxy_(port_of(listener_)) {}

  static UniqueFd listen_on_loopback() {
    UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const sockaddr_in address = loopback(0);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd.get(), 16), 0);
    return fd;
  }
  static std::uint16_t port_of(const UniqueFd& fd) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(address.sin_port);
  }

  Peer accept() {
    EXPECT_TRUE(wait_ready(listener_.get(), POLLIN, Clock::system().now() + kLimit));
    return Peer{UniqueFd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)}};
  }
  struct Pair {
    Peer client;
    Peer server;
  };
  Pair connect_pair() {
    Peer client = Peer::connect(proxy_.port());
    Peer server = accept();
    return Pair{std::move(client), std::move(server)};
  }
  [[nodiscard]] bool count_becomes(std::size_t count) {
    return poll_until([&] { return proxy_.connection_count() == count; });
  }

  UniqueFd listener_;
  TcpProxy proxy_;
};

TEST_F(TcpProxyTest, PassesBytesBothWays) {
  auto [client, server] = connect_pair();
  client.send("to the server");
  EXPECT_EQ(server.receive(13), "to the server");
  server.send("to the client");
  EXPECT_EQ(client.receive(13), "to the client");
  EXPECT_TRUE(count_becomes(1));
}

TEST_F(TcpProxyTest, PassesTheEndOfEachDirectionByItself) {
  auto [client, server] = connect_pair();
  client.send("last words");
  client.half_close();
  EXPECT_EQ(server.receive(10), "last words");
  EXPECT_TRUE(server.sees_end());
  server.send("answer");
  EXPECT_EQ(client.receive(6), "answer");
  server.close();
  EXPECT_TRUE(client.sees_end());
  EXPECT_TRUE(count_becomes(0));
}

TEST_F(TcpProxyTest, DelaysAndKeepsTheOrder) {
  auto [client, server] = connect_pair();
  proxy_.set_client_to_server({.delay = milliseconds{100}});
  const TimePoint begin = Clock::system().now();
  std::string sent;
  for (int i = 0; i < 100; ++i) {
    client.send(std::to_string(i) + ",");
    sent += std::to_string(i) + ",";
  }
  EXPECT_EQ(server.receive(sent.size()), sent);
  EXPECT_GE(Clock::system().now() - begin, milliseconds{100});
  server.send("x");  // The other direction is not delayed; nothing can show that but its arrival.
  EXPECT_EQ(client.receive(1), "x");
}

TEST_F(TcpProxyTest, HealingReleasesWhatIsDelayed) {
  auto [client, server] = connect_pair();
  proxy_.set_client_to_server({.delay = std::chrono::hours{1}});
  client.send("held");
  client.half_close();
  EXPECT_TRUE(server.is_silent());
  proxy_.heal();
  EXPECT_EQ(server.receive(4), "held");
  EXPECT_TRUE(server.sees_end());
}

TEST_F(TcpProxyTest, ABlackholeSwallowsBytesForGood) {
  auto [client, server] = connect_pair();
  proxy_.set_client_to_server({.blackhole = true});
  client.send("lost");
  EXPECT_TRUE(server.is_silent());
  server.send("heard");
  EXPECT_EQ(client.receive(5), "heard");
  proxy_.heal();
  client.send("found");
  EXPECT_EQ(server.receive(5), "found");
}

TEST_F(TcpProxyTest, ABlackholeHidesThatTheOtherEndIsGone) {
  auto [client, server] = connect_pair();
  proxy_.set_client_to_server({.blackhole = true});
  client.close();
  EXPECT_TRUE(server.is_silent());
  server.send("are you there?");  // The client's side answers with RST: swallowed as well.
  EXPECT_TRUE(server.is_silent());
  EXPECT_EQ(proxy_.connection_count(), 1U);
  proxy_.heal();
  EXPECT_EQ(server.receive(1), "");  // A reset; an end first if the proxy had not yet seen the RST.
  EXPECT_TRUE(count_becomes(0));
}

TEST_F(TcpProxyTest, ABlackholeDoesNotFillUp) {
  auto [client, server] = connect_pair();
  proxy_.set_client_to_server({.blackhole = true});
  const std::string megabyte(1U << 20, 'x');
  for (int i = 0; i < 64; ++i) client.send(megabyte);
  EXPECT_TRUE(server.is_silent());
}

TEST_F(TcpProxyTest, PushesBackWhenTheReceiverDoesNotRead) {
  Pair pair = connect_pair();
  const std::string block(64U << 10, 'x');
  std::size_t sent = 0;
  // Until nothing more is taken for a while; a slow proxy only makes it stop sooner.
  constexpr std::size_t kFarTooMuch = 512U << 20;
  const auto takes_more = [&] {
    const std::size_t count = pair.client.send_some(block);
    sent += count;
    return count > 0;
  };
  while (sent < kFarTooMuch && poll_until(takes_more, milliseconds{200})) {
  }
  EXPECT_LT(sent, kFarTooMuch);
  EXPECT_EQ(pair.server.receive(sent), std::string(sent, 'x'));
}

TEST_F(TcpProxyTest, SendsOneByteAtATime) {
  proxy_.set_server_to_client({.chunk_bytes_max = 1});
  auto [client, server] = connect_pair();
  const std::string bytes = "+0123456789012345678901234567890123456789\r\n";
  server.send(bytes);
  EXPECT_EQ(client.receive(bytes.size()), bytes);
  // Segments of their own, unless the kernel joined a few.
  EXPECT_GE(client.data_segments(), bytes.size() / 2);
}

TEST_F(TcpProxyTest, ResetsAfterSoManyBytes) {
  auto [client, server] = connect_pair();
  client.send("before");
  EXPECT_EQ(server.receive(6), "before");
  proxy_.set_client_to_server({.reset_after_bytes = 5});
  client.send("123");
  EXPECT_EQ(server.receive(3), "123");
  client.send("456789");
  EXPECT_EQ(server.receive(100), "45");
  EXPECT_TRUE(server.sees_reset());
  EXPECT_TRUE(client.sees_reset());
  EXPECT_TRUE(count_becomes(0));

  auto [second_client, second_server] = connect_pair();  // Counts for itself.
  second_client.send("1234");
  EXPECT_EQ(second_server.receive(4), "1234");
  second_client.send("56");
  EXPECT_EQ(second_server.receive(100), "5");
}

TEST_F(TcpProxyTest, ResetsAfterNoBytesAtAll) {
  auto [client, server] = connect_pair();
  proxy_.set_server_to_client({.reset_after_bytes = 0});
  EXPECT_TRUE(client.sees_reset());
  EXPECT_TRUE(server.sees_reset());
}

TEST_F(TcpProxyTest, ResetsAllAndRefusesNewOnes) {
  auto [first_client, first_server] = connect_pair();
  auto [second_client, second_server] = connect_pair();
  ASSERT_TRUE(count_becomes(2));
  proxy_.set_accepting(false);
  proxy_.reset_all();
  EXPECT_EQ(proxy_.connection_count(), 0U);
  EXPECT_TRUE(first_client.sees_reset());
  EXPECT_TRUE(second_server.sees_reset());
  EXPECT_TRUE(Peer::connect(proxy_.port()).sees_reset());
  proxy_.set_accepting(true);
  auto [client, server] = connect_pair();
  client.send("again");
  EXPECT_EQ(server.receive(5), "again");
}

TEST_F(TcpProxyTest, ATargetThatRefusesResetsTheClient) {
  listener_.reset();
  EXPECT_TRUE(Peer::connect(proxy_.port()).sees_reset());
  EXPECT_TRUE(count_becomes(0));
}

TEST_F(TcpProxyTest, FaultsCanHitMarkedConnectionsOnly) {
  auto [early_client, early_server] = connect_pair();  // Has sent the marker before it is set.
  early_client.send("SUBSCRIBE before");
  EXPECT_EQ(early_server.receive(16), "SUBSCRIBE before");
  proxy_.set_marker("SUBSCRIBE");
  auto [split_client, split_server] = connect_pair();  // Sends it in two pieces.
  split_client.send("*2 SUBSC");
  EXPECT_EQ(split_server.receive(8), "*2 SUBSC");
  split_client.send("RIBE ch");
  EXPECT_EQ(split_server.receive(7), "RIBE ch");
  auto [plain_client, plain_server] = connect_pair();
  plain_client.send("GET k");
  EXPECT_EQ(plain_server.receive(5), "GET k");

  proxy_.set_server_to_client({.blackhole = true});
  early_server.send("m");
  split_server.send("m");
  plain_server.send("v");
  EXPECT_EQ(plain_client.receive(1), "v");
  EXPECT_TRUE(early_client.is_silent());
  EXPECT_TRUE(split_client.is_silent());

  proxy_.set_only_marked(false);
  early_server.send("1");
  split_server.send("2");
  plain_server.send("3");
  EXPECT_EQ(early_client.receive(1), "1");
  EXPECT_EQ(split_client.receive(1), "2");
  EXPECT_TRUE(plain_client.is_silent());

  proxy_.set_marker("");
  early_server.send("lost");
  EXPECT_TRUE(early_client.is_silent());
}

TEST_F(TcpProxyTest, IsChangedFromManyThreadsWhileItRuns) {
  auto [client, server] = connect_pair();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this, i] {
      for (int round = 0; round < 100; ++round) {
        proxy_.set_client_to_server({.delay = milliseconds{i}});
        (void)proxy_.connection_count();
        proxy_.heal();
      }
    });
  }
  std::string sent;
  for (int i = 0; i < 200; ++i) {
    client.send(std::to_string(i));
    sent += std::to_string(i);
  }
  EXPECT_EQ(server.receive(sent.size()), sent);
  for (std::thread& thread : threads) thread.join();
}

TEST(TcpProxyWithRedis, PartsTheSubscriptionFromTheData) {
  auto redis = RedisServer::start();
  TcpProxy proxy{redis->port()};
  EXPECT_EQ(proxy.url(), "redis://127.0.0.1:" + std::to_string(proxy.port()));
  proxy.set_marker("SUBSCRIBE");
  auto data = BlockingRedis::connect("127.0.0.1", proxy.port());
  auto subscription = BlockingRedis::connect("127.0.0.1", proxy.port());
  ASSERT_TRUE(data);
  ASSERT_TRUE(subscription);
  proxy.set_server_to_client({.chunk_bytes_max = 1});
  EXPECT_EQ(subscription->command({"SUBSCRIBE", "c"})->to_text(), "subscribe\nc\n1");
  proxy.set_server_to_client({.blackhole = true});
  EXPECT_EQ(data->command({"PUBLISH", "c", "unheard"})->to_text(), "1");
  EXPECT_EQ(subscription->read_reply(kSilence).error().code, ErrorCode::kDeadlineExceeded);
  proxy.heal();
  EXPECT_EQ(data->command({"PUBLISH", "c", "heard"})->to_text(), "1");
  EXPECT_EQ(subscription->read_reply()->to_text(), "message\nc\nheard");
}

}  // namespace
}  // namespace tiercel::testing
