// When to do what:
//
//   nothing answers, Redis has a whole filter of this branch   prime
//   nothing answers, and Redis has none                        build from the source
//   it answers, and Redis has none (flushed, condemned)        put ours there
//   it answers, Redis has a newer one                          prime
//   rebuild asked for, or overfull                             build from the source
//
// Who builds has the lease in Redis. It only spares the others the work: what keeps two builders
// from mixing is the id of what Redis holds, which each step compares.

#include "key_guard.h"

#include <algorithm>
#include <array>
#include <utility>

#include "bloom_sizing.h"
#include "link_driver.h"
#include "scripts.h"
#include "tiercel/base/bytes.h"

namespace tiercel {

using namespace std::chrono_literals;

namespace {

constexpr Duration kPauseMin = 100ms;  // After a failure, doubled by each further one.
constexpr Duration kPauseMax = 30s;
constexpr Duration kAnswerWithin = 5s;
constexpr std::size_t kBytesPerSecondMin = std::size_t{64} << 10;
constexpr std::size_t kBytesPerSecondMax = std::size_t{100} << 30;

}  // namespace

Result<void> validate(const BloomGuardOptions& options) {
  const auto shape = detail::bloom_shape({.keys_expected = options.keys_expected,
                                          .false_positive_rate = options.false_positive_rate,
                                          .bits_per_key = options.bits_per_key,
                                          .bytes_max = options.bytes_max});
  if (!shape) {
    Error error = shape.error();
    error.message = "guard: " + error.message;
    return error;
  }
  if (options.bytes_per_second_max < kBytesPerSecondMin ||
      options.bytes_per_second_max > kBytesPerSecondMax) {
    return invalid_argument("guard: bytes_per_second_max is " +
                            std::to_string(options.bytes_per_second_max) +
                            "; it must be 64 KiB to 100 GiB");
  }
  return {};
}

KeyGuard::KeyGuard(std::string name, BloomGuardOptions options, Surroundings surroundings)
    : name_(std::move(name)),
      options_(std::move(options)),
      around_(std::move(surroundings)),
      generations_({.bytes_max = options_.bytes_max}),
      random_(Random::from_entropy()),
      pump_(around_.clock, around_.loop, options_.bytes_per_second_max) {}

void KeyGuard::start() {
  around_.loop.post([this] { arm(0s); });
}

void KeyGuard::close() {
  closed_.store(true);
  around_.loop.post([this] { drop_job(); });
  MutexLock lock{mutex_};
  while (enumerations_ > 0) changed_.wait(mutex_);
}

void KeyGuard::arm(Duration delay) {
  if (closed_.load()) return;
  if (timer_ != 0) around_.loop.cancel(timer_);
  timer_ = around_.loop.run_after(delay, [this] {
    timer_ = 0;
    tick();
  });
}

void KeyGuard::request_rebuild() {
  rebuild_requested_.store(true);
  around_.loop.post([this] {
    if (job_ == Job::kNone) arm(0s);
  });
}

void KeyGuard::tick() {
  if (closed_.load() || job_ != Job::kNone) return;
  if (is_local()) {
    const auto current = generations_.current();
    if (rebuild_requested_.exchange(false) || !current || current->is_overfull()) {
      return begin_building(/*from_source=*/true);
    }
    return arm(kLookEvery);
  }
  if (!around_.links->fills_allowed()) return arm(kLookForLinks);
  begin(Job::kLook);
  ask(in_job([this](Result<l2::Reply> reply) { decide(std::move(reply)); }));
}

void KeyGuard::decide(Result<l2::Reply> reply) {
  if (!reply) return fail(reply.error());
  if (!reply->is_array() || reply->elements.size() != 2) return fail(refused(*reply));
  const auto stored = decode_guard(reply->elements[0].text);
  const std::optional<BloomHeader> ready =
      stored && stored->branch == branch_ ? stored->current : std::nullopt;
  const std::uint64_t generation = ready ? ready->generation : 0;
  if (rebuild_requested_.exchange(false)) {
    rebuild_waits_ = true;
    rebuild_above_ = generation;
  }
  if (rebuild_waits_ && generation > rebuild_above_) rebuild_waits_ = false;

  const auto current = generations_.current();
  const bool wants_another = rebuild_waits_ || (current && current->is_overfull());
  drop_job();
  if (ready && (!current || generation > known_generation())) return begin_priming();
  if (wants_another || !ready) return begin_building(/*from_source=*/wants_another || !current);
  failed_ = 0;
  arm(kLookEvery);
}

std::uint64_t KeyGuard::known_generation() const {
  const auto current = generations_.current();
  return std::max(published_, current ? current->generation() : 0);
}

// ---------------------------------------------------------------- jobs

void KeyGuard::begin(Job job) {
  job_ = job;
  ++job_number_;
  if (!is_local()) branch_ = around_.links->branch();
  MutexLock lock{mutex_};
  counts_.state = job == Job::kPrime   ? GuardState::kPriming
                  : job == Job::kBuild ? GuardState::kBuilding
                                       : counts_.state;
}

void KeyGuard::end(Duration pause) {
  drop_job();
  arm(pause);
}

void KeyGuard::fail(const Error& error) {
  drop_job();
  const Duration pause = std::min(kPauseMax, kPauseMin * (1 << std::min(failed_, 10U)));
  ++failed_;
  {
    MutexLock lock{mutex_};
    ++counts_.failures;
    counts_.last_failure = error.to_string();
  }
  log(LogLevel::kWarning, error.to_string());
  // So that those who failed together do not try again together.
  arm(Duration{
      static_cast<Duration::rep>(static_cast<double>(pause.count()) * (0.5 + random_.unit() / 2))});
}

// Whatever was being made is given up, unless it answers already.
void KeyGuard::drop_job() {
  job_ = Job::kNone;
  ++job_number_;
  pump_.stop();
  if (enumeration_) enumeration_->stops.store(true);
  enumeration_.reset();
  building_.reset();
  complete_.reset();
  return_lease();
  generations_.abandon();
  MutexLock lock{mutex_};
  counts_.state = GuardState::kNotPrimed;
}

void KeyGuard::lost() {
  auto old = generations_.current();
  generations_.lost();
  published_ = 0;
  drop_job();
  if (old) {
    let_go(std::move(old));
    MutexLock lock{mutex_};
    ++counts_.lost;
  }
  arm(0s);
}

// Giving a large one's memory back takes longer than the loop thread should.
void KeyGuard::let_go(std::shared_ptr<const BloomFilter> filter) {
  static_cast<void>(around_.executor.post([filter = std::move(filter)] {}));
}

bool KeyGuard::is_linked() const {
  return is_local() || (around_.links->fills_allowed() && around_.links->branch() == branch_);
}

TimePoint KeyGuard::answer_by() const { return around_.clock.now() + kAnswerWithin; }

l2::ReplyCallback KeyGuard::in_job(std::function<void(Result<l2::Reply>)> then) {
  return [this, number = job_number_, then = std::move(then)](Result<l2::Reply> reply) {
    if (number != job_number_ || closed_.load()) return;
    if (!is_linked()) return end(kLookForLinks);
    then(std::move(reply));
  };
}

// ---------------------------------------------------------------- Redis

void KeyGuard::ask(l2::ReplyCallback callback) {
  around_.client->submit_script(guard_read_script(),
                                std::array<std::string_view, 1>{around_.guard_key}, {},
                                l2::Retry::kSafe, answer_by(), std::move(callback));
}

void KeyGuard::change(std::string_view id, const std::string& text, l2::ReplyCallback callback) {
  around_.client->submit_script(guard_change_script(),
                                std::array<std::string_view, 1>{around_.guard_key},
                                std::array<std::string_view, 2>{id, text}, l2::Retry::kIfNotSent,
                                answer_by(), std::move(callback));
}

// What Redis holds is damaged: nobody is to begin with it any more. Those who have theirs keep it.
void KeyGuard::condemn(const StoredGuard& stored) {
  StoredGuard condemned = stored;
  condemned.id = new_guard_id();
  if (condemned.current) condemned.garbage.push_back(*condemned.current);
  condemned.current.reset();
  change(stored.id, encode_guard(condemned), [](const Result<l2::Reply>&) {});
}

Error KeyGuard::refused(const l2::Reply& reply) {
  constexpr std::size_t kTextMax = 300;
  return unavailable("Redis answered: " + (reply.is_error() ? reply.text.substr(0, kTextMax)
                                                            : std::string{"something unexpected"}));
}

Error KeyGuard::not_done(const Result<l2::Reply>& reply, const std::string& why) {
  if (!reply) return reply.error();
  return reply->is_integer() ? unavailable(why) : refused(*reply);
}

void KeyGuard::log(LogLevel level, const std::string& message) const {
  if (around_.log) around_.log(level, "guard of keyspace '" + name_ + "': " + message);
}

// ---------------------------------------------------------------- statistics

GuardStats KeyGuard::stats() const {
  GuardStats stats;
  {
    MutexLock lock{mutex_};
    stats = counts_;
  }
  if (stats.state == GuardState::kNone) stats.state = GuardState::kNotPrimed;
  stats.refused = refused_.load(std::memory_order_relaxed);
  if (const auto current = generations_.current()) {
    stats.is_renewing = stats.state != GuardState::kNotPrimed;
    stats.state = GuardState::kAnswering;
    stats.keys = static_cast<std::uint64_t>(current->keys_estimated());
    stats.bytes = current->bytes();
    stats.generation = current->generation();
    stats.false_positive_rate = current->false_positive_rate();
  }
  return stats;
}

std::string_view to_string(GuardState state) noexcept {
  switch (state) {
    case GuardState::kNone: return "none";
    case GuardState::kNotPrimed: return "not primed";
    case GuardState::kPriming: return "priming";
    case GuardState::kBuilding: return "building";
    case GuardState::kAnswering: return "answering";
  }
  return "unknown";
}

}  // namespace tiercel
