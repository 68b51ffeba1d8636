// FakeRedis: messages, users, and what one asks the server about itself.

#include <algorithm>
#include <utility>

#include "support/fake_redis.h"
#include "support/resp_text.h"

namespace tiercel::testing {

namespace {

std::string unknown_subcommand(const FakeRedis::Words& words) {
  return resp::error("ERR unknown subcommand '" + words[1] + "'. Try " +
                     FakeRedis::upper(words[0]) + " HELP.");
}

}  // namespace

std::string FakeRedis::publish(Session& session, const Words& words) {
  if (!users_.at(session.user).may_use_channels) {
    return resp::error(
        "NOPERM this user has no permissions to access one of the channels used as "
        "arguments");
  }
  return resp::integer(static_cast<std::int64_t>(connections_.publish(words[1], words[2])));
}

std::string FakeRedis::subscribe(Session& session, const Words& words) {
  if (!users_.at(session.user).may_use_channels) {
    return resp::error(
        "NOPERM this user has no permissions to access one of the channels used as "
        "arguments");
  }
  std::string out;
  for (std::size_t i = 1; i < words.size(); ++i) {
    session.channels.insert(words[i]);
    out += resp::array({resp::bulk("subscribe"), resp::bulk(words[i]),
                        resp::integer(static_cast<std::int64_t>(session.channels.size()))});
  }
  return out;
}

std::string FakeRedis::unsubscribe(Session& session, const Words& words) {
  Words channels(words.begin() + 1, words.end());
  if (channels.empty()) channels.assign(session.channels.begin(), session.channels.end());
  std::string out;
  for (const std::string& channel : channels) {
    session.channels.erase(channel);
    out += resp::array({resp::bulk("unsubscribe"), resp::bulk(channel),
                        resp::integer(static_cast<std::int64_t>(session.channels.size()))});
  }
  return out;
}

std::string FakeRedis::auth(Session& session, const Words& words) {
  const std::string name = words.size() == 3 ? words[1] : "default";
  const auto user = users_.find(name);
  if (words.size() == 2 && (!user->second.password || user->second.password->empty())) {
    return resp::error(
        "ERR AUTH <password> called without any password configured for the default user. Are you "
        "sure your configuration is correct?");
  }
  const bool is_right = user != users_.end() && user->second.is_enabled &&
                        (!user->second.password || user->second.password->empty() ||
                         *user->second.password == words.back());
  if (!is_right) {
    return resp::error("WRONGPASS invalid username-password pair or user is disabled.");
  }
  session.user = name;
  session.is_authenticated = true;
  return resp::ok();
}

// SETUSER knows: on, off, >password, nopass, +command, -command, +@all, &*, resetchannels. Keys are
// not guarded.
std::string FakeRedis::acl(Session& session, const Words& words) {
  const std::string what = upper(words[1]);
  if (what == "WHOAMI") return resp::bulk(session.user);
  if (what != "SETUSER" || words.size() < 3) return unknown_subcommand(words);
  const bool is_new = !users_.contains(words[2]);
  User& user = users_[words[2]];
  if (is_new) user = User{.password = std::nullopt, .is_enabled = false, .may_use_channels = false};
  for (std::size_t i = 3; i < words.size(); ++i) {
    const std::string& rule = words[i];
    if (rule == "on" || rule == "off") {
      user.is_enabled = rule == "on";
    } else if (rule.starts_with('>')) {
      user.password = rule.substr(1);
    } else if (rule == "nopass") {
      user.password.reset();
    } else if (rule.starts_with('&') || rule == "resetchannels") {
      user.may_use_channels = rule[0] == '&';
    } else if (rule == "+@all") {
      user.denied.clear();
    } else if (rule.starts_with('-')) {
      user.denied.insert(upper(rule.substr(1)));
    } else if (rule.starts_with('+')) {
      user.denied.erase(upper(rule.substr(1)));
    } else if (rule != "~*") {
      return resp::error("ERR Error in ACL SETUSER modifier '" + rule + "': Syntax error");
    }
  }
  return resp::ok();
}

std::string FakeRedis::select(Session& session, const Words& words) {
  const std::string& text = words[1];
  const bool is_number =
      !text.empty() && text.size() < 6 &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!is_number) return resp::error("ERR value is not an integer or out of range");
  const auto database = static_cast<std::size_t>(std::stoul(text));
  if (database >= kDatabases) return resp::error("ERR DB index is out of range");
  session.database = database;
  return resp::ok();
}

std::string FakeRedis::client(Session& session, const Words& words) {
  const std::string what = upper(words[1]);
  if (what == "ID") return resp::integer(session.id);
  if (what == "SETNAME" && words.size() == 3) {
    session.name = words[2];
    return resp::ok();
  }
  if (what == "GETNAME") {
    return session.name.empty() ? resp::nil() : resp::bulk(session.name);
  }
  if (what == "LIST") {
    std::string lines;
    for (const Session& other : connections_.sessions()) {
      lines += "id=" + std::to_string(other.id) + " name=" + other.name +
               " db=" + std::to_string(other.database) +
               " sub=" + std::to_string(other.channels.size()) + " user=" + other.user + "\n";
    }
    return resp::bulk(lines);
  }
  if (what == "TRACKING") return client_tracking(session, words);
  if (what == "KILL" && words.size() == 4) return client_kill(session, words);
  if (what == "PAUSE" && words.size() >= 3) {
    connections_.pause_clients(std::chrono::milliseconds{std::stoi(words[2])});
    return resp::ok();
  }
  return unknown_subcommand(words);
}

std::string FakeRedis::client_tracking(Session& session, const Words& words) {
  const bool is_known_form = words.size() == 8 && upper(words[2]) == "ON" &&
                             upper(words[3]) == "REDIRECT" &&
                             words[4] == std::to_string(session.id) && upper(words[5]) == "BCAST" &&
                             upper(words[6]) == "PREFIX";
  if (!is_known_form) return resp::error("ERR syntax error");
  session.tracked_prefix = words[7];
  return resp::ok();
}

std::string FakeRedis::client_kill(Session& session, const Words& words) {
  const std::string filter = upper(words[2]);
  if (filter == "ID") {
    const std::string& id = words[3];
    return resp::integer(static_cast<std::int64_t>(
        connections_.kill([&](const Session& other) { return std::to_string(other.id) == id; })));
  }
  if (filter == "TYPE") {
    const bool subscribed = upper(words[3]) == "PUBSUB";
    // As SKIPME, on by default: not the one that asks.
    return resp::integer(static_cast<std::int64_t>(connections_.kill([&](const Session& other) {
      return other.channels.empty() != subscribed && other.id != session.id;
    })));
  }
  return resp::error("ERR syntax error");
}

std::string FakeRedis::config(Session&, const Words& words) {
  if (upper(words[1]) == "SET" && words.size() == 4 && words[2] == "requirepass") {
    set_password(words[3]);
    return resp::ok();
  }
  return unknown_subcommand(words);
}

std::string FakeRedis::role(Session&, const Words&) {
  if (!master_) return resp::array({resp::bulk("master"), resp::integer(0), resp::array({})});
  return resp::array({resp::bulk("slave"), resp::bulk(master_->first),
                      resp::integer(master_->second), resp::bulk("connect"), resp::integer(-1)});
}

std::string FakeRedis::info(Session&, const Words& words) {
  const std::string section = words.size() == 2 ? upper(words[1]) : "ALL";
  std::string text;
  if (section == "SERVER" || section == "ALL") {
    text += "# Server\r\nredis_version:7.0.15\r\nrun_id:" + run_id_ + "\r\n";
  }
  if (section == "REPLICATION" || section == "ALL") {
    text += "# Replication\r\nrole:" + std::string{master_ ? "slave" : "master"} +
            (master_ ? "\r\nslave_repl_offset:0" : "\r\nconnected_slaves:0") +
            "\r\nmaster_replid:" + replication_id_ +
            "\r\nmaster_replid2:" + former_replication_id_ + "\r\nmaster_repl_offset:0\r\n";
  }
  return resp::bulk(text);
}

std::string FakeRedis::replicaof(Session&, const Words& words) {
  if (upper(words[1]) == "NO" && upper(words[2]) == "ONE") {
    set_master({}, 0);
  } else {
    set_master(words[1], std::stoi(words[2]));
  }
  return resp::ok();
}

std::string FakeRedis::quit(Session& session, const Words&) {
  session.is_told_to_quit = true;
  return resp::ok();
}

}  // namespace tiercel::testing
