#include "auditor.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <utility>

#include "scripts.h"
#include "tagged_entry.h"
#include "tiercel/base/bytes.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using coherence::AuditVerdict;

constexpr Duration kTickMin = 4ms;  // Δ/5 for the shortest Δ.
constexpr Duration kTickMax = 1s;
constexpr Duration kLogEvery = 1s;
constexpr std::size_t kKeyBytesLogged = 64;

std::string key_text(std::string_view key) {
  std::array<char, 16> hash{};
  const auto hash_end = std::to_chars(hash.data(), hash.data() + hash.size(),
                                      XXH3_64bits(key.data(), key.size()), /*base=*/16);
  std::string text = "key of " + std::to_string(key.size()) + " bytes, XXH3 " +
                     std::string{hash.data(), hash_end.ptr};
  if (key.size() <= kKeyBytesLogged) text += ", \"" + escape_bytes(key) + '"';
  return text;
}

std::string ms_text(Duration duration) { return std::to_string(to_milliseconds(duration)) + " ms"; }

}  // namespace

Auditor::Auditor(AuditorOptions options, const Clock& clock, l2::EventLoop& loop,
                 l2::Client& client, const LinkDriver& links, const coherence::Names& names,
                 LogSink log)
    : options_(options),
      draw_below_(tiercel::draw_below(options.one_in)),
      tick_every_(std::clamp(options.lease / 5, kTickMin, kTickMax)),
      clock_(clock),
      loop_(loop),
      client_(client),
      links_(links),
      names_(names),
      log_(std::move(log)) {}

void Auditor::start() {
  loop_.post([this] { tick(); });
}

void Auditor::take(const l1::Handle& entry, std::string_view payload, TimePoint proven_at,
                   TimePoint at) noexcept {
  if (at >= proven_at + options_.lease) return;  // Answered without the lease, as it was asked to.
  const std::string_view key = entry.key();
  if (key.size() > NotedKey::kBytesMax) {
    skipped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const bool was_taken = ring_.push([&](AuditSample& sample) {
    sample.hit = {
        .version = entry.version(), .epoch = links_.epochs(), .proven_at = proven_at, .at = at};
    sample.is_negative = (entry.flags() & kFlagNegative) != 0;
    sample.is_hashed = payload.size() <= kHashedBytesMax;
    sample.payload_hash = sample.is_hashed ? XXH3_64bits(payload.data(), payload.size()) : 0;
    sample.noted_key.assign(key);
    sample.slots_count = 0;
    if ((entry.flags() & kFlagTagged) != 0) {
      std::string_view bytes = entry.value();
      if ((entry.flags() & kFlagTimed) != 0) (void)take_times(bytes);
      const TaggedEntry tagged{bytes};
      const auto slots = tagged.slots();
      std::copy(slots.begin(), slots.end(), sample.slots.begin());
      sample.slots_count = static_cast<std::uint8_t>(slots.size());
    }
  });
  (was_taken ? sampled_ : dropped_).fetch_add(1, std::memory_order_relaxed);
}

// Loop thread from here on.

void Auditor::tick() {
  if (links_.epochs() != judge_.epoch()) judge_.begin_epoch(links_.epochs(), clock_.now());
  budget_ = std::max<std::int64_t>(1, kPerSecondMax * to_milliseconds(tick_every_) / 1000);
  probe();  // Before the samples that are taken below, so that it says what was before they were.
  drain();
  loop_.run_after(tick_every_, [this] { tick(); });
}

// While D and S agree on the epoch that is judged, and D is on the server that S is on.
bool Auditor::is_of_epoch() const {
  return links_.epochs() == judge_.epoch() && links_.fills_allowed();
}

void Auditor::probe() {
  if (!options_.has_history || is_probing_ || !is_of_epoch()) return;
  is_probing_ = true;
  const TimePoint sent_at = clock_.now();
  client_.submit_script(
      newest_script(), std::array<std::string_view, 1>{names_.history_key()}, {}, l2::Retry::kSafe,
      answer_by(), [this, sent_at](Result<l2::Reply> reply) {
        is_probing_ = false;
        if (!reply || !is_of_epoch()) return;
        if (!reply->is_string()) {
          if (!std::exchange(was_refused_, true) && log_) {
            log_(LogLevel::kWarning, "the auditor's questions are refused: " + reply->text);
          }
          return;
        }
        const auto newest = reply->text.empty() ? Result<coherence::Version>{0}
                                                : coherence::parse_stream_id(reply->text);
        if (newest) judge_.probed(sent_at, clock_.now(), *newest);
      });
}

void Auditor::drain() {
  while (outstanding_ < kOutstandingMax && budget_ > 0 && is_of_epoch()) {
    AuditSample sample;
    if (!ring_.pop(sample)) return;
    --budget_;
    ++outstanding_;
    if (judge_.covers(sample.hit)) {
      ask(std::make_shared<Audit>(Audit{.sample = sample}));
    } else {
      finish_void();
    }
  }
}

// The rest waits for the next tick: what is refused at once would be refused again.
void Auditor::finish_void() {
  --outstanding_;
  voided_.fetch_add(1, std::memory_order_relaxed);
}

void Auditor::finish(Audit& audit, const coherence::AuditEvidence& evidence) {
  if (!is_of_epoch() || !judge_.covers(audit.sample.hit)) return finish_void();
  --outstanding_;
  count(audit, judge_.judge(audit.sample.hit, evidence));
  drain();
}

void Auditor::count(const Audit& audit, const AuditVerdict& verdict) {
  using Kind = AuditVerdict::Kind;
  auto& counter = verdict.kind == Kind::kFresh              ? fresh_
                  : verdict.kind == Kind::kStaleWithinBound ? stale_
                  : verdict.kind == Kind::kViolation        ? violations_
                                                            : inconclusive_;
  counter.fetch_add(1, std::memory_order_relaxed);
  if (verdict.kind != Kind::kStaleWithinBound && verdict.kind != Kind::kViolation) return;

  const Duration at_most = verdict.at_most.value_or(verdict.at_least);
  const auto raise = [](std::atomic<Duration::rep>& worst, Duration by) {
    if (by.count() > worst.load(std::memory_order_relaxed)) {
      worst.store(by.count(), std::memory_order_relaxed);
    }
  };
  raise(worst_at_least_, verdict.at_least);
  raise(worst_at_most_, at_most);
  const auto& buckets = AuditStats::kBucketsMs;
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(at_most).count();
  const auto bucket = std::lower_bound(buckets.begin(), buckets.end(), ms) - buckets.begin();
  staleness_[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  if (verdict.kind == Kind::kViolation) report(audit, verdict);
}

void Auditor::report(const Audit& audit, const AuditVerdict& verdict) {
  if (!log_) return;
  const TimePoint now = clock_.now();
  if (now < quiet_until_) {
    ++not_logged_;
    return;
  }
  quiet_until_ = now + kLogEvery;
  const coherence::AuditedHit& hit = audit.sample.hit;
  std::string text =
      "audit: L1 broke its contract: it answered with version " + std::to_string(hit.version) +
      ", but version " + std::to_string(verdict.change) + " was made at least " +
      ms_text(verdict.at_least) +
      (verdict.at_most ? " and at most " + ms_text(*verdict.at_most) : std::string{}) +
      " before, and the answer claimed an age of at most " + ms_text(hit.at - hit.proven_at) +
      " (lease " + ms_text(options_.lease) + "); " + key_text(audit.sample.key());
  if (not_logged_ > 0) text += "; " + std::to_string(not_logged_) + " more were not logged";
  not_logged_ = 0;
  log_(LogLevel::kError, text);
}

AuditStats Auditor::stats() const {
  const auto value = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  AuditStats stats{.sampled = value(sampled_),
                   .dropped = value(dropped_),
                   .skipped = value(skipped_),
                   .voided = value(voided_),
                   .fresh = value(fresh_),
                   .stale_within_bound = value(stale_),
                   .violations = value(violations_),
                   .inconclusive = value(inconclusive_),
                   .worst_at_least = Duration{value(worst_at_least_)},
                   .worst_at_most = Duration{value(worst_at_most_)}};
  std::transform(staleness_.begin(), staleness_.end(), stats.staleness.begin(), value);
  return stats;
}

}  // namespace tiercel
