// What the master is asked about one hit.
//
//   ask ──► kAuditScript: what is stored now, and what its tags are
//             │ the same as was answered ─────────────────────────► fresh
//             ▼
//           walk: the history around what the hit promised, in both directions, and the entries of
//             │   versions that may be changes of this entry
//             ▼
//           judge
//
// What is stored now is not proof by itself: a value that was loaded after another one had expired
// changes nothing, and bears the version of some other write.

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "auditor.h"
#include "history_page.h"
#include "scripts.h"
#include "tiercel/base/bytes.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/message.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using coherence::AuditEvidence;
using coherence::kVersionUnknown;
using coherence::Version;

constexpr Duration kAnswerWithin = 1s;
// The frame, the envelope's fields and the slots, rounded up.
constexpr std::size_t kValueBytesMax = Auditor::kHashedBytesMax + 256;
constexpr std::size_t kHeadBytes = 33;  // Up to the flags.

// nullopt: there is none, or it is no version.
std::optional<Version> version_in(const l2::Reply& field) {
  if (!field.is_string() || field.text.size() != sizeof(Version)) return std::nullopt;
  return read_u64_be(field.text.data());
}

// kAll is not one: nobody knows what that was.
bool touches(const coherence::Change& change, const AuditSample& sample) {
  using coherence::ChangeKind;
  switch (change.kind) {
    case ChangeKind::kKeys:
      return std::find(change.keys.begin(), change.keys.end(), sample.key()) != change.keys.end();
    case ChangeKind::kTags: {
      const auto* const slots_end = sample.slots.begin() + sample.slots_count;
      return std::any_of(change.keys.begin(), change.keys.end(), [&](const std::string& tag) {
        return std::find(sample.slots.begin(), slots_end, serialization::tag_slot(tag)) !=
               slots_end;
      });
    }
    case ChangeKind::kClear: return true;
    case ChangeKind::kAll:
    case ChangeKind::kNone: return false;
  }
  return false;
}

}  // namespace

TimePoint Auditor::answer_by() const { return clock_.now() + kAnswerWithin; }

void Auditor::ask(const std::shared_ptr<Audit>& audit) {
  const AuditSample& sample = audit->sample;
  std::vector<std::string> arguments{std::to_string(kValueBytesMax)};
  for (std::size_t i = 0; i < sample.slots_count; ++i) {
    arguments.push_back(std::to_string(sample.slots[i]));
  }
  const std::string value_key = names_.value_key(sample.key());
  const std::vector<std::string_view> views{arguments.begin(), arguments.end()};
  client_.submit_script(audit_script(),
                        std::array<std::string_view, 2>{value_key, names_.tags_key()}, views,
                        l2::Retry::kSafe, answer_by(), [this, audit](Result<l2::Reply> reply) {
                          if (!reply || !is_of_epoch()) return finish_void();
                          answered(audit, *reply);
                        });
}

void Auditor::answered(const std::shared_ptr<Audit>& audit, const l2::Reply& reply) {
  if (!reply.is_array() || reply.elements.size() != 3) return finish_void();
  const AuditSample& sample = audit->sample;
  AuditEvidence& evidence = audit->evidence;
  compare(*audit, reply.elements[0].integer, reply.elements[1]);
  if (sample.hit.version != kVersionUnknown) {
    const auto& fields = reply.elements[2].elements;  // The base, then the slots.
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const auto invalidated_at = version_in(fields[i]);
      if (!invalidated_at || *invalidated_at <= sample.hit.version) continue;
      // A slot is written by an invalidation and by nothing else. A base by a clear, and by whoever
      // finds none: that changes nothing.
      (i == 0 ? audit->suspects : evidence.changes).push_back(*invalidated_at);
    }
  }
  const bool is_same =
      !evidence.is_unexplained && audit->suspects.empty() && evidence.changes.empty();
  if (is_same && evidence.searched_to == AuditEvidence::kAll) return finish(*audit, evidence);
  if (sample.hit.version == kVersionUnknown || !options_.has_history) {
    return finish(*audit, {.is_unexplained = true});
  }
  walk(audit);
}

// Sets searched_to to kAll where the very value is stored that was answered; is_unexplained where
// it is another and no change has to be the reason.
void Auditor::compare(Audit& audit, std::int64_t size, const l2::Reply& stored) const {
  const AuditSample& sample = audit.sample;
  AuditEvidence& evidence = audit.evidence;
  if (!stored.is_string()) {
    // Expired, evicted, or removed by a change that the history has; or by a foreign writer.
    evidence.is_unexplained = size < 0 || options_.observes_foreign_writers;
    return;
  }
  Version version = kVersionUnknown;
  bool is_negative = false;
  bool has_same_payload = true;
  if (static_cast<std::size_t>(size) > kValueBytesMax) {
    if (stored.text.size() == kHeadBytes && serialization::claims_to_be_ours(stored.text)) {
      version = read_u64_be(stored.text.data());
      is_negative = (static_cast<unsigned char>(stored.text.back()) & 1) != 0;
    }
    has_same_payload = version != kVersionUnknown && !sample.is_hashed;
  } else {
    const auto decoded = serialization::decode_value(stored.text);
    if (!decoded) {
      evidence.is_unexplained = true;
      return;
    }
    version = decoded->version;
    is_negative = decoded->envelope.negative;
    const std::string_view payload = decoded->envelope.payload;
    has_same_payload =
        sample.is_hashed && XXH3_64bits(payload.data(), payload.size()) == sample.payload_hash;
    if (payload.size() > kHashedBytesMax) has_same_payload = !sample.is_hashed;
  }
  if (version > sample.hit.version) {
    audit.suspects.push_back(version);
  } else if (version < sample.hit.version || is_negative != sample.is_negative ||
             !has_same_payload) {
    evidence.is_unexplained = true;
  } else {
    evidence.searched_from = version;
    evidence.searched_to = AuditEvidence::kAll;
  }
}

void Auditor::walk(const std::shared_ptr<Audit>& audit) {
  const Version own = audit->sample.hit.version;
  audit->promised = judge_.known_before(audit->sample.hit.proven_at);
  const std::string& history = names_.history_key();
  const std::string count = std::to_string(kPageMax);
  const std::string middle = coherence::to_stream_id(std::max(own, audit->promised));
  std::vector<l2::Command> questions;
  questions.push_back({l2::Retry::kSafe, {"XRANGE", history, middle, "+", "COUNT", count}});
  if (audit->promised > own) {
    questions.push_back(
        {l2::Retry::kSafe,
         {"XREVRANGE", history, middle, coherence::to_stream_id(own), "COUNT", count}});
  }
  for (const Version suspect : audit->suspects) {
    const std::string id = coherence::to_stream_id(suspect);
    questions.push_back({l2::Retry::kSafe, {"XRANGE", history, id, id, "COUNT", "1"}});
  }
  audit->unanswered = questions.size();
  audit->pages.resize(questions.size());
  for (std::size_t i = 0; i < audit->pages.size(); ++i) {
    client_.submit(std::move(questions[i]), answer_by(), [this, audit, i](Result<l2::Reply> reply) {
      if (reply) {
        audit->pages[i] = std::move(*reply);
      } else {
        audit->has_failed = true;
      }
      if (--audit->unanswered > 0) return;
      if (audit->has_failed || !is_of_epoch()) return finish_void();
      walked(*audit);
    });
  }
}

void Auditor::walked(Audit& audit) {
  const Version own = audit.sample.hit.version;
  const Version middle = std::max(own, audit.promised);
  AuditEvidence& evidence = audit.evidence;
  std::vector<coherence::HistoryPage> pages;
  for (const l2::Reply& reply : audit.pages) {
    auto page = parse_history_page(reply, kPageMax);
    if (!page) return finish_void();
    for (const coherence::Change& change : page->entries) {
      if (change.kind == coherence::ChangeKind::kAll) evidence.is_unexplained = true;
      if (change.version > own && touches(change, audit.sample)) {
        evidence.changes.push_back(change.version);
      }
    }
    pages.push_back(std::move(*page));
  }
  std::sort(evidence.changes.begin(), evidence.changes.end());
  // An entry that is there shows that nothing after it was trimmed.
  const auto& forward = pages[0];
  evidence.searched_from = AuditEvidence::kAll;
  evidence.searched_to = AuditEvidence::kAll;
  if (!forward.entries.empty()) {
    const Version first = forward.entries.front().version;
    evidence.searched_from = first == middle ? middle : first - 1;
    if (!forward.is_last) evidence.searched_to = forward.entries.back().version;
    if (first == middle && middle > own && !pages[1].entries.empty()) {
      const Version last = pages[1].entries.back().version;
      evidence.searched_from = last == own ? own : last - 1;
    }
  }
  finish(audit, evidence);
}

}  // namespace tiercel
