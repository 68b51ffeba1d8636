#include "session_model.h"

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "tiercel/base/check.h"
#include "tiercel/base/random.h"
#include "tiercel/coherence/fill_table.h"
#include "tiercel/coherence/lease.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kKeys = 4;
constexpr std::size_t kFillsMax = 3;  // Under way for one key.

using Step = std::function<void()>;

// The order of all that happens: by time, and within one time as it was put in.
class Timeline {
 public:
  TimePoint now{1000s};

  void at(TimePoint time, Step step) {
    steps_.push(Entry{std::max(time, now), next_++, std::make_shared<Step>(std::move(step))});
  }
  void run_until(TimePoint end) {
    while (!steps_.empty() && steps_.top().time <= end) {
      const Entry entry = steps_.top();
      steps_.pop();
      now = entry.time;
      (*entry.step)();
    }
  }
  void forget() { steps_ = {}; }

 private:
  struct Entry {
    TimePoint time;
    std::uint64_t order;
    std::shared_ptr<Step> step;
    bool operator<(const Entry& other) const {
      return std::pair{time, order} > std::pair{other.time, other.order};
    }
  };
  std::priority_queue<Entry> steps_;
  std::uint64_t next_ = 0;
};

// One thread that takes what comes in order, and now and then stands still.
class Worker {
 public:
  explicit Worker(Timeline& timeline) : timeline_(timeline) {}

  void give(Step step) {
    inbox_.push_back(std::move(step));
    drain();
  }
  void stall(Duration duration) {
    free_at_ = std::max(free_at_, timeline_.now + duration);
    timeline_.at(free_at_, [this] { drain(); });
  }
  [[nodiscard]] bool stalled() const { return timeline_.now < free_at_; }
  void forget() { inbox_.clear(); }

 private:
  void drain() {
    if (draining_) return;  // A step that gives another: it comes in turn.
    draining_ = true;
    while (!inbox_.empty() && !stalled()) {
      const Step step = std::move(inbox_.front());
      inbox_.pop_front();
      step();
    }
    draining_ = false;
  }

  Timeline& timeline_;
  std::deque<Step> inbox_;
  TimePoint free_at_;
  bool draining_ = false;
};

// A TCP connection: each direction in order. What was under way when the reader closes it is lost;
// what the server sent before it died still arrives.
struct Connection {
  int life = 0;  // Of the server at its end.
  bool open = true;
  bool subscribed = false;
  TimePoint last_to_server;
  TimePoint last_to_reader;
};
using ConnectionPtr = std::shared_ptr<Connection>;

class Model {
 public:
  explicit Model(const ModelOptions& options)
      : options_(options),
        random_(options.seed),
        server_(timeline_),
        loop_(timeline_),
        session_(options.session) {}

  ModelReport run() {
    const TimePoint end = timeline_.now + options_.length;
    dial_stream();
    dial_data();
    every(6ms, [this] { write(some_key()); });
    every(2ms, [this] { read(random_.below(kKeys)); });
    every(40ms, [this] { own_write(some_key()); });
    every(3s, [this] { loop_.stall(some(1ms, 1500ms)); });
    every(5s, [this] { server_.stall(some(1ms, 3s)); });
    every(4s, [this] { break_stream(); });
    every(4s, [this] { break_data(); });
    every(9s, [this] { restart_server(); });
    every(2s, [this] { slow_until_ = timeline_.now + some(10ms, 1200ms); });
    timeline_.run_until(end);
    close();
    report_.epochs = session_.epochs();
    report_.tokens_left = fills_.tokens_under_way();
    return report_;
  }

 private:
  struct Write {
    TimePoint acknowledged_at;
    Version version;
  };
  struct Entry {
    Version version;
    std::uint64_t epoch;
  };

  Duration some(Duration least, Duration most) {
    return least + Duration{static_cast<Duration::rep>(
                       random_.below(static_cast<std::uint64_t>((most - least).count())))};
  }
  // To be written: mostly one of the first two, so that an older value of the others, should one
  // stay, is not soon replaced.
  std::size_t some_key() {
    return random_.below(30) == 0 ? 2 + random_.below(kKeys - 2) : random_.below(2);
  }
  Duration trip() {
    if (timeline_.now < slow_until_ && random_.below(3) == 0) return some(10ms, 900ms);
    return some(50us, 2ms);
  }
  // At random times, `period` apart on average.
  void every(Duration period, Step step) {
    timeline_.at(timeline_.now + some(1us, 2 * period), [this, period, step = std::move(step)] {
      step();
      every(period, step);
    });
  }
  Server server_now() const {
    return {.name = "server", .run_id = "life" + std::to_string(life_), .replication_id = "r"};
  }
  static std::string name_of(std::size_t key) { return "key" + std::to_string(key); }

  // ---- network: in order, and no further than the life of the server that was dialled.

  void to_server(const ConnectionPtr& connection, Step step) {
    auto& last = connection->last_to_server;
    last = std::max(last, timeline_.now + trip());
    timeline_.at(last, [this, connection, step = std::move(step)] {
      server_.give([this, connection, step] {
        if (connection->life == life_) step();
      });
    });
  }
  void to_reader(const ConnectionPtr& connection, Step step) {
    auto& last = connection->last_to_reader;
    last = std::max(last, timeline_.now + trip());
    timeline_.at(last, [this, connection, step = std::move(step)] {
      loop_.give([connection, step] {
        if (connection->open) step();
      });
    });
  }
  // Something that happens on the reader's side of a connection, after a while.
  void on_loop(Duration after, Step step) {
    timeline_.at(timeline_.now + after, [this, step = std::move(step)] { loop_.give(step); });
  }

  // ---- the server

  void publish(std::size_t key, Version version) {
    if (options_.sabotage == Sabotage::kMessagesLost && random_.below(50) == 0) return;
    for (const auto& connection : subscribers_) {
      to_reader(connection, [this, key, version] {
        event([&](Actions& out) {
          session_.message({.kind = ChangeKind::kKeys, .version = version, .keys = {name_of(key)}},
                           timeline_.now, out);
        });
      });
    }
  }
  Version apply_write(std::size_t key) {
    const Version version = ++history_;
    stored_[key] = version;
    writes_[key].push_back({timeline_.now, version});
    ++report_.writes;
    publish(key, version);
    return version;
  }
  void write(std::size_t key) {
    server_.give([this, key] { apply_write(key); });
  }
  void restart_server() {
    ++life_;
    subscribers_.clear();
    // Either side of it may go unnoticed: a half-open connection.
    if (random_.below(2) == 0) break_stream();
    if (random_.below(2) == 0) {
      break_data();
    } else {
      const auto connection = data_;
      on_loop(some(100ms, 4s), [this, connection] {
        if (connection == data_) lose_data();
      });
    }
  }

  // ---- the reader's links

  void dial_stream() {
    stream_ = std::make_shared<Connection>();
    const auto connection = stream_;
    // Time passes between the question who it is and SUBSCRIBE, and the server may die in between.
    timeline_.at(timeline_.now + trip(), [this, connection] {
      connection->life = life_;
      const Server server = server_now();
      to_server(connection, [this, connection, server] {
        connection->subscribed = true;
        subscribers_.push_back(connection);
        to_reader(connection, [this, server] {
          event([&](Actions& out) { session_.stream_up(server, timeline_.now, out); });
        });
      });
      // A handshake has a deadline of its own.
      on_loop(3s, [this, connection] {
        if (connection == stream_ && !connection->subscribed) lose_stream();
      });
    });
  }
  void break_stream() {
    const auto connection = stream_;
    std::erase(subscribers_, connection);
    on_loop(trip(), [this, connection] {
      if (connection == stream_) lose_stream();
    });
  }
  void lose_stream() {
    stream_->open = false;
    std::erase(subscribers_, stream_);
    stream_ = std::make_shared<Connection>();  // Not dialled yet; what meant the old one misses it.
    on_loop(some(1ms, 200ms), [this, next = stream_] {
      if (next == stream_) dial_stream();
    });
    event([&](Actions& out) { session_.stream_down(timeline_.now, out); });
  }

  void dial_data() {
    data_ = std::make_shared<Connection>();
    const auto connection = data_;
    timeline_.at(timeline_.now + trip(), [this, connection] {
      connection->life = life_;
      const Server server = server_now();
      to_server(connection, [this, connection, server] {
        connection->subscribed = true;
        to_reader(connection, [this, server] {
          data_is_up_ = true;
          event([&](Actions& out) { session_.data_up(server, timeline_.now, out); });
        });
      });
      on_loop(3s, [this, connection] {
        if (connection == data_ && !connection->subscribed) lose_data();
      });
    });
  }
  void break_data() {
    const auto connection = data_;
    on_loop(trip(), [this, connection] {
      if (connection == data_) lose_data();
    });
  }
  void lose_data() {
    data_->open = false;
    data_is_up_ = false;
    data_ = std::make_shared<Connection>();
    on_loop(some(1ms, 200ms), [this, next = data_] {
      if (next == data_) dial_data();
    });
    event([&](Actions& out) { session_.data_down(timeline_.now, out); });
  }

  // ---- the reader's loop: what the cache does around a Session

  template <typename F>
  void event(F&& give) {
    Actions actions;
    give(actions);
    settle(std::move(actions));
  }
  void settle(Actions actions) {
    if (session_.lease_until() < cell_.until()) cell_.grant(session_.lease_until());
    for (const auto& action : actions) carry_out(action);
    if (redial_wanted_) {
      redial_wanted_ = false;
      ++report_.redials;
      lose_stream();
    }
    cell_.grant(session_.lease_until());
    arm();
  }
  void carry_out(const Action& action) {
    switch (action.kind) {
      case Action::Kind::kSendPing: send_ping(action.token); break;
      case Action::Kind::kRedialStream: redial_wanted_ = true; break;
      case Action::Kind::kDropAll:
        fills_.mark_all();
        if (options_.sabotage != Sabotage::kDropsUnheeded) l1_.clear();
        break;
      case Action::Kind::kEvict: evict(action.key, action.version); break;
    }
  }
  void send_ping(std::uint64_t token) {
    const auto connection = stream_;
    const bool refuse = random_.below(30) == 0;
    to_server(connection, [this, connection, token, refuse] {
      to_reader(connection, [this, token, refuse] {
        event([&](Actions& out) {
          if (refuse) {
            session_.ping_refused(timeline_.now, out);
          } else {
            session_.pong(token, timeline_.now, out);
          }
        });
        if (options_.sabotage == Sabotage::kLeaseFromPong &&
            session_.lease_until() != TimePoint{}) {
          cell_.grant(timeline_.now + options_.session.lease);
        }
      });
    });
  }
  void arm() {
    const auto due = session_.next_tick();
    if (!due || due == armed_for_) return;
    armed_for_ = due;
    timeline_.at(*due, [this, due] {
      if (armed_for_ != due) return;
      armed_for_.reset();
      loop_.give([this] { event([&](Actions& out) { session_.tick(timeline_.now, out); }); });
    });
  }
  void evict(const std::string& key, Version version) {
    if (options_.sabotage != Sabotage::kMarksForgotten) fills_.mark(key, version);
    const auto found = l1_.find(key);
    if (found == l1_.end()) return;
    if (version == kVersionUnknown || found->second.version < version) l1_.erase(found);
  }

  // ---- the reader's threads

  void read(std::size_t key) {
    ++report_.reads;
    const std::string name = name_of(key);
    const TimePoint until = cell_.until();
    const auto found = l1_.find(name);
    if (found != l1_.end()) {
      const bool leased = options_.sabotage == Sabotage::kClockNotRead ? until != TimePoint{}
                                                                       : timeline_.now < until;
      if (leased) return check_hit(key, found->second);
      ++report_.lapses;
    }
    start_fill(key);
  }
  void check_hit(std::size_t key, const Entry& entry) {
    ++report_.hits;
    const TimePoint horizon = timeline_.now - options_.session.lease;
    for (auto write = writes_[key].rbegin(); write != writes_[key].rend(); ++write) {
      if (write->acknowledged_at >= horizon) continue;
      if (write->version > entry.version) {
        ++report_.too_stale;
        note("at " + time_text(timeline_.now) + " " + name_of(key) + " was served at version " +
             std::to_string(entry.version) + ", but " + std::to_string(write->version) +
             " was acknowledged at " + time_text(write->acknowledged_at));
      }
      break;  // The newest before the horizon decides.
    }
    auto& served = served_[key];
    if (served.epoch == entry.epoch && entry.version < served.version) {
      ++report_.went_back;
      note(name_of(key) + " went back from version " + std::to_string(served.version) + " to " +
           std::to_string(entry.version));
    }
    served = entry;
  }
  void start_fill(std::size_t key) {
    if (!data_is_up_ || fills_under_way_[key] >= kFillsMax) return;
    auto token = share(fills_.begin(name_of(key)), key);
    const auto connection = data_;
    to_server(connection, [this, connection, key, token] {
      const Version version = stored_[key];
      to_reader(connection, [this, key, version, token] { finish_fill(key, version, *token); });
    });
  }
  void own_write(std::size_t key) {
    if (!data_is_up_) return;
    evict_hard(name_of(key));
    auto token = share(fills_.begin(name_of(key)), key);
    const auto connection = data_;
    ++report_.own_writes;
    to_server(connection, [this, connection, key, token] {
      const Version version = apply_write(key);
      to_reader(connection, [this, key, version, token] {
        evict(name_of(key), session_.fills_allowed() ? version : kVersionUnknown);
        finish_fill(key, version, *token);
      });
    });
  }
  void evict_hard(const std::string& key) {
    fills_.mark(key, kVersionUnknown);
    l1_.erase(key);
  }
  void finish_fill(std::size_t key, Version version, FillTable::Token& token) {
    if (!session_.fills_allowed()) return;
    const auto insert = [&] {
      l1_[name_of(key)] = {version, session_.epochs()};
      ++report_.fills;
    };
    if (options_.sabotage == Sabotage::kTokensUnheeded) return insert();
    if (!fills_.commit(std::move(token), version, insert)) ++report_.fills_refused;
  }
  // Lives as long as the request, or its reply, is under way.
  std::shared_ptr<FillTable::Token> share(FillTable::Token token, std::size_t key) {
    ++fills_under_way_[key];
    return {new FillTable::Token{std::move(token)}, [this, key](FillTable::Token* ended) {
              --fills_under_way_[key];
              delete ended;
            }};
  }

  void note(std::string text) {
    if (report_.example.empty()) report_.example = std::move(text);
  }
  static std::string time_text(TimePoint time) {
    return std::to_string((time - TimePoint{1000s}).count() / 1000) + " us";
  }
  // Everything under way is forgotten, and its tokens with it.
  void close() {
    timeline_.forget();
    server_.forget();
    loop_.forget();
  }

  const ModelOptions options_;
  Random random_;
  Timeline timeline_;
  ModelReport report_;

  Worker server_;
  int life_ = 1;
  Version history_ = 0;
  std::array<Version, kKeys> stored_{};
  std::array<std::vector<Write>, kKeys> writes_;
  std::vector<ConnectionPtr> subscribers_;
  TimePoint slow_until_;

  FillTable fills_{4};  // Outlives the loop, whose inbox can hold tokens.
  std::array<std::size_t, kKeys> fills_under_way_{};
  Worker loop_;
  Session session_;
  LeaseCell cell_;
  ConnectionPtr stream_;
  ConnectionPtr data_;
  bool data_is_up_ = false;
  bool redial_wanted_ = false;
  std::optional<TimePoint> armed_for_;
  std::map<std::string, Entry> l1_;
  std::array<Entry, kKeys> served_{};
};

}  // namespace

ModelReport run_model(const ModelOptions& options) { return Model{options}.run(); }

}  // namespace tiercel::coherence
