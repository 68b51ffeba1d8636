#pragma once

// Client: commands and one subscription to a Redis master, over two connections of one event loop.
//
// D, the data connection, carries the commands of all threads in order of submission, pipelined:
// what is submitted while the loop is busy leaves in one write. S, the stream, is subscribed to one
// channel and carries nothing else but pings and, if wanted, what foreign writers change. Both find
// the master by themselves (a fixed server, or through Sentinels) and check it with ROLE on each
// connection. When a new master is announced, or a server turns out not to be a master, links to
// the wrong server are closed. Beside them there are connections to the Sentinels, and to the
// servers that are to be watched.
//
// Both redial for as long as the client lives, with full-jitter backoff, and two attempts of one
// client (D and S together) are at least 50 ms apart. All Sentinels are asked, and those that they
// know; the newest configuration counts, and votes that elect a replica count before it is
// announced (docs/design/failover.md). A client whose Sentinels are all gone keeps its connections,
// and redials only the same life of the same server.
//
// Every command gets exactly one answer, about 10 ms after its deadline at the latest (where ten
// thousands have the same deadline, their answers are spread over more turns of the loop):
//   a Reply              what the server said, an error reply of its own included;
//   kUnavailable         it was not executed: no connection in time; the text has the last cause;
//   kInvalidArgument     the server refuses our password, user, database or client certificate, or
//                        we its certificate, or one of us speaks TLS and the other does not, or
//                        every Sentinel says that it knows no such master or refuses us (or the
//                        like), or the command is larger than queue_bytes_max; not executed. The
//                        client dials on: a certificate, say, may be renewed;
//   kDeadlineExceeded    it may have been executed: the outcome is unknown (Retry::kSafe commands
//                        answer kUnavailable instead: running them changes nothing);
//   kProtocol            a Retry::kSafe command, sent twice: each time what came in the place of
//   its
//                        reply could not be read (not RESP2; nested, or larger, than is accepted),
//                        which ends the connection and would again;
//   kOverloaded          the queue is full; at once, on the submitting thread;
//   kClosed              the client was closed.
// READONLY, LOADING, MASTERDOWN and NOREPLICAS replies mean that nothing ran: such a command waits
// for a proper master and is sent again until its deadline, then kUnavailable. It keeps its place
// before the commands not yet sent, as does a read that is sent again after a lost connection; a
// later command that had already been sent may have run before it.
//
// Not for: blocking commands (BLPOP, WAIT), transactions, SELECT, SUBSCRIBE: D is shared. After
// fork() the client works on in the parent; in the child every command is answered kClosed at once
// and closing does nothing (event_loop.h).

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/log.h"
#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/l2/batch.h"
#include "tiercel/l2/command.h"
#include "tiercel/l2/event_loop.h"
#include "tiercel/l2/options.h"
#include "tiercel/l2/pipeline.h"
#include "tiercel/l2/replication.h"
#include "tiercel/l2/reply.h"
#include "tiercel/l2/sentinel_survey.h"

namespace tiercel::l2 {

// Who answered, asked on each connection before it is used.
struct ServerIdentity {
  Endpoint endpoint{};
  std::string run_id{};          // New at each start of the server process.
  std::string replication_id{};  // master_replid: new at each promotion and each restart.

  friend bool operator==(const ServerIdentity&, const ServerIdentity&) = default;
};

// Told what happens to the two links. Every call comes on the loop thread, and none after close()
// returned. close() itself calls neither data_down nor stream_down.
class LinkObserver {
 public:
  virtual ~LinkObserver() = default;

  // D is up: a master, authenticated; commands flow. Replies are delivered between up and down
  // only.
  virtual void data_up(const ServerIdentity& server) = 0;
  // Before the commands that were in flight get their answers.
  virtual void data_down(const Error& reason) = 0;

  // S is up: a master, and the server has confirmed the subscription.
  virtual void stream_up(const ServerIdentity& server) = 0;
  virtual void stream_down(const Error& reason) = 0;
  // A message of the channel; the view is valid during the call.
  virtual void stream_message(std::string_view payload) = 0;
  // The answer to stream_ping(token). An error line in its place (BUSY, LOADING, MASTERDOWN) is
  // stream_ping_refused: the server lives, but has proven nothing.
  virtual void stream_pong(std::string_view token) = 0;
  virtual void stream_ping_refused(std::string_view server_error) = 0;

  // Only with ClientConfig::track_prefix. Something changed these keys, or may have: whoever wrote,
  // in whatever database of the server, by expiry and eviction, too. The prefix is taken off; valid
  // during the call.
  virtual void stream_tracked(std::span<const std::string_view> /*keys*/) {}
  // Some database of the server was flushed: every key may have changed.
  virtual void stream_flushed() {}

  // After any of stream_message, stream_pong, stream_ping_refused, stream_tracked and
  // stream_flushed: what one read brought has been told. Until then more may follow at once. Not
  // called when the read ended in stream_down.
  virtual void stream_read_end() {}
};

struct ClientConfig {
  RedisOptions redis{};
  std::string channel{};  // S subscribes to it. Empty: no S.
  // S also observes every writer of the keys that begin with this (CLIENT TRACKING, Redis 6 or
  // newer; not SWAPDB). Empty: none. The user needs +client|id, +client|tracking and
  // &__redis__:invalidate for it; stream_trouble() names what is missing.
  std::string track_prefix{};
  LinkObserver* observer = nullptr;  // May be null. Must outlive close().
  LogSink log{};                     // May be empty.
  const Clock* clock = &Clock::system();
  std::uint64_t seed = 0;  // For the backoff's jitter; 0: from entropy.
};

struct ClientStats {
  std::uint64_t commands_submitted = 0;
  std::uint64_t commands_overloaded = 0;
  std::uint64_t replies_late = 0;        // Came after the deadline, were discarded.
  std::uint64_t retries = 0;             // Commands sent again, for whatever reason.
  std::uint64_t connects_attempted = 0;  // Of D and S, to servers; not to Sentinels.
  std::uint64_t connects_failed = 0;     // Attempts that failed, finding the master included.
  std::uint64_t master_changes = 0;      // The master's address changed.
  std::size_t commands_waiting = 0;      // Queued and in flight now.
  std::uint64_t direct_calls = 0;        // Blocking calls done without the loop.
};

// One Sentinel, as the client sees it.
struct SentinelStatus {
  Endpoint endpoint{};
  bool is_configured = true;   // False: other Sentinels told of it.
  bool is_subscribed = false;  // Its events reach us.
  // Why its last question got no answer; nothing when it was answered. kInvalidArgument: it lives
  // and refuses us (password, ACL), or does not know the master. kUnavailable: dead, hanging, cut
  // off, or not asked yet.
  std::optional<Error> trouble{};
};

using ReplyCallback = UniqueFunction<void(Result<Reply>)>;
// The reply where it stands in the read buffer: valid during the call only.
using ViewCallback = UniqueFunction<void(Result<ReplyView>)>;

// One command's answer of a Pipeline: its index, counted from 0 in the order of adding.
using PipelineCallback = UniqueFunction<void(std::size_t, Result<ReplyView>)>;

class CommandAwaitable;

class Client {
 public:
  static constexpr std::size_t kServersWatchedMax = 64;

  // Checks the options, reads the certificate files and starts to dial; does not wait. The loop
  // must outlive the client. Errors: kInvalidArgument, naming the option and the file.
  static Result<std::unique_ptr<Client>> open(ClientConfig config, EventLoop& loop);
  ~Client();  // close()
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Any thread; does not block. The callback runs on the loop thread, or, for kOverloaded and
  // kClosed, at once on this one; it must not block.
  void submit(Command command, TimePoint deadline, ReplyCallback callback);
  void submit_script(const Script& script, std::span<const std::string_view> keys,
                     std::span<const std::string_view> arguments, Retry retry, TimePoint deadline,
                     ReplyCallback callback);
  // The same, and nothing of the reply is copied but what the callback takes.
  void submit_view(Command command, TimePoint deadline, ViewCallback callback);
  void submit_script_view(const Script& script, std::span<const std::string_view> keys,
                          std::span<const std::string_view> arguments, Retry retry,
                          TimePoint deadline, ViewCallback callback);

  // The commands of a pipeline, handed over together: pipeline.h. `each` is called once for every
  // command, as it is answered. Afterwards the pipeline is empty, and can be filled again. Any
  // thread.
  void submit_pipeline(Pipeline& pipeline, TimePoint deadline, PipelineCallback each);

  // Loop thread only. What is submitted during the call leaves together at its end, and not when
  // the loop comes round to it. `submits` is called once, before this returns. From a task of the
  // loop, or from the callback of a reply (a view stays valid), and not from that of an error.
  void submit_together(UniqueFunction<void()> submits);

  // Many keys in one call and with one answer: batch.h. Any thread.
  void get_many(std::span<const std::string_view> keys, TimePoint deadline, GetManyCallback done);
  void set_many(std::span<const KeyValue> entries, std::optional<std::chrono::milliseconds> ttl,
                TimePoint deadline, SetManyCallback done);

  // For coroutines, without an allocation:
  //   const Result<Reply> reply = co_await client.execute(Command{Retry::kSafe, {"GET", key}}, at);
  // Any thread. The command is submitted when it is awaited. The coroutine goes on on the loop
  // thread, so it must not block there; or, for kOverloaded and kClosed, at once where it is. There
  // is no cancelling: the deadline bounds the wait, and until the answer has come the coroutine
  // must not be destroyed. close() resumes all that wait before it returns.
  [[nodiscard]] CommandAwaitable execute(Command command, TimePoint deadline);

  // Blocking. Errors: as above; kInvalidArgument when called on the loop thread, where it could
  // never return. Where one thread calls and nothing else is going on, the calls after the first
  // few are made on that thread's own time, straight on the socket: no trip through the loop
  // (docs/design/l2.md, "Direct calls"). What is promised stays the same.
  Result<Reply> call(Command command, TimePoint deadline);

  // Loop thread only. Sends a ping with this token (no spaces, at most 64 bytes) on S if S is up.
  // At most one should be outstanding; deadlines are the caller's business.
  void stream_ping(std::string_view token);
  // Loop thread only. Closes S and dials again (stream_down follows at once).
  void stream_redial(std::string_view reason);
  // Loop thread only. The server that S is on is not the master that it was: both links leave it
  // and look for the master anew (stream_down follows at once, data_down as soon as what is in
  // flight there is answered). Nothing while S is down.
  void leave_master(std::string_view reason);

  // Loop thread only, all four; the callbacks come on it, too, once each, and not from within the
  // call, but for kClosed. docs/design/failover.md.
  //
  // INFO replication on D, ahead of all that waits: the answer comes from the connection that is up
  // now, and the question is sent during the call, or not at all. At most 8 outstanding. Errors:
  // kUnavailable (D is down or being left, was lost before the answer, no answer in time, or the
  // server's own error), kInvalidArgument (the permission for INFO is missing), kOverloaded.
  void ask_replication(TimePoint deadline, ReplicationCallback callback);

  // The servers, of whatever role, that connections are kept to beside D and S; those of an earlier
  // call that are not among them are closed. Each is dialled with the options' credentials and TLS,
  // and redialled with backoff, two attempts at least 50 ms apart. Those beyond kServersWatchedMax
  // are ignored.
  void watch_servers(std::span<const Endpoint> servers);
  // INFO replication of a watched server; sent during the call, or fails: kUnavailable when it is
  // not connected, not watched (any more), lost before the answer, or answers with an error. When
  // it does not answer by the deadline its connection is closed and dialled again, and its other
  // questions fail, too. kInvalidArgument: the server refuses us. kOverloaded: 8 are outstanding.
  void ask_server(const Endpoint& server, TimePoint deadline, ReplicationCallback callback);
  // Asks all known Sentinels at once. Always answered, at the latest at the deadline, with what was
  // said by then: by nobody, for a fixed server, after close(), and while another survey is under
  // way.
  void survey_sentinels(TimePoint deadline, SurveyCallback callback);

  // Any thread. Why there is no usable data connection at this moment; nothing when there is one.
  [[nodiscard]] std::optional<Error> data_trouble() const;
  // The same for S: e.g. that the channel is not permitted. Meaningless without a channel.
  [[nodiscard]] std::optional<Error> stream_trouble() const;
  [[nodiscard]] ClientStats stats() const;
  // Any thread. The Sentinels, configured and learned; all with trouble: the client goes on with
  // the master that it knows, and cannot follow a failover. Empty for a fixed server, and in a
  // child of fork().
  [[nodiscard]] std::vector<SentinelStatus> sentinels() const;

  // Not on the loop thread. Answers every waiting command with kClosed (sent ones of
  // Retry::kIfNotSent with kDeadlineExceeded) and closes the sockets. After it returned no callback
  // and no observer call comes. Idempotent.
  void close();
  // Any thread. The same without waiting; `done` runs on the loop thread when all is closed, and
  // may destroy the client. The way to close on a loop that the user runs. In a child of fork()
  // nothing is closed, and `done` never runs.
  void close_then(UniqueFunction<void()> done);

 private:
  friend class CommandAwaitable;
  class Core;
  explicit Client(std::shared_ptr<Core> core);
  // The error, if it is refused at once; the callback is then still the caller's.
  template <typename Callback>
  [[nodiscard]] std::optional<Error> try_submit(Command& command, TimePoint deadline,
                                                Callback& callback, bool is_call = false);
  template <typename Callback, typename Write>
  [[nodiscard]] std::optional<Error> try_submit_written(std::size_t bytes, Retry retry,
                                                        TimePoint deadline, Callback& callback,
                                                        Write&& write);
  template <typename Callback>
  void submit_any(Command& command, TimePoint deadline, Callback& callback);
  template <typename Callback>
  void submit_any_script(const Script& script, std::span<const std::string_view> keys,
                         std::span<const std::string_view> arguments, Retry retry,
                         TimePoint deadline, Callback& callback);
  std::shared_ptr<Core> core_;
};

// What execute() returns, to be awaited once. Lives in the frame of the coroutine, as does the
// answer until it is taken.
class [[nodiscard]] CommandAwaitable {
 public:
  CommandAwaitable(const CommandAwaitable&) = delete;
  CommandAwaitable& operator=(const CommandAwaitable&) = delete;

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  [[nodiscard]] bool await_suspend(std::coroutine_handle<> waiter);
  [[nodiscard]] Result<Reply> await_resume() { return std::move(*result_); }

 private:
  friend class Client;
  CommandAwaitable(Client& client, Command command, TimePoint deadline) noexcept
      : client_(client), command_(std::move(command)), deadline_(deadline) {}

  Client& client_;
  Command command_;
  const TimePoint deadline_;
  std::coroutine_handle<> waiter_;
  std::optional<Result<Reply>> result_;
};

inline CommandAwaitable Client::execute(Command command, TimePoint deadline) {
  return {*this, std::move(command), deadline};
}

}  // namespace tiercel::l2
