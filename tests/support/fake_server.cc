#include "support/fake_server.h"

#include <utility>

#include "support/fake_server_core.h"
#include "support/resp_text.h"

namespace tiercel::testing {

FakeServer::FakeServer() : FakeServer(Handler{}) {}
FakeServer::FakeServer(Handler handler) : core_(std::make_unique<Core>(std::move(handler))) {}
FakeServer::~FakeServer() = default;

std::uint16_t FakeServer::port() const noexcept { return core_->port(); }
std::string FakeServer::url() const { return "redis://" + endpoint(); }
std::string FakeServer::endpoint() const { return "127.0.0.1:" + std::to_string(port()); }
std::string FakeServer::unix_path() const { return core_->unix_path(); }

bool FakeServer::Request::is(std::string_view name) const {
  return FakeRedis::upper(words[0]) == FakeRedis::upper(name);
}

std::string FakeServer::handshake_reply(const Words& request) {
  const std::string name = FakeRedis::upper(request[0]);
  if (name == "CLIENT" || name == "AUTH" || name == "SELECT") return resp::ok();
  if (name == "ROLE") {
    return resp::array({resp::bulk("master"), resp::integer(0), resp::array({})});
  }
  if (name == "INFO" && request.size() > 1 && request[1] == "server") {
    return resp::bulk("run_id:1111\r\n");
  }
  if (name == "INFO") return resp::bulk("role:master\r\nmaster_replid:2222\r\n");
  if (name == "SUBSCRIBE") {
    return resp::array({resp::bulk("subscribe"), resp::bulk(request[1]), resp::integer(1)});
  }
  return {};
}

void FakeServer::on(const std::string& name, Handler handler) {
  core_->run_there([&] {
    if (handler) {
      core_->handlers_[FakeRedis::upper(name)] = std::move(handler);
    } else {
      core_->handlers_.erase(FakeRedis::upper(name));
    }
  });
}

void FakeServer::with_redis(const std::function<void(FakeRedis&)>& change) {
  core_->run_there([&] { change(core_->redis_); });
}

std::size_t FakeServer::publish(const std::string& channel, const std::string& payload) {
  std::size_t receivers = 0;
  core_->run_there([&] { receivers = core_->publish(channel, payload); });
  return receivers;
}

void FakeServer::inject(Fault fault, Predicate when, int times) {
  core_->run_there([&] { core_->rules_.push_back({std::move(fault), std::move(when), times}); });
}

void FakeServer::choose_faults(Chooser chooser) {
  core_->run_there([&] { core_->chooser_ = std::move(chooser); });
}

void FakeServer::clear_faults() {
  core_->run_there([&] {
    core_->rules_.clear();
    core_->chooser_ = nullptr;
  });
}

FakeServer::Predicate FakeServer::named(std::string name) {
  return [name = std::move(name)](const Request& request) { return request.is(name); };
}

FakeServer::Predicate FakeServer::at(int connection, int command) {
  return [=](const Request& request) {
    return request.connection == connection && request.command == command;
  };
}

FakeServer::Predicate FakeServer::any_request() {
  return [](const Request&) { return true; };
}

void FakeServer::end_connections(bool resets) {
  core_->run_there([&] { core_->end_connections(resets); });
}

void FakeServer::release() {
  core_->run_there([&] { core_->release(); });
}

void FakeServer::freeze() {
  core_->run_there([&] { core_->is_frozen_ = true; });
}

void FakeServer::thaw() {
  core_->run_there([&] { core_->is_frozen_ = false; });
}

void FakeServer::kill() {
  core_->run_there([&] {
    core_->stop_listening();
    core_->end_connections(true);
  });
}

void FakeServer::restart() {
  core_->run_there([&] { core_->restart(); });
}

void FakeServer::limit_subscribers(std::size_t output_bytes_max) {
  core_->run_there([&] { core_->subscriber_output_bytes_max_ = output_bytes_max; });
}

int FakeServer::connections_accepted() const {
  int accepted = 0;
  core_->run_there([&] { accepted = core_->accepted_; });
  return accepted;
}

std::size_t FakeServer::connections_open() const {
  std::size_t open = 0;
  core_->run_there([&] { open = core_->connections_open(); });
  return open;
}

std::size_t FakeServer::requests(const std::string& name) const {
  std::size_t count = 0;
  core_->run_there([&] {
    const auto found = core_->requests_.find(FakeRedis::upper(name));
    count = found == core_->requests_.end() ? 0 : found->second;
  });
  return count;
}

}  // namespace tiercel::testing
