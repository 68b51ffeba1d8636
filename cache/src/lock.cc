// The skins of locks: Lock, and what Cache says of them.

#include "tiercel/cache/lock.h"

#include <algorithm>
#include <utility>

#include "blocking_call.h"
#include "check_range.h"
#include "core.h"
#include "lock_service.h"

namespace tiercel {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr std::uint32_t kLockReplicasMax = 64;

// Of a call that waits: its answer is a lock or an error.
LockService::Callback must_be_lock(UniqueFunction<void(Result<Lock>)> callback) {
  return [callback = std::move(callback)](Result<std::optional<Lock>> answer) mutable {
    if (!answer) return callback(std::move(answer).error());
    callback(std::move(**answer));
  };
}

}  // namespace

Result<void> validate(const LockOptions& options) {
  if (auto valid = check_range("a lock's ttl", options.ttl, 100ms, 10min); !valid) return valid;
  if (auto valid = check_range("a lock's wait", options.wait, 1ms, 1h); !valid) return valid;
  if (options.replicas <= kLockReplicasMax) return {};
  return invalid_argument("a lock's replicas is " + std::to_string(options.replicas) +
                          "; it must be 0 to " + std::to_string(kLockReplicasMax));
}

Lock::Lock() noexcept = default;
Lock::Lock(std::shared_ptr<Grant> grant) noexcept : grant_(std::move(grant)) {}
Lock::Lock(Lock&& other) noexcept = default;
Lock::~Lock() {
  release_async([](const Result<bool>&) {});
}

Lock& Lock::operator=(Lock&& other) noexcept {
  if (this == &other) return *this;
  release_async([](const Result<bool>&) {});
  grant_ = std::move(other.grant_);
  return *this;
}

// The end is read before the clock: a pause in between can only make it say no. And whether it is
// over at first: after the close there may be no clock any more.
bool Lock::is_held() const noexcept {
  if (grant_ == nullptr || grant_->is_over_for_holder()) return false;
  const TimePoint until = grant_->valid_until_point();
  return grant_->clock->now() < until;
}

milliseconds Lock::remaining() const noexcept {
  if (grant_ == nullptr || grant_->is_over_for_holder()) return 0ms;
  const TimePoint until = grant_->valid_until_point();
  return std::max(0ms, std::chrono::duration_cast<milliseconds>(until - grant_->clock->now()));
}

std::uint64_t Lock::fencing_number() const noexcept {
  return grant_ == nullptr ? 0 : grant_->fencing_number;
}

const std::string& Lock::name() const noexcept {
  static const std::string none;
  return grant_ == nullptr ? none : grant_->ticket.name;
}

void Lock::release_async(UniqueFunction<void(Result<bool>)> callback) {
  if (grant_ == nullptr) return callback(false);
  auto grant = std::exchange(grant_, nullptr);
  LockService& service = *grant->service;
  service.release(std::move(grant), std::move(callback));
}

Result<bool> Lock::release() {
  if (grant_ == nullptr) return false;
  if (grant_->service->on_loop_thread()) return on_loop_error();
  return wait_for<Result<bool>>(
      [&](UniqueFunction<void(Result<bool>)> callback) { release_async(std::move(callback)); });
}

Result<Lock> Cache::lock(std::string_view name, LockOptions options) {
  if (core_->on_loop_thread()) return on_loop_error();
  return wait_for<Result<Lock>>([&](UniqueFunction<void(Result<Lock>)> callback) {
    lock_async(name, std::move(options), std::move(callback));
  });
}

Result<std::optional<Lock>> Cache::try_lock(std::string_view name, LockOptions options) {
  if (core_->on_loop_thread()) return on_loop_error();
  return wait_for<Result<std::optional<Lock>>>([&](LockService::Callback callback) {
    core_->locks().lock(name, options, /*waits=*/false, std::move(callback));
  });
}

void Cache::lock_async(std::string_view name, LockOptions options,
                       UniqueFunction<void(Result<Lock>)> callback) {
  core_->locks().lock(name, options, /*waits=*/true, must_be_lock(std::move(callback)));
}

Awaitable<Result<Lock>> Cache::co_lock(std::string_view name, LockOptions options) {
  return Awaitable<Result<Lock>>{
      [core = core_.get(), name = std::string{name},
       options = std::move(options)](UniqueFunction<void(Result<Lock>)> callback) {
        core->locks().lock(name, options, /*waits=*/true, must_be_lock(std::move(callback)));
      }};
}

}  // namespace tiercel
