#pragma once

// Link: what D and S have in common. It finds the master, dials it, shakes hands, and redials with
// backoff for as long as it is not stopped:
//
//   stopped -> resolving -> due -> dialing (connect, handshake, what the heir asks) -> up
//                 ^                   | failed, timed out, not a master                | lost
//                 +---- waiting <-----+------------------------------------------------+
//
// Waiting is the backoff: a random time below min(backoff_max, backoff_min * 2^attempt). Due is the
// time until the client's DialGate lets the attempt through, 50 ms after the client's last one. A
// link that is sent to a new master (go_to) skips the backoff, not the gate.
//
// Heirs are told by the virtual functions. Loop thread only, except trouble().

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "connection.h"
#include "handshake.h"
#include "host.h"
#include "master_belief.h"
#include "tiercel/base/mutex.h"

namespace tiercel::l2 {

class Link : private Connection::Listener {
 public:
  ~Link() override;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  void start();
  // No redial and no call to the heir from here on.
  void stop();

  [[nodiscard]] bool is_up() const noexcept { return state_ == State::kUp; }
  // Valid while due, dialing or up.
  [[nodiscard]] const Endpoint& endpoint() const noexcept { return identity_.endpoint; }

  // Gives up the connection or the attempt, and dials again after a backoff.
  void redial(Error reason);
  // The master is there: a link that is elsewhere, or waits, dials it after `delay`.
  void go_to(const Endpoint& master, Duration delay);

  // Any thread. Why the link is not usable now; nothing when it is.
  [[nodiscard]] std::optional<Error> trouble() const TIERCEL_EXCLUDES(trouble_mutex_);

 protected:
  Link(Host& host, std::string_view name);

  // The handshake is done; the heir may ask more, and calls become_up() when it can be used.
  virtual void link_handshaken() = 0;
  virtual void link_up(const ServerIdentity& server) = 0;
  virtual void link_down(const Error& reason) = 0;      // It was up.
  virtual void link_failed(const Error& reason) = 0;    // An attempt failed.
  virtual void link_reply(const ReplyView& reply) = 0;  // After the handshake.
  // The connection is about to be closed.
  virtual void link_leaving() {}
  // See Connection::Listener.
  virtual void link_read_end(bool /*more*/) {}
  virtual void link_drained() {}

  void become_up();
  void set_trouble(std::optional<Error> trouble) TIERCEL_EXCLUDES(trouble_mutex_);

  [[nodiscard]] Host& host() noexcept { return host_; }
  [[nodiscard]] const Host& host() const noexcept { return host_; }
  [[nodiscard]] Connection& connection() noexcept { return *connection_; }
  [[nodiscard]] std::string endpoint_text() const { return identity_.endpoint.to_string(); }

 private:
  enum class State : std::uint8_t { kStopped, kWaiting, kResolving, kDue, kDialing, kUp };

  void connection_ready() override;
  void connection_reply_view(const ReplyView& reply) override;
  void connection_read_end(bool more) override;
  void connection_drained() override;
  void connection_lost(const Error& reason) override;

  void resolve();
  void become_due(const Resolution& resolution, Duration delay);
  void dial_when_let();
  void dial();
  void finish_handshake(Handshake::Outcome outcome);
  void abandon();
  void give_up(const Error& reason);
  void log_failure(const Error& reason);

  Host& host_;
  const std::string_view name_;  // "data", "stream"

  State state_ = State::kStopped;
  std::uint64_t generation_ = 0;  // Counts abandon(): an answer for an earlier one is ignored.
  ServerIdentity identity_;
  std::optional<Handshake> handshake_;  // While it runs.
  std::shared_ptr<Connection> connection_;
  // The backoff while waiting, the gate's while due, the attempt's limit while dialing.
  EventLoop::TimerId timer_ = 0;
  std::optional<ServerIdentity> only_if_;  // Set: any other life of the server is refused.
  bool has_dialled_ = false;
  bool has_met_master_ = false;  // In this attempt: the handshake is done.
  Backoff backoff_;
  TimePoint up_since_{};
  std::string last_logged_failure_;

  mutable Mutex trouble_mutex_;
  std::optional<Error> trouble_ TIERCEL_GUARDED_BY(trouble_mutex_);
};

}  // namespace tiercel::l2
