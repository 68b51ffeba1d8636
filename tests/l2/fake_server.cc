#include "fake_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "tiercel/base/check.h"

namespace tiercel::l2 {
namespace {

std::optional<std::string_view> take_line(std::string_view& bytes) {
  const auto end = bytes.find("\r\n");
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = bytes.substr(0, end);
  bytes.remove_prefix(end + 2);
  return line;
}

// Takes one request off the front of `input` if it is complete.
std::optional<FakeServer::Words> take_request(std::string& input) {
  std::string_view rest{input};
  const auto header = take_line(rest);
  if (!header) return std::nullopt;
  FakeServer::Words words;
  for (int left = std::atoi(std::string{header->substr(1)}.c_str()); left > 0; --left) {
    const auto length_line = take_line(rest);
    if (!length_line) return std::nullopt;
    const auto length =
        static_cast<std::size_t>(std::atoi(std::string{length_line->substr(1)}.c_str()));
    if (rest.size() < length + 2) return std::nullopt;
    words.emplace_back(rest.substr(0, length));
    rest.remove_prefix(length + 2);
  }
  input.erase(0, input.size() - rest.size());
  return words;
}

}  // namespace

FakeServer::FakeServer(Handler handler) : handler_(std::move(handler)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  TIERCEL_CHECK(listener_ >= 0 && pipe(wake_) == 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  TIERCEL_CHECK(bind(listener_, raw, length) == 0 && listen(listener_, 64) == 0);
  TIERCEL_CHECK(getsockname(listener_, raw, &length) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread{[this] { run(); }};
}

FakeServer::~FakeServer() {
  TIERCEL_CHECK(write(wake_[1], "x", 1) == 1);
  thread_.join();
  for (const int fd : {listener_, wake_[0], wake_[1]}) ::close(fd);
}

void FakeServer::run() {
  std::map<int, std::string> inputs;
  while (true) {
    std::vector<pollfd> polled{{wake_[0], POLLIN, 0}, {listener_, POLLIN, 0}};
    for (const auto& [fd, input] : inputs) polled.push_back({fd, POLLIN, 0});
    poll(polled.data(), polled.size(), -1);
    if (polled[0].revents != 0) break;
    if (polled[1].revents != 0) {
      if (const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC); fd >= 0) inputs[fd];
    }
    for (std::size_t i = 2; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      const int fd = polled[i].fd;
      char buffer[65536];
      const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
      bool hang_up = got <= 0;
      if (got > 0) inputs[fd].append(buffer, static_cast<std::size_t>(got));
      std::string output;
      while (!hang_up) {
        const auto request = take_request(inputs[fd]);
        if (!request) break;
        const std::string answer = handler_(*request);
        hang_up = answer == kHangUp;
        if (!hang_up) output += answer;
      }
      if (!output.empty()) static_cast<void>(send(fd, output.data(), output.size(), MSG_NOSIGNAL));
      if (hang_up) {
        ::close(fd);
        inputs.erase(fd);
      }
    }
  }
  for (const auto& [fd, input] : inputs) ::close(fd);
}

std::string FakeServer::handshake_reply(const Words& request) {
  const auto bulk = [](const std::string& text) {
    return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
  };
  if (request[0] == "CLIENT" || request[0] == "AUTH" || request[0] == "SELECT") return "+OK\r\n";
  if (request[0] == "ROLE") return "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
  if (request[0] == "INFO" && request[1] == "server") return bulk("run_id:1111\r\n");
  if (request[0] == "INFO") return bulk("role:master\r\nmaster_replid:2222\r\n");
  if (request[0] == "SUBSCRIBE") {
    return "*3\r\n$9\r\nsubscribe\r\n" + bulk(request[1]) + ":1\r\n";
  }
  return {};
}

}  // namespace tiercel::l2
