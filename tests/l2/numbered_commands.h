#pragma once

// NumberedCommands: "NUM kind id", a command of FakeServer whose reply tells which command it
// belongs to, in every kind of reply there is, and a ledger of how often each id was carried out.
// With it a test can say of any answer whether it is that of its own command.

#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "support/fake_server.h"
#include "support/resp_text.h"
#include "tiercel/base/mutex.h"
#include "tiercel/l2/reply.h"

namespace tiercel::l2 {

class NumberedCommands {
 public:
  static constexpr int kKinds = 9;
  static constexpr int kUniqueKinds = 6;  // Below it, the reply contains the id.

  // `server` must not answer them any more when this is gone.
  void serve(tiercel::testing::FakeServer& server) {
    server.on("NUM", [this](const tiercel::testing::FakeServer::Words& words) {
      const auto number = static_cast<std::uint64_t>(std::stoull(words[2]));
      if (const int every = refuse_every_.load(); every != 0 && ++asked_ % every == 0) {
        return std::string{"-LOADING Redis is loading the dataset in memory\r\n"};
      }
      MutexLock lock{mutex_};
      ++executions_[number];
      return reply_text(std::stoi(words[1]), number);
    });
  }
  // One command in so many is refused with LOADING, and not carried out; 0: none.
  void refuse_every(int every) { refuse_every_ = every; }

  [[nodiscard]] int executions(std::uint64_t id) const {
    MutexLock lock{mutex_};
    const auto found = executions_.find(id);
    return found == executions_.end() ? 0 : found->second;
  }

  static std::string reply_text(int kind, std::uint64_t id) {
    namespace resp = tiercel::testing::resp;
    const std::string text = std::to_string(id);
    switch (kind) {
      case 0: return resp::status("s" + text);
      case 1: return resp::error("ERR e" + text);
      case 2: return resp::integer(-static_cast<std::int64_t>(id));
      case 3: return resp::bulk(binary(id));
      case 4:
        return resp::array({resp::bulk(text), resp::array({resp::integer(7), resp::nil()}),
                            resp::array({}), resp::error("ERR in " + text)});
      case 5: return resp::array({resp::array({resp::array({resp::status(text)})})});
      case 6: return resp::nil();
      case 7: return resp::bulk("");
      default: return "*-1\r\n";
    }
  }

  static bool is_reply_of(int kind, std::uint64_t id, const Reply& reply) {
    const std::string text = std::to_string(id);
    switch (kind) {
      case 0: return reply.kind == Reply::Kind::kStatus && reply.text == "s" + text;
      case 1: return reply.is_error() && reply.text == "ERR e" + text;
      case 2: return reply.is_integer() && reply.integer == -static_cast<std::int64_t>(id);
      case 3: return reply.is_string() && reply.text == binary(id);
      case 4:
        return reply.is_array() && reply.elements.size() == 4 && reply.elements[0].text == text &&
               reply.elements[1].elements.size() == 2 &&
               reply.elements[1].elements[0].integer == 7 &&
               reply.elements[1].elements[1].is_nil() && reply.elements[2].is_array() &&
               reply.elements[3].is_error("ERR") && reply.elements[3].text == "ERR in " + text;
      case 5:
        return reply.is_array() && reply.elements.size() == 1 &&
               reply.elements[0].elements.size() == 1 &&
               reply.elements[0].elements[0].elements.size() == 1 &&
               reply.elements[0].elements[0].elements[0].text == text;
      case 6: return reply.is_nil();
      case 7: return reply.is_string() && reply.text.empty();
      default: return reply.is_nil();
    }
  }

 private:
  static std::string binary(std::uint64_t id) {
    return "\r\n$1\r\n" + std::to_string(id) + std::string{"\0\xff\r\n", 4};
  }

  std::atomic<int> refuse_every_{0};
  std::atomic<int> asked_{0};
  mutable Mutex mutex_;
  std::unordered_map<std::uint64_t, int> executions_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::l2
