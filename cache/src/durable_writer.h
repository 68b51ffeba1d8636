#pragma once

// DurableWriter: writes that wait for copies. Redis' WAIT holds up its whole connection, and counts
// for the writes of its own connection only; so such writes have a connection to themselves, which
// is dialled when the first of them comes.
//
// For each: CLIENT ID, the script by EVAL, WAIT, CLIENT ID. A connection that was lost in between
// and made anew has another id; a script that had to be sent again is answered after its WAIT. In
// both cases WAIT has counted for something else, and what it said is not believed.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "tiercel/base/clock.h"
#include "tiercel/base/log.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/l2/client.h"

namespace tiercel {

class DurableWriter {
 public:
  struct Outcome {
    Result<l2::Reply> reply;  // Of the script.
    // How many replicas have the write; nothing where that is not known.
    std::optional<std::uint32_t> replicas;
    // Where it was written; nothing where that is not known.
    std::optional<l2::ServerIdentity> server;
  };
  using Callback = UniqueFunction<void(Outcome)>;

  DurableWriter(l2::RedisOptions redis, const Clock& clock, LogSink log, l2::EventLoop& loop);
  ~DurableWriter();
  DurableWriter(const DurableWriter&) = delete;
  DurableWriter& operator=(const DurableWriter&) = delete;

  // Any thread. The callback runs once, on the loop thread or, for what is refused at once, on this
  // one.
  void write(const l2::Script& script, std::span<const std::string_view> keys,
             std::span<const std::string_view> arguments, std::uint32_t replicas,
             TimePoint deadline, Callback callback);

  // Not on the loop thread. Answers what waits.
  void close();

 private:
  class Links;
  struct Pending;

  // The client, opened at the first call.
  Result<l2::Client*> client() TIERCEL_EXCLUDES(mutex_);

  const l2::RedisOptions redis_;
  const Clock& clock_;
  const LogSink log_;
  l2::EventLoop& loop_;
  std::unique_ptr<Links> links_;
  Mutex mutex_;
  std::unique_ptr<l2::Client> client_ TIERCEL_GUARDED_BY(mutex_);
  bool is_closed_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel
