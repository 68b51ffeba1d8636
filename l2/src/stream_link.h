#pragma once

// StreamLink: S. Subscribed to one channel; carries messages, pings and nothing else. Anything
// unexpected on it ends it: a stream that is out of step proves nothing. Loop thread only.
//
// With a prefix to track it also is the target of its own CLIENT TRACKING, so that what the server
// says of foreign writers shares the fate of the messages:
//
//   CLIENT ID -> CLIENT TRACKING ON REDIRECT <id> BCAST PREFIX <prefix>
//             -> SUBSCRIBE <channel> __redis__:invalidate

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "link.h"

namespace tiercel::l2 {

class StreamLink final : public Link {
 public:
  // More pings than this without an answer are not sent: the caller's deadline is about to redial.
  static constexpr std::uint32_t kPingsOutstandingMax = 64;
  static constexpr std::size_t kPingTokenBytesMax = 64;

  // An empty prefix: nothing is tracked.
  StreamLink(Host& host, std::string channel, std::string track_prefix);

  void ping(std::string_view token);

 private:
  void link_handshaken() override;
  void link_up(const ServerIdentity& server) override;
  void link_down(const Error& reason) override;
  void link_failed(const Error& reason) override;
  void link_reply(const ReplyView& reply) override;
  void link_read_end(bool more) override;

  // What the next reply is for, until S is up.
  enum class Step : std::uint8_t { kId, kTracking, kChannel, kInvalidations };

  [[nodiscard]] bool tracks() const noexcept { return !track_prefix_.empty(); }
  void subscribe(std::string& wire) const;
  void id_reply(const ReplyView& reply);
  void tracking_reply(const ReplyView& reply);
  void subscription_reply(const ReplyView& reply);
  void take_message(const ReplyView& channel, const ReplyView& payload);
  void take_invalidation(const ReplyView& keys);
  void refused(const char* what, const ReplyView& reply);
  void unexpected();

  const std::string channel_;
  const std::string track_prefix_;
  Step step_ = Step::kChannel;
  bool has_told_ = false;               // The observer something, since the last read's end.
  std::vector<std::string_view> keys_;  // Of one invalidation, during it.
  std::uint32_t pings_outstanding_ = 0;
};

}  // namespace tiercel::l2
