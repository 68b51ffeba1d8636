#include "support/reserved_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>

#include "tiercel/base/random.h"

namespace tiercel::testing {

namespace {

constexpr std::uint16_t kPortMin = 12'000;
constexpr std::uint16_t kPortMax = 32'767;  // The usual ephemeral range begins one above.
constexpr std::uint16_t kPortsMin = 1'000;  // With fewer candidates than this, ask the kernel.
constexpr int kTriesMax = 1'000;

// Ports below the ephemeral range of this machine; 0 when there are too few.
std::uint16_t candidates() {
  std::uint32_t ephemeral_first = 0;
  std::ifstream{"/proc/sys/net/ipv4/ip_local_port_range"} >> ephemeral_first;
  if (ephemeral_first == 0) return 0;
  const auto end = std::min<std::uint32_t>(ephemeral_first, kPortMax + 1U);
  return end < kPortMin + kPortsMin ? std::uint16_t{0} : static_cast<std::uint16_t>(end - kPortMin);
}

UniqueFd bind_loopback(std::uint16_t port) {
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const int on = 1;  // As the servers do: connections in TIME_WAIT are no obstacle.
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  // With SO_REUSEADDR only listen() finds out that another one listens.
  if (::listen(fd.get(), 1) != 0) return {};
  return fd;
}

std::uint16_t ephemeral_port() {
  const UniqueFd fd = bind_loopback(0);
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (!fd || ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.sin_port);
}

UniqueFd claim_name(std::uint16_t port) {
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "tiercel-port-" + std::to_string(port);
  // A leading zero byte makes the name abstract: no file, gone with its last descriptor.
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) return {};
  return fd;
}

}  // namespace

std::optional<ReservedPort> ReservedPort::try_reserve(std::uint16_t port) {
  UniqueFd claim = claim_name(port);
  if (!claim || !bind_loopback(port)) return std::nullopt;
  return ReservedPort{port, std::move(claim)};
}

ReservedPort ReservedPort::any() {
  Random random = Random::from_entropy();
  const std::uint16_t count = candidates();
  for (int tries = 0; tries < kTriesMax; ++tries) {
    const auto port =
        count > 0 ? static_cast<std::uint16_t>(kPortMin + random.below(count)) : ephemeral_port();
    if (port == 0) continue;
    if (auto reserved = try_reserve(port)) return std::move(*reserved);
  }
  fail("no free TCP port on 127.0.0.1");
}

}  // namespace tiercel::testing
