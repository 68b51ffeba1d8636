#include "handshake.h"

#include <utility>

#include "resp_format.h"
#include "server_text.h"
#include "tiercel/base/bytes.h"

namespace tiercel::l2 {
namespace {

std::string user_for_message(const Credentials& credentials) {
  if (credentials.username.empty()) return "the default user";
  return "user '" + bytes_for_message(credentials.username) + "'";
}

// A server that does not know AUTH repeats its arguments in the error, long ones cut off.
std::string quoted_unless_secret(std::string_view text, const Credentials& credentials) {
  constexpr std::size_t kTellingBytes = 16;
  const std::string_view secret = std::string_view{credentials.password}.substr(0, kTellingBytes);
  if (!secret.empty() && text.find(secret) != std::string_view::npos) {
    return "(the server's text is withheld, it contains the password)";
  }
  return "'" + server_text(text) + "'";
}

bool contains(std::string_view text, std::string_view part) noexcept {
  return text.find(part) != std::string_view::npos;
}

// "… to run the 'client|setname' command": the server names the subcommand, too.
std::string refused_command(std::string_view what, std::string_view said) {
  constexpr std::string_view kBegin = "to run the '";
  const auto begin = said.find(kBegin);
  if (begin != std::string_view::npos) {
    said.remove_prefix(begin + kBegin.size());
    const auto end = said.find('\'');
    if (end != std::string_view::npos && end > 0) return server_text(said.substr(0, end));
  }
  std::string command{what};
  for (char& c : command) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return command;
}

std::string_view info_field(std::string_view info, std::string_view name) noexcept {
  while (!info.empty()) {
    const auto end = info.find('\n');
    std::string_view line = info.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with(name) && line.substr(name.size()).starts_with(':')) {
      return line.substr(name.size() + 1);
    }
    if (end == std::string_view::npos) break;
    info.remove_prefix(end + 1);
  }
  return {};
}

}  // namespace

std::string auth_wire(const Credentials& credentials) {
  std::string wire;
  if (credentials.password.empty()) return wire;
  if (credentials.username.empty()) {
    append_request(wire, {"AUTH", credentials.password});
  } else {
    append_request(wire, {"AUTH", credentials.username, credentials.password});
  }
  return wire;
}

std::optional<std::string> explain_refusal(const std::string& what, std::string_view said,
                                           const Credentials& credentials,
                                           std::string_view channels) {
  const std::string text = quoted_unless_secret(said, credentials);
  if (said.starts_with("NOAUTH")) {
    return "the server wants a password and none is configured (its default user has one, or is "
           "off): " +
           text;
  }
  if (said.starts_with("WRONGPASS") || said.starts_with("ERR invalid password")) {
    return "the password for " + user_for_message(credentials) +
           " is wrong, or the user is unknown or disabled: " + text;
  }
  if (contains(said, "without any password configured") || contains(said, "no password is set")) {
    return "a password is configured here, but the server's default user has none (remove ours, or "
           "set requirepass or an ACL user there): " +
           text;
  }
  if (said.starts_with("NOPERM")) {
    const std::string missing = contains(said, "channel") && !channels.empty()
                                    ? std::string{channels}
                                    : "+" + refused_command(what, said);
    return user_for_message(credentials) + " is not permitted to use " + what + " (" + missing +
           " is missing in its ACL): " + text;
  }
  if (said.starts_with("DENIED")) {
    return "the server runs in protected mode and refuses clients from other machines: " + text;
  }
  return std::nullopt;
}

Handshake::Handshake(const RedisOptions& options, Endpoint endpoint,
                     std::string_view connection_name)
    : credentials_(options.credentials), database_(options.database) {
  identity_.endpoint = std::move(endpoint);
  wire_ = auth_wire(credentials_);
  if (!wire_.empty()) steps_.push_back(Step::kAuth);
  if (database_ != 0) {
    append_request(wire_, {"SELECT", std::to_string(database_)});
    steps_.push_back(Step::kSelect);
  }
  append_request(wire_, {"CLIENT", "SETNAME", connection_name});
  append_request(wire_, {"ROLE"});
  append_request(wire_, {"INFO", "server"});
  append_request(wire_, {"INFO", "replication"});
  steps_.insert(steps_.end(),
                {Step::kSetName, Step::kRole, Step::kInfoServer, Step::kInfoReplication});
}

Handshake::Outcome Handshake::fail(Outcome outcome, std::string message) {
  error_ = outcome == Outcome::kRefused ? invalid_argument(std::move(message))
                                        : unavailable(std::move(message));
  error_.endpoint = identity_.endpoint.to_string();
  return outcome;
}

Handshake::Outcome Handshake::feed(const Reply& reply) {
  const Step step = steps_[next_step_++];
  if (reply.is_error()) {
    // Older servers do not know SETNAME and an ACL may forbid it; the name is only for people.
    // NOAUTH is for all that follows.
    if (step == Step::kSetName && !reply.is_error("NOAUTH")) return Outcome::kMore;
    return refused_or_failed(step, reply);
  }
  switch (step) {
    case Step::kAuth:
    case Step::kSelect:
    case Step::kSetName: return Outcome::kMore;
    case Step::kRole: return check_role(reply);
    case Step::kInfoServer:
      identity_.run_id = info_field(reply.text, "run_id");
      return Outcome::kMore;
    case Step::kInfoReplication:
      identity_.replication_id = info_field(reply.text, "master_replid");
      // Without them a restarted or promoted server could not be told from the old one.
      if (identity_.run_id.empty() || identity_.replication_id.empty()) {
        return fail(Outcome::kFailed, "INFO says no run_id or master_replid: is this Redis?");
      }
      return Outcome::kMaster;
  }
  return fail(Outcome::kFailed, "unexpected handshake reply");
}

Handshake::Outcome Handshake::check_role(const Reply& reply) {
  const std::string_view role = reply.is_array() && !reply.elements.empty()
                                    ? std::string_view{reply.elements[0].text}
                                    : std::string_view{};
  if (role == "master") return Outcome::kMore;
  if (role == "sentinel") {
    return fail(
        Outcome::kRefused,
        "this is a Sentinel, not a Redis server: use redis+sentinel://host:port/mastername");
  }
  if (role != "slave" || reply.elements.size() < 3) {
    return fail(Outcome::kFailed, "ROLE was answered with something unknown");
  }
  return fail(Outcome::kNotMaster, "not a master: it is a replica of " +
                                       bytes_for_message(reply.elements[1].text) + ":" +
                                       std::to_string(reply.elements[2].integer));
}

Handshake::Outcome Handshake::refused_or_failed(Step step, const Reply& reply) {
  std::string what;
  switch (step) {
    case Step::kAuth: what = "AUTH"; break;
    case Step::kSelect: what = "SELECT"; break;
    case Step::kSetName: what = "CLIENT"; break;
    case Step::kRole: what = "ROLE"; break;
    case Step::kInfoServer:
    case Step::kInfoReplication: what = "INFO"; break;
  }
  if (auto why = explain_refusal(what, reply.text, credentials_)) {
    return fail(Outcome::kRefused, std::move(*why));
  }
  const std::string text = quoted_unless_secret(reply.text, credentials_);
  // "max number of clients reached" comes in place of whatever was asked first, and passes.
  const bool is_plain = reply.text.starts_with("ERR ") && !contains(reply.text, "max number");
  if (is_plain && step == Step::kAuth) {
    return fail(Outcome::kRefused,
                "AUTH was refused for " + user_for_message(credentials_) + ": " + text);
  }
  if (is_plain && step == Step::kSelect) {
    return fail(Outcome::kRefused,
                "database " + std::to_string(database_) + " was refused: " + text);
  }
  return fail(Outcome::kFailed, what + " was answered with " + text);
}

}  // namespace tiercel::l2
