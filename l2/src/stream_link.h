#pragma once

// StreamLink: S. Subscribed to one channel; carries messages, pings and nothing else. Anything
// unexpected on it ends it: a stream that is out of step proves nothing. Loop thread only.

#include <cstdint>
#include <string>
#include <string_view>

#include "link.h"

namespace tiercel::l2 {

class StreamLink final : public Link {
 public:
  // More pings than this without an answer are not sent: the caller's deadline is about to redial.
  static constexpr std::uint32_t kPingsOutstandingMax = 64;
  static constexpr std::size_t kPingTokenBytesMax = 64;

  StreamLink(Host& host, std::string channel);

  void ping(std::string_view token);

 private:
  void link_handshaken() override;
  void link_up(const ServerIdentity& server) override;
  void link_down(const Error& reason) override;
  void link_failed(const Error& reason) override;
  void link_reply(const ReplyView& reply) override;

  void subscription_reply(const ReplyView& reply);
  void unexpected();

  const std::string channel_;
  std::uint32_t pings_outstanding_ = 0;
};

}  // namespace tiercel::l2
