// Keys, values and scripts. What concerns connections is in fake_redis_connections.cc.

#include "support/fake_redis.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "support/resp_text.h"

namespace tiercel::testing {

namespace {

constexpr std::size_t kRunIdDigits = 40;

std::string lower(std::string_view text) {
  std::string out{text};
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

std::optional<std::int64_t> to_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string wrong_type() {
  return resp::error("WRONGTYPE Operation against a key holding the wrong kind of value");
}
std::string not_an_integer() { return resp::error("ERR value is not an integer or out of range"); }
std::string syntax_error() { return resp::error("ERR syntax error"); }

std::string unknown_command(const FakeRedis::Words& words) {
  std::string text = "ERR unknown command '" + words[0] + "', with args beginning with: ";
  for (std::size_t i = 1; i < words.size(); ++i) text += "'" + words[i] + "' ";
  return resp::error(text);
}

// 40 digits that tell a server's lives apart.
std::string identity(char kind, std::uint64_t life) {
  std::string digits = std::to_string(life);
  return std::string(kRunIdDigits - digits.size(), kind) + digits;
}

}  // namespace

std::string FakeRedis::upper(std::string_view text) {
  std::string out{text};
  for (char& c : out) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return out;
}

FakeRedis::FakeRedis(Connections& connections) : connections_(connections) {
  users_["default"];
  restart();
}

void FakeRedis::restart() {
  ++lives_;
  for (auto& database : databases_) database.clear();
  loaded_.clear();
  refusal_.clear();
  master_.reset();
  run_id_ = identity('a', lives_);
  replication_id_ = identity('b', lives_);
  former_replication_id_ = std::string(kRunIdDigits, '0');
}

void FakeRedis::set_master(const std::string& host, std::int64_t port) {
  const bool was_replica = master_.has_value();
  master_.reset();
  if (!host.empty()) {
    master_.emplace(host, port);
  } else if (was_replica) {
    former_replication_id_ = std::exchange(replication_id_, identity('c', ++promotions_));
  }
}

FakeRedis::Session FakeRedis::begin_session(int id) const {
  Session session;
  session.id = id;
  const User& user = users_.at("default");
  session.is_authenticated = !user.password || user.password->empty();
  return session;
}

const std::map<std::string, FakeRedis::Entry, std::less<>>& FakeRedis::table() {
  static const std::map<std::string, Entry, std::less<>> entries{
      {"PING", {1, 2, false, &FakeRedis::ping}},
      {"ECHO", {2, 2, false, &FakeRedis::echo}},
      {"GET", {2, 2, false, &FakeRedis::get}},
      {"SET", {3, 0, true, &FakeRedis::set}},
      {"DEL", {2, 0, true, &FakeRedis::del}},
      {"UNLINK", {2, 0, true, &FakeRedis::del}},
      {"EXISTS", {2, 0, false, &FakeRedis::exists}},
      {"MGET", {2, 0, false, &FakeRedis::mget}},
      {"MSET", {3, 0, true, &FakeRedis::mset}},
      {"INCR", {2, 2, true, &FakeRedis::count}},
      {"DECR", {2, 2, true, &FakeRedis::count}},
      {"INCRBY", {3, 3, true, &FakeRedis::count}},
      {"DECRBY", {3, 3, true, &FakeRedis::count}},
      {"EXPIRE", {3, 3, true, &FakeRedis::expire}},
      {"PEXPIRE", {3, 3, true, &FakeRedis::expire}},
      {"TTL", {2, 2, false, &FakeRedis::ttl}},
      {"PTTL", {2, 2, false, &FakeRedis::ttl}},
      {"RPUSH", {3, 0, true, &FakeRedis::rpush}},
      {"LRANGE", {4, 4, false, &FakeRedis::lrange}},
      {"LLEN", {2, 2, false, &FakeRedis::llen}},
      {"FLUSHALL", {1, 2, true, &FakeRedis::flush}},
      {"DBSIZE", {1, 1, false, &FakeRedis::dbsize}},
      {"EVAL", {3, 0, false, &FakeRedis::eval}},
      {"EVALSHA", {3, 0, false, &FakeRedis::evalsha}},
      {"SCRIPT", {2, 0, false, &FakeRedis::script}},
      {"PUBLISH", {3, 3, false, &FakeRedis::publish}},
      {"SUBSCRIBE", {2, 0, false, &FakeRedis::subscribe}},
      {"UNSUBSCRIBE", {1, 0, false, &FakeRedis::unsubscribe}},
      {"AUTH", {2, 3, false, &FakeRedis::auth}},
      {"ACL", {2, 0, false, &FakeRedis::acl}},
      {"SELECT", {2, 2, false, &FakeRedis::select}},
      {"CLIENT", {2, 0, false, &FakeRedis::client}},
      {"CONFIG", {2, 0, false, &FakeRedis::config}},
      {"ROLE", {1, 1, false, &FakeRedis::role}},
      {"INFO", {1, 2, false, &FakeRedis::info}},
      {"REPLICAOF", {3, 3, false, &FakeRedis::replicaof}},
      {"QUIT", {1, 1, false, &FakeRedis::quit}},
  };
  return entries;
}

std::string FakeRedis::execute(Session& session, const Words& words) {
  const std::string name = upper(words[0]);
  const auto entry = table().find(name);
  const auto size = static_cast<int>(words.size());
  // HELLO is unknown, as before Redis 6: nobody may rely on RESP3.
  if (entry == table().end()) return unknown_command(words);
  if (size < entry->second.words_min ||
      (entry->second.words_max != 0 && size > entry->second.words_max)) {
    return resp::error("ERR wrong number of arguments for '" + lower(name) + "' command");
  }
  if (auto refused = refuse(session, name, entry->second.writes)) return resp::error(*refused);
  return run(entry->second, session, words);
}

// Whoever tracks is told of all that a script has changed at once, and before its caller.
std::string FakeRedis::run(const Entry& entry, Session& session, const Words& words) {
  std::string reply = (this->*entry.run)(session, words);
  if (!changed_.empty()) connections_.invalidate(std::exchange(changed_, {}), false);
  return reply;
}

std::optional<std::string> FakeRedis::refuse(const Session& session, const std::string& name,
                                             bool writes) const {
  static const std::set<std::string> always{"AUTH", "QUIT"};
  if (always.contains(name)) return std::nullopt;
  if (!session.is_authenticated) return "NOAUTH Authentication required.";
  const User& user = users_.at(session.user);
  if (user.denied.contains(name)) {
    return "NOPERM this user has no permissions to run the '" + lower(name) + "' command";
  }
  static const std::set<std::string> while_stale{"ACL",  "CLIENT",      "CONFIG",    "INFO",
                                                 "ROLE", "REPLICAOF",   "SUBSCRIBE", "SELECT",
                                                 "ECHO", "UNSUBSCRIBE", "PUBLISH"};
  const bool is_busy = refusal_.starts_with("BUSY");
  if (!refusal_.empty() && (is_busy || !while_stale.contains(name))) return refusal_;
  if (!session.channels.empty() && name != "PING" && name != "SUBSCRIBE" && name != "UNSUBSCRIBE") {
    return "ERR Can't execute '" + lower(name) +
           "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this "
           "context";
  }
  if (writes && master_) return "READONLY You can't write against a read only replica.";
  return std::nullopt;
}

FakeRedis::Value* FakeRedis::find(Session& session, const std::string& key) {
  auto& database = databases_[session.database];
  const auto found = database.find(key);
  if (found == database.end()) return nullptr;
  if (found->second.expires_at && *found->second.expires_at <= Clock::system().now()) {
    database.erase(found);
    changed_.push_back(key);
    return nullptr;
  }
  return &found->second;
}

std::string* FakeRedis::find_string(Session& session, const std::string& key, bool& is_wrong_type) {
  Value* const value = find(session, key);
  if (value == nullptr) return nullptr;
  auto* const text = std::get_if<std::string>(&value->data);
  is_wrong_type = text == nullptr;
  return text;
}

void FakeRedis::put(Session& session, const std::string& key, std::string value,
                    std::optional<TimePoint> expires_at) {
  databases_[session.database][key] = Value{std::move(value), expires_at};
  changed_.push_back(key);
}

std::string FakeRedis::ping(Session& session, const Words& words) {
  if (!session.channels.empty()) {
    return resp::array({resp::bulk("pong"), resp::bulk(words.size() > 1 ? words[1] : "")});
  }
  return words.size() > 1 ? resp::bulk(words[1]) : resp::status("PONG");
}

std::string FakeRedis::echo(Session&, const Words& words) { return resp::bulk(words[1]); }

std::string FakeRedis::get(Session& session, const Words& words) {
  bool is_wrong_type = false;
  const std::string* const text = find_string(session, words[1], is_wrong_type);
  if (is_wrong_type) return wrong_type();
  return text == nullptr ? resp::nil() : resp::bulk(*text);
}

std::string FakeRedis::set(Session& session, const Words& words) {
  bool only_new = false;
  bool only_old = false;
  std::optional<TimePoint> expires_at;
  for (std::size_t i = 3; i < words.size(); ++i) {
    const std::string option = upper(words[i]);
    if (option == "NX") {
      only_new = true;
    } else if (option == "XX") {
      only_old = true;
    } else if ((option == "PX" || option == "EX") && i + 1 < words.size()) {
      const auto amount = to_integer(words[++i]);
      if (!amount) return not_an_integer();
      if (*amount <= 0) return resp::error("ERR invalid expire time in 'set' command");
      expires_at = Clock::system().now() +
                   std::chrono::milliseconds{option == "PX" ? *amount : *amount * 1000};
    } else {
      return syntax_error();
    }
  }
  if (only_new && only_old) return syntax_error();
  const bool is_there = find(session, words[1]) != nullptr;
  if ((only_new && is_there) || (only_old && !is_there)) return resp::nil();
  put(session, words[1], words[2], expires_at);
  return resp::ok();
}

std::string FakeRedis::del(Session& session, const Words& words) {
  std::int64_t gone = 0;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (find(session, words[i]) == nullptr) continue;
    databases_[session.database].erase(words[i]);
    changed_.push_back(words[i]);
    ++gone;
  }
  return resp::integer(gone);
}

std::string FakeRedis::exists(Session& session, const Words& words) {
  return resp::integer(std::count_if(words.begin() + 1, words.end(), [&](const std::string& key) {
    return find(session, key) != nullptr;
  }));
}

std::string FakeRedis::mget(Session& session, const Words& words) {
  std::vector<std::string> found;
  for (std::size_t i = 1; i < words.size(); ++i) {
    bool is_wrong_type = false;
    const std::string* const text = find_string(session, words[i], is_wrong_type);
    found.push_back(text == nullptr ? resp::nil() : resp::bulk(*text));
  }
  return resp::array(found);
}

std::string FakeRedis::mset(Session& session, const Words& words) {
  if (words.size() % 2 == 0) {
    return resp::error("ERR wrong number of arguments for 'mset' command");
  }
  for (std::size_t i = 1; i < words.size(); i += 2) put(session, words[i], words[i + 1]);
  return resp::ok();
}

std::string FakeRedis::count(Session& session, const Words& words) {
  const std::string name = upper(words[0]);
  std::int64_t delta = 1;
  if (words.size() == 3) {
    const auto given = to_integer(words[2]);
    if (!given) return not_an_integer();
    delta = *given;
  }
  if (!name.starts_with("DECR")) return add(session, words[1], delta);
  if (delta == std::numeric_limits<std::int64_t>::min()) {
    return resp::error("ERR decrement would overflow");
  }
  return add(session, words[1], -delta);
}

std::string FakeRedis::add(Session& session, const std::string& key, std::int64_t delta) {
  bool is_wrong_type = false;
  const std::string* const text = find_string(session, key, is_wrong_type);
  if (is_wrong_type) return wrong_type();
  const auto old = text == nullptr ? std::int64_t{0} : to_integer(*text);
  if (!old) return not_an_integer();
  std::int64_t sum = 0;
  if (__builtin_add_overflow(*old, delta, &sum)) {
    return resp::error("ERR increment or decrement would overflow");
  }
  put(session, key, std::to_string(sum),
      text == nullptr ? std::nullopt : databases_[session.database][key].expires_at);
  return resp::integer(sum);
}

std::string FakeRedis::expire(Session& session, const Words& words) {
  const auto amount = to_integer(words[2]);
  if (!amount) return not_an_integer();
  Value* const value = find(session, words[1]);
  if (value == nullptr) return resp::integer(0);
  const bool is_milliseconds = upper(words[0]) == "PEXPIRE";
  value->expires_at =
      Clock::system().now() + std::chrono::milliseconds{is_milliseconds ? *amount : *amount * 1000};
  changed_.push_back(words[1]);
  return resp::integer(1);
}

std::string FakeRedis::ttl(Session& session, const Words& words) {
  Value* const value = find(session, words[1]);
  if (value == nullptr) return resp::integer(-2);
  if (!value->expires_at) return resp::integer(-1);
  const auto left = to_milliseconds(*value->expires_at - Clock::system().now());
  return resp::integer(upper(words[0]) == "PTTL" ? left : (left + 500) / 1000);
}

std::string FakeRedis::rpush(Session& session, const Words& words) {
  Value* value = find(session, words[1]);
  if (value == nullptr) {
    value = &(databases_[session.database][words[1]] = Value{std::vector<std::string>{}});
  }
  auto* const list = std::get_if<std::vector<std::string>>(&value->data);
  if (list == nullptr) return wrong_type();
  list->insert(list->end(), words.begin() + 2, words.end());
  changed_.push_back(words[1]);
  return resp::integer(static_cast<std::int64_t>(list->size()));
}

std::string FakeRedis::lrange(Session& session, const Words& words) {
  auto first = to_integer(words[2]);
  auto last = to_integer(words[3]);
  if (!first || !last) return not_an_integer();
  Value* const value = find(session, words[1]);
  if (value == nullptr) return resp::array({});
  auto* const list = std::get_if<std::vector<std::string>>(&value->data);
  if (list == nullptr) return wrong_type();
  const auto size = static_cast<std::int64_t>(list->size());
  if (*first < 0) first = std::max<std::int64_t>(*first + size, 0);
  if (*last < 0) last = *last + size;
  std::vector<std::string> elements;
  for (std::int64_t i = *first; i <= std::min(*last, size - 1); ++i) {
    elements.push_back(resp::bulk((*list)[static_cast<std::size_t>(i)]));
  }
  return resp::array(elements);
}

std::string FakeRedis::llen(Session& session, const Words& words) {
  Value* const value = find(session, words[1]);
  if (value == nullptr) return resp::integer(0);
  auto* const list = std::get_if<std::vector<std::string>>(&value->data);
  return list == nullptr ? wrong_type() : resp::integer(static_cast<std::int64_t>(list->size()));
}

std::string FakeRedis::flush(Session&, const Words&) {
  for (auto& database : databases_) database.clear();
  connections_.invalidate({}, true);
  return resp::ok();
}

std::string FakeRedis::dbsize(Session& session, const Words&) {
  return resp::integer(static_cast<std::int64_t>(databases_[session.database].size()));
}

std::string FakeRedis::run_script(Session& session, const std::string& source, const Words& words) {
  const auto key_count = to_integer(words[2]);
  if (!key_count) return not_an_integer();
  if (*key_count < 0) return resp::error("ERR Number of keys can't be negative");
  if (static_cast<std::size_t>(*key_count) > words.size() - 3) {
    return resp::error("ERR Number of keys can't be greater than number of args");
  }
  const auto keys_end = words.begin() + 3 + *key_count;
  return scripts_.at(source).run(*this, session, Words(words.begin() + 3, keys_end),
                                 Words(keys_end, words.end()));
}

std::string FakeRedis::eval(Session& session, const Words& words) {
  const auto found = scripts_.find(words[1]);
  if (found == scripts_.end()) {
    return resp::error("ERR the fake server was not told of this script: add_script()");
  }
  loaded_.insert(found->second.sha1);
  return run_script(session, found->first, words);
}

std::string FakeRedis::evalsha(Session& session, const Words& words) {
  const std::string digest = lower(words[1]);
  for (const auto& [source, script] : scripts_) {
    if (script.sha1 == digest && loaded_.contains(digest)) {
      return run_script(session, source, words);
    }
  }
  return resp::error("NOSCRIPT No matching script. Please use EVAL.");
}

std::string FakeRedis::script(Session&, const Words& words) {
  const std::string what = upper(words[1]);
  if (what == "FLUSH") {
    loaded_.clear();
    return resp::ok();
  }
  if (what == "EXISTS") {
    std::vector<std::string> known;
    for (std::size_t i = 2; i < words.size(); ++i) {
      known.push_back(resp::integer(loaded_.contains(lower(words[i])) ? 1 : 0));
    }
    return resp::array(known);
  }
  if (what == "LOAD" && words.size() == 3 && scripts_.contains(words[2])) {
    loaded_.insert(scripts_[words[2]].sha1);
    return resp::bulk(scripts_[words[2]].sha1);
  }
  return resp::error("ERR unknown subcommand '" + words[1] + "'. Try SCRIPT HELP.");
}

}  // namespace tiercel::testing
