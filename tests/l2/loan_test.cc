// The exchange on a borrowed socket, and how it ends when something is not as usual.

#include "loan.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <string>
#include <thread>

#include "support/unique_fd.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;
using tiercel::testing::UniqueFd;

std::optional<HandBack> exchange_on(const LentSocket& lent, std::string_view command,
                                    Duration patience) {
  return exchange(lent, command, Clock::system().now(), patience);
}

class Loan : public ::testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    near_ = UniqueFd{fds[0]};
    far_ = UniqueFd{fds[1]};
    ASSERT_TRUE(kick_.open());
    lent_ = {near_.get(), kick_.fd(), &parser_};
  }
  void say(std::string_view bytes) {
    ASSERT_EQ(::write(far_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  // What has arrived there until now.
  std::string heard() {
    std::string bytes(100'000, 0);
    const ssize_t got = ::read(far_.get(), bytes.data(), bytes.size());
    bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return bytes;
  }
  // As the server answers, once the command is there.
  std::thread answer_with(std::string bytes) {
    return std::thread{[this, bytes = std::move(bytes)] {
      ASSERT_TRUE(tiercel::testing::wait_ready(far_.get(), POLLIN, Clock::system().now() + 60s));
      for (const char byte : bytes) say({&byte, 1});
    }};
  }

  UniqueFd near_;
  UniqueFd far_;
  Kick kick_;
  RespParser parser_;
  LentSocket lent_;
};

TEST_F(Loan, AnswersAreReadWhateverThePieces) {
  std::thread server = answer_with("$5\r\nvalue\r\n");
  EXPECT_FALSE(exchange_on(lent_, "command", 60s));
  server.join();
  EXPECT_EQ(parser_.view().text(), "value");
  EXPECT_TRUE(parser_.is_empty());
  EXPECT_EQ(heard(), "command");
}

TEST_F(Loan, ErrorRepliesAreLeftToTheLoop) {
  std::thread server = answer_with("-LOADING\r\n");
  const auto how = exchange_on(lent_, "command", 60s);
  server.join();
  ASSERT_TRUE(how);
  EXPECT_TRUE(how->has_reply);
  EXPECT_EQ(how->written, 7u);
  EXPECT_TRUE(parser_.view().is_error("LOADING"));
}

TEST_F(Loan, NothingIsSentAfterWhatCameUnasked) {
  say("+surplus\r\n");
  const auto how = exchange_on(lent_, "command", 60s);
  ASSERT_TRUE(how);
  EXPECT_EQ(how->written, 0u);
  EXPECT_FALSE(how->has_reply);
  EXPECT_FALSE(parser_.is_empty());
  EXPECT_EQ(heard(), "");
}

TEST_F(Loan, AFreshSocketIsNotLookedAt) {
  lent_.is_fresh = true;
  say("+early\r\n");
  EXPECT_FALSE(exchange_on(lent_, "command", 60s));
  EXPECT_EQ(parser_.view().text(), "early");
}

TEST_F(Loan, NothingIsSentAfterTheEnd) {
  ASSERT_EQ(::shutdown(far_.get(), SHUT_WR), 0);
  const auto how = exchange_on(lent_, "command", 60s);
  ASSERT_TRUE(how);
  EXPECT_EQ(how->written, 0u);
  EXPECT_EQ(how->failure, UV_EOF);
  EXPECT_EQ(heard(), "");
}

TEST_F(Loan, TheEndAfterTheCommandIsTold) {
  std::thread server{[this] {
    ASSERT_TRUE(tiercel::testing::wait_ready(far_.get(), POLLIN, Clock::system().now() + 60s));
    say("$5\r\nval");
    far_.reset();
  }};
  const auto how = exchange_on(lent_, "command", 60s);
  server.join();
  ASSERT_TRUE(how);
  EXPECT_EQ(how->written, 7u);
  EXPECT_NE(how->failure, 0);
  EXPECT_FALSE(how->has_reply);
}

TEST_F(Loan, SaysHowMuchWasSent) {
  std::string command(1'000'000, 'x');
  const auto how = exchange_on(lent_, command, 60s);
  ASSERT_TRUE(how);
  EXPECT_GT(how->written, 0u);
  EXPECT_LT(how->written, command.size());
  std::string all;
  while (all.size() < how->written) all += heard();
  EXPECT_EQ(all.size(), how->written);
  // Full: nothing is sent.
  while (exchange_on(lent_, command, 60s)->written > 0) continue;
}

TEST_F(Loan, PatienceAndAKickEndTheWait) {
  auto how = exchange_on(lent_, "command", 1ms);
  ASSERT_TRUE(how);
  EXPECT_EQ(how->written, 7u);
  EXPECT_EQ(how->failure, 0);
  kick_.give();
  how = exchange_on(lent_, "command", 1h);
  ASSERT_TRUE(how);
  EXPECT_EQ(how->written, 7u);
  kick_.take_back();
  EXPECT_TRUE(exchange_on(lent_, "command", 1ms));
}

}  // namespace
}  // namespace tiercel::l2
