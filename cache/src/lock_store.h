#pragma once

// LockStore: where locks stand, in Redis or, without it, in this process. What is asked of it is
// answered once: on the loop thread or, what needs no reply, from within the call.

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "durable_writer.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/coherence/names.h"
#include "tiercel/l2/client.h"

namespace tiercel {

// One acquisition, from its first question until it is given back.
struct LockTicket {
  std::string name;
  std::string token;  // 16 bytes, never used twice.
  std::chrono::milliseconds ttl{0};
  std::uint32_t replicas = 0;
};

class LockStore {
 public:
  struct Answer {
    bool is_granted = false;
    std::uint64_t fencing_number = 0;  // Of a grant.
    std::optional<Error>
        lacks_copies{};              // Of a grant: too few replicas have it, so it does not count.
    std::optional<Duration> left{};  // Of someone else's; nothing where it has no end.
  };
  enum class Released : std::uint8_t { kNotOurs, kDone, kDoneAndWanted };  // By another instance.

  using AnswerCallback = UniqueFunction<void(Result<Answer>)>;
  using RenewedCallback = UniqueFunction<void(Result<bool>)>;
  using ReleasedCallback = UniqueFunction<void(Result<Released>)>;

  virtual ~LockStore() = default;
  // Loop thread only, all three. May be repeated with the same ticket. kDeadlineExceeded: it may
  // have been granted, or may yet be. Other errors: this question did not grant it.
  virtual void acquire(const LockTicket& ticket, bool waits, TimePoint deadline,
                       AnswerCallback callback) = 0;
  // False: it is not ours any more.
  virtual void renew(const LockTicket& ticket, TimePoint deadline, RenewedCallback callback) = 0;
  // Retry::kSafe: sent again until the deadline, and its answer may then be kNotOurs where it was.
  virtual void release(const LockTicket& ticket, l2::Retry retry, TimePoint deadline,
                       ReleasedCallback callback) = 0;
};

class RedisLockStore final : public LockStore {
 public:
  RedisLockStore(l2::Client& client, DurableWriter& durable_writer, const coherence::Names& names,
                 const Clock& clock)
      : client_(client), durable_writer_(durable_writer), names_(names), clock_(clock) {}

  void acquire(const LockTicket& ticket, bool waits, TimePoint deadline,
               AnswerCallback callback) override;
  void renew(const LockTicket& ticket, TimePoint deadline, RenewedCallback callback) override;
  void release(const LockTicket& ticket, l2::Retry retry, TimePoint deadline,
               ReleasedCallback callback) override;

 private:
  l2::Client& client_;
  DurableWriter& durable_writer_;
  const coherence::Names& names_;
  const Clock& clock_;
};

class LocalLockStore final : public LockStore {
 public:
  explicit LocalLockStore(const Clock& clock) : clock_(clock) {}

  void acquire(const LockTicket& ticket, bool waits, TimePoint deadline,
               AnswerCallback callback) override;
  void renew(const LockTicket& ticket, TimePoint deadline, RenewedCallback callback) override;
  void release(const LockTicket& ticket, l2::Retry retry, TimePoint deadline,
               ReleasedCallback callback) override;

 private:
  struct Held {
    std::string token;
    TimePoint until;
    std::uint64_t fencing_number;
  };
  // The lock, if it stands and is the ticket's.
  Held* find(const LockTicket& ticket);

  const Clock& clock_;
  std::unordered_map<std::string, Held> held_;  // Each goes with its handle.
  std::uint64_t last_number_ = 0;
};

}  // namespace tiercel
