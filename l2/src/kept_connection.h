#pragma once

// KeptConnection: a connection to one given server, master or not, that is kept: dialled,
// authenticated, and dialled again with backoff for as long as it is not stopped, two attempts at
// least DialGate::kGap apart. Before it counts as up a first question is asked on it, which shows
// that we are let in. What else is asked is the heir's business. Loop thread only.

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "connection.h"
#include "dial_context.h"
#include "dial_gate.h"
#include "host.h"

namespace tiercel::l2 {

class KeptConnection : private Connection::Listener {
 public:
  ~KeptConnection() override;  // Not on the loop thread, perhaps: stop() came before.
  KeptConnection(const KeptConnection&) = delete;
  KeptConnection& operator=(const KeptConnection&) = delete;

  void start();
  void stop();

  [[nodiscard]] const Endpoint& endpoint() const noexcept { return server_; }
  [[nodiscard]] bool is_up() const noexcept { return is_up_; }
  // Why it is of no use now. kInvalidArgument: the server refuses us.
  [[nodiscard]] const std::optional<Error>& trouble() const noexcept { return trouble_; }

 protected:
  struct Greeting {
    std::string_view name;         // For CLIENT SETNAME. For people: a refusal does not matter.
    bool selects_database = true;  // The one of the options.
    std::vector<std::string_view> question{};  // Must be answered without an error.
  };

  KeptConnection(DialContext& context, Endpoint server, Greeting greeting);

  // Told last in each function of this class, so that an heir may stop() itself, or be destroyed.
  virtual void kept_up() = 0;
  virtual void kept_reply(const ReplyView& reply) = 0;
  virtual void kept_down(const Error& reason) = 0;  // Or an attempt failed.

  // Gives the connection up; kept_down follows at once.
  void redial(const Error& reason);
  void write(std::string_view bytes) { connection_->write(bytes); }
  void set_trouble(std::optional<Error> trouble) { trouble_ = std::move(trouble); }

 private:
  void connection_ready() override;
  void connection_reply_view(const ReplyView& reply) override;
  void connection_lost(const Error& reason) override;

  void dial();
  void abandon();
  void greeted(const ReplyView& reply);

  DialContext& context_;
  const Endpoint server_;
  const Greeting greeting_;
  std::shared_ptr<Connection> connection_;
  bool is_up_ = false;
  std::vector<std::string_view> greetings_;  // Replies to come until it is up, the next one last.
  Backoff backoff_;
  DialGate gate_;
  EventLoop::TimerId timer_ = 0;  // The attempt's limit, or the backoff.
  std::optional<Error> trouble_;
};

}  // namespace tiercel::l2
