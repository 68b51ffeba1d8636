// Invariants: while callback_ is set, a survey is under way, and timer_ will end it. It ends by a
// timer, for whoever tells us the last of what is awaited is still on the stack.

#include "surveyor.h"

#include <algorithm>
#include <utility>

#include "later.h"

namespace tiercel::l2 {

Surveyor::~Surveyor() = default;  // Not on the loop thread: stop() came before.

void Surveyor::begin(TimePoint deadline, SurveyCallback callback) {
  const TimePoint now = host_.clock().now();
  if (callback_ || deadline <= now || host_.later().is_stopped() || directory_.all().empty()) {
    SentinelSurvey nobody;
    nobody.known = directory_.all().size();
    return host_.later().run([callback = std::move(callback),
                              nobody = std::move(nobody)]() mutable { callback(nobody); });
  }
  callback_ = std::move(callback);
  timer_ = host_.loop().run_after(deadline - now, [this] {
    timer_ = 0;
    finish();
  });
  voices_.clear();
  for (const SentinelDirectory::Sentinel& sentinel : directory_.all()) {
    voices_.push_back({.id = sentinel.id,
                       .endpoint = sentinel.endpoint,
                       .run_id = sentinel.run_id,
                       .why_silent = unavailable("no answer in time")});
  }
  for (const SentinelDirectory::Id id : watch_.ping()) {
    if (Voice* const voice = find(id)) voice->awaits_pong = true;
  }
  const auto asked = resolver_.survey([this](SentinelDirectory::Id id, Result<SentinelView> view) {
    surveyed(id, std::move(view));
  });
  for (const SentinelDirectory::Id id : asked) {
    if (Voice* const voice = find(id)) voice->awaits_answer = true;
  }
  finish_if_complete();
}

Surveyor::Voice* Surveyor::find(SentinelDirectory::Id id) {
  const auto at = std::find_if(voices_.begin(), voices_.end(),
                               [id](const Voice& voice) { return voice.id == id; });
  return at == voices_.end() ? nullptr : &*at;
}

void Surveyor::surveyed(SentinelDirectory::Id id, Result<SentinelView> view) {
  Voice* const voice = find(id);
  if (voice == nullptr) return;
  voice->awaits_answer = false;
  if (view) {
    if (!view->run_id.empty()) voice->run_id = view->run_id;
    voice->view = std::move(*view);
  } else {
    voice->why_silent = view.error();
  }
  finish_if_complete();
}

void Surveyor::ponged(SentinelDirectory::Id sentinel, bool is_refused) {
  Voice* const voice = find(sentinel);
  if (!callback_ || voice == nullptr) return;
  voice->awaits_pong = false;
  voice->is_ponged = !is_refused;
  finish_if_complete();
}

void Surveyor::finish_if_complete() {
  const bool is_complete = std::none_of(voices_.begin(), voices_.end(), [](const Voice& voice) {
    return voice.awaits_answer || voice.awaits_pong;
  });
  if (!is_complete) return;
  host_.loop().cancel(timer_);
  timer_ = host_.loop().run_after(Duration{0}, [this] {
    timer_ = 0;
    finish();
  });
}

void Surveyor::finish() {
  resolver_.end_survey();
  const SentinelSurvey survey = conclude(host_.clock().now());
  voices_.clear();
  SurveyCallback callback = std::exchange(callback_, {});
  callback(survey);
}

SentinelSurvey Surveyor::conclude(TimePoint now) {
  SentinelSurvey survey;
  for (const auto& [id, sign] : signs_.recent(now)) {
    const auto* const sentinel = directory_.find(id);
    survey.signs.push_back(
        {sentinel == nullptr ? Endpoint{} : sentinel->endpoint, now - sign.at, sign.settled_on});
  }
  for (std::size_t i = 0; i < voices_.size(); ++i) {
    const auto is_same = [this, i](const Voice& other) {
      return &other == &voices_[i] || (!other.run_id.empty() && other.run_id == voices_[i].run_id);
    };
    const auto first = std::find_if(voices_.begin(), voices_.end(), is_same);
    if (first != voices_.begin() + static_cast<std::ptrdiff_t>(i)) continue;
    ++survey.known;
    // One Sentinel, by all its addresses.
    std::optional<SentinelView> view;
    std::optional<TimePoint> heard_since;
    for (Voice& voice : voices_) {
      if (!is_same(voice)) continue;
      if (voice.is_ponged && !heard_since) heard_since = signs_.heard_since(voice.id);
      if (!view) view = voice.view;
    }
    if (!view) {
      survey.silent.push_back({voices_[i].endpoint, voices_[i].why_silent});
      continue;
    }
    view->is_heard = heard_since.has_value();
    if (heard_since) view->heard_for = now - *heard_since;
    survey.views.push_back(std::move(*view));
  }
  return survey;
}

void Surveyor::stop() {
  host_.loop().cancel(std::exchange(timer_, 0));
  if (callback_) finish();
}

}  // namespace tiercel::l2
