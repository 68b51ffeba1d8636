#include "fake_sentinel.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "tiercel/base/check.h"

namespace tiercel::l2 {
namespace {

std::string bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string{text} + "\r\n";
}

std::string array(const std::vector<std::string>& words) {
  std::string text = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) text += bulk(word);
  return text;
}

std::optional<std::string> take_line(std::string& input, std::size_t& at) {
  const auto end = input.find("\r\n", at);
  if (end == std::string::npos) return std::nullopt;
  std::string line = input.substr(at, end - at);
  at = end + 2;
  return line;
}

// Takes one request off the front of `input` if it is complete.
std::optional<std::vector<std::string>> take_request(std::string& input) {
  std::size_t at = 0;
  const auto header = take_line(input, at);
  if (!header) return std::nullopt;
  std::vector<std::string> words;
  for (int left = std::atoi(header->c_str() + 1); left > 0; --left) {
    const auto length_line = take_line(input, at);
    if (!length_line) return std::nullopt;
    const auto length = static_cast<std::size_t>(std::atoi(length_line->c_str() + 1));
    if (input.size() < at + length + 2) return std::nullopt;
    words.push_back(input.substr(at, length));
    at += length + 2;
  }
  input.erase(0, at);
  return words;
}

void send_all(int fd, const std::string& bytes) {
  static_cast<void>(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL));
}

}  // namespace

std::string sentinel_url(const std::vector<std::uint16_t>& ports, const std::string& name) {
  std::string url = "redis+sentinel://";
  for (const std::uint16_t port : ports) {
    if (url.back() != '/') url += ',';
    url += "127.0.0.1:" + std::to_string(port);
  }
  return url + "/" + name;
}

FakeSentinel::FakeSentinel(Story story) : story_(std::move(story)) {
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

FakeSentinel::~FakeSentinel() {
  TIERCEL_CHECK(write(wake_[1], "x", 1) == 1);
  thread_.join();
  MutexLock lock{mutex_};
  for (const auto& [fd, client] : clients_) ::close(fd);
  for (const int fd : {listener_, wake_[0], wake_[1]}) ::close(fd);
}

void FakeSentinel::run() {
  while (true) {
    std::vector<pollfd> polled{{wake_[0], POLLIN, 0}, {listener_, POLLIN, 0}};
    {
      MutexLock lock{mutex_};
      for (const auto& [fd, client] : clients_) polled.push_back({fd, POLLIN, 0});
    }
    poll(polled.data(), polled.size(), -1);
    if (polled[0].revents != 0) return;
    if (polled[1].revents != 0) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      MutexLock lock{mutex_};
      if (fd >= 0) clients_[fd];
      ++accepted_;
    }
    for (std::size_t i = 2; i < polled.size(); ++i) {
      if (polled[i].revents != 0) read_from(polled[i].fd);
    }
  }
}

void FakeSentinel::read_from(int fd) {
  char buffer[65536];
  const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
  MutexLock lock{mutex_};
  if (got <= 0) {
    ::close(fd);
    clients_.erase(fd);
    return;
  }
  Client& client = clients_[fd];
  client.input.append(buffer, static_cast<std::size_t>(got));
  std::string output;
  while (const auto request = take_request(client.input)) output += answer(client, *request);
  if (story_.holds_answers) {
    client.held += output;
  } else {
    send_all(fd, output);
  }
}

void FakeSentinel::release() {
  MutexLock lock{mutex_};
  story_.holds_answers = false;
  for (auto& [fd, client] : clients_) send_all(fd, std::exchange(client.held, {}));
}

std::string FakeSentinel::answer(Client& client, const Words& request) {
  if (story_.is_silent) return {};
  if (!story_.garbage.empty()) return story_.garbage;
  if (request[0] == "AUTH") {
    if (story_.password.empty()) {
      return "-ERR AUTH <password> called without any password configured for the default user. "
             "Are you sure your configuration is correct?\r\n";
    }
    client.is_authenticated = request.back() == story_.password;
    return client.is_authenticated ? "+OK\r\n" : "-WRONGPASS invalid username-password pair\r\n";
  }
  if (!story_.password.empty() && !client.is_authenticated) {
    return "-NOAUTH Authentication required.\r\n";
  }
  if (request[0] == "SUBSCRIBE") return subscribe(client, request);
  if (request[0] == "PING") {
    if (!story_.permits_ping) return "-NOPERM this user has no permissions to run 'ping'\r\n";
    return story_.withholds_pongs
               ? std::string{}
               : array({"pong", story_.pong.empty() ? request.back() : story_.pong});
  }
  if (request[0] == "INFO") {
    return bulk(std::string{"# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:"} +
                (story_.is_tilted ? "1" : "0") + "\r\n");
  }
  if (request[0] == "SENTINEL") return answer_sentinel(request);
  return "-ERR unknown command\r\n";
}

std::string FakeSentinel::answer_sentinel(const Words& request) {
  const std::string port = std::to_string(story_.master_port);
  if (request[1] == "MYID") {
    return story_.run_id.empty() ? "-ERR Unknown subcommand\r\n" : bulk(story_.run_id);
  }
  if (request[1] == "MASTERS") {
    std::string text = "*" + std::to_string(story_.names.size()) + "\r\n";
    for (const std::string& name : story_.names) text += array({"name", name, "ip", "127.0.0.1"});
    return text;
  }
  const bool is_known =
      std::find(story_.names.begin(), story_.names.end(), request[2]) != story_.names.end();
  if (request[1] == "GET-MASTER-ADDR-BY-NAME") {
    ++questions_;
    return is_known ? array({story_.master_host, port}) : "*-1\r\n";
  }
  if (!is_known) return "-ERR No such master with that name\r\n";
  if (request[1] == "MASTER") {
    return array({"name", request[2], "ip", story_.master_host, "port", port, "flags",
                  story_.master_flags, "config-epoch", std::to_string(story_.epoch)});
  }
  if (request[1] == "REPLICAS") {
    ++surveys_;
    if (!story_.permits_replicas) {
      return "-NOPERM this user has no permissions to run the 'sentinel|replicas' command\r\n";
    }
    std::string text = "*" + std::to_string(story_.replicas.size()) + "\r\n";
    for (const Replica& replica : story_.replicas) {
      const bool has_master = replica.master_port != 0;
      text += array({"name", "x", "ip", "127.0.0.1", "port", std::to_string(replica.port), "flags",
                     replica.flags, "master-host", has_master ? "127.0.0.1" : "?", "master-port",
                     std::to_string(replica.master_port)});
    }
    return text;
  }
  if (request[1] == "SENTINELS") {
    std::string text = "*" + std::to_string(story_.sentinels.size()) + "\r\n";
    for (const Peer& peer : story_.sentinels) {
      text +=
          array({"name", peer.run_id, "ip", "127.0.0.1", "port", std::to_string(peer.port), "runid",
                 peer.run_id, "flags", peer.is_down ? "s_down,sentinel,disconnected" : "sentinel"});
    }
    return text;
  }
  return "-ERR Unknown subcommand\r\n";
}

std::string FakeSentinel::subscribe(Client& client, const Words& request) {
  if (!story_.permits_all_channels && (request.size() != 2 || request[1] != "+switch-master")) {
    return "-NOPERM this user has no permissions to access one of the channels used as "
           "arguments\r\n";
  }
  std::string text;
  for (std::size_t i = 1; i < request.size(); ++i) {
    client.channels.insert(request[i]);
    text += "*3\r\n" + bulk("subscribe") + bulk(request[i]) + ":" + std::to_string(i) + "\r\n";
  }
  return text;
}

void FakeSentinel::publish(std::string_view channel, std::string_view payload) {
  MutexLock lock{mutex_};
  const std::string message = "*3\r\n" + bulk("message") + bulk(channel) + bulk(payload);
  for (const auto& [fd, client] : clients_) {
    if (client.channels.contains(channel)) send_all(fd, message);
  }
}

std::size_t FakeSentinel::subscriber_count(std::string_view channel) const {
  MutexLock lock{mutex_};
  return static_cast<std::size_t>(std::count_if(
      clients_.begin(), clients_.end(),
      [channel](const auto& entry) { return entry.second.channels.contains(channel); }));
}

int FakeSentinel::accepted_count() const {
  MutexLock lock{mutex_};
  return accepted_;
}

int FakeSentinel::survey_count() const {
  MutexLock lock{mutex_};
  return surveys_;
}

int FakeSentinel::question_count() const {
  MutexLock lock{mutex_};
  return questions_;
}

}  // namespace tiercel::l2
