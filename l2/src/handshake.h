#pragma once

// Handshake: what is asked on each new connection before it is used, in one write: AUTH, SELECT,
// CLIENT SETNAME, ROLE, INFO server, INFO replication. A function of the replies; does no I/O.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/error.h"
#include "tiercel/l2/client.h"
#include "tiercel/l2/options.h"
#include "tiercel/l2/reply.h"

namespace tiercel::l2 {

class Handshake {
 public:
  enum class Outcome : std::uint8_t {
    kMore,       // Replies are still to come.
    kMaster,     // identity() is set.
    kNotMaster,  // error() is set: redial elsewhere.
    kRefused,    // error() is kInvalidArgument: our configuration or the server's must change.
    kFailed,     // error() is set: try again later.
  };

  Handshake(const RedisOptions& options, Endpoint endpoint, std::string_view connection_name);

  [[nodiscard]] const std::string& wire() const noexcept { return wire_; }
  // One reply after the other, until the outcome is no longer kMore.
  [[nodiscard]] Outcome feed(const Reply& reply);

  [[nodiscard]] const ServerIdentity& identity() const noexcept { return identity_; }
  [[nodiscard]] const Error& error() const noexcept { return error_; }

 private:
  enum class Step : std::uint8_t { kAuth, kSelect, kSetName, kRole, kInfoServer, kInfoReplication };

  Outcome fail(Outcome outcome, std::string message);
  Outcome refused_or_failed(Step step, const Reply& reply);
  Outcome check_role(const Reply& reply);

  const Credentials& credentials_;  // Of the options, which outlive this.
  const std::uint32_t database_;
  std::string wire_;
  std::vector<Step> steps_;
  std::size_t next_step_ = 0;
  ServerIdentity identity_;
  Error error_;
};

// The wire bytes of AUTH, or nothing where no password is set.
[[nodiscard]] std::string auth_wire(const Credentials& credentials);

// What a server's refusal to talk to us means (NOAUTH, WRONGPASS, NOPERM, DENIED, …), as a text for
// a person that never contains the password; nothing if the text is no such refusal. `what` names
// what was refused, e.g. "ROLE", `channels` what its ACL may lack ("&news") to subscribe.
[[nodiscard]] std::optional<std::string> explain_refusal(const std::string& what,
                                                         std::string_view said,
                                                         const Credentials& credentials,
                                                         std::string_view channels = {});

}  // namespace tiercel::l2
