// Invariants: awaited_ holds one entry for each reply that is still to come, in order; it is empty
// while no question is under way and no survey's replies are late. Whoever ends the round's
// question does so last, since `ended_` may destroy this.

#include "sentinel_question.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "handshake.h"
#include "resp_format.h"
#include "sentinel_event.h"
#include "server_text.h"
#include "tiercel/base/bytes.h"

namespace tiercel::l2 {
namespace {

constexpr std::size_t kMastersNamedMax = 8;
// Surveys that gave up on a Sentinel while a round still waits for it leave their replies to come.
constexpr std::size_t kAwaitedMax = 64;

// Of the pairs of name and value that Sentinels answer with.
std::string_view field(const Reply& pairs, std::string_view name) {
  for (std::size_t i = 0; i + 1 < pairs.elements.size(); i += 2) {
    if (pairs.elements[i].text == name) return pairs.elements[i + 1].text;
  }
  return {};
}

// The answer to GET-MASTER-ADDR-BY-NAME.
std::optional<Endpoint> address(const Reply& reply) {
  if (!reply.is_array() || reply.elements.size() != 2) return std::nullopt;
  return parse_endpoint(reply.elements[0].text, reply.elements[1].text);
}

bool is_tilted(const Reply& info) { return info.text.find("sentinel_tilt:1") != std::string::npos; }

}  // namespace

SentinelQuestion::SentinelQuestion(Host& host, Endpoint sentinel, Ended ended)
    : host_(host), sentinel_(std::move(sentinel)), ended_(std::move(ended)) {}

SentinelQuestion::~SentinelQuestion() {
  host_.loop().cancel(timer_);
  hang_up();
}

void SentinelQuestion::ask() {
  if (std::exchange(is_asking_, true)) return;
  is_sent_ = false;
  awaits_masters_ = false;
  refusal_.reset();
  answer_ = {};
  timer_ = host_.loop().run_after(host_.redis().connect_timeout, [this] {
    timer_ = 0;
    const std::string hint{connection_ != nullptr ? connection_->silence_hint()
                                                  : std::string_view{}};
    fail(unavailable("no answer in time" + hint, sentinel_.to_string()));
  });
  connect_or_send();
}

void SentinelQuestion::survey(Surveyed surveyed) {
  survey_.emplace(Survey{.number = ++surveys_, .surveyed = std::move(surveyed)});
  survey_->view.sentinel = sentinel_;
  connect_or_send();
}

void SentinelQuestion::end_survey() {
  if (!survey_) return;
  const bool is_owed = survey_->is_sent;
  survey_.reset();
  if (is_owed && !is_asking_) hang_up();
}

void SentinelQuestion::connect_or_send() {
  if (is_ready_) {
    is_connection_fresh_ = false;
    send();
  } else if (connection_ == nullptr && dial_timer_ == 0) {
    dial();
  }
}

void SentinelQuestion::dial() {
  const Duration wait = gate_.wait(host_.clock().now());
  if (wait > Duration{0}) {
    dial_timer_ = host_.loop().run_after(wait, [this] {
      dial_timer_ = 0;
      dial();
    });
    return;
  }
  gate_.attempted(host_.clock().now());
  is_connection_fresh_ = true;
  const RedisOptions& redis = host_.redis();
  Connection::Listener& listener = *this;  // The base is private, make_shared could not convert.
  connection_ = std::make_shared<Connection>(
      host_.loop(),
      Connection::Options{sentinel_, redis.connect_timeout, redis.response_timeout,
                          host_.sentinel_tls()},
      listener, host_.open_handles());
  connection_->start();
}

void SentinelQuestion::connection_ready() {
  is_ready_ = true;
  is_auth_sent_ = false;
  send();
}

// Whatever was not sent yet.
void SentinelQuestion::send() {
  const std::string& name = host_.redis().master_name;
  std::string wire;
  if (!std::exchange(is_auth_sent_, true)) {
    wire = auth_wire(host_.redis().sentinel_credentials);
    if (!wire.empty()) awaited_.push_back({Step::kAuth});
  }
  const auto request = [&](Awaited awaited, std::initializer_list<std::string_view> words) {
    append_request(wire, words);
    awaited_.push_back(awaited);
  };
  if (is_asking_ && !std::exchange(is_sent_, true)) {
    request({Step::kMaster}, {"SENTINEL", "MASTER", name});
    // During a failover it names the promoted replica as soon as that has taken over; MASTER does
    // so only after the other replicas have been moved, about a second later.
    request({Step::kCurrent}, {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", name});
    request({Step::kSentinels}, {"SENTINEL", "SENTINELS", name});
    request({Step::kMyId}, {"SENTINEL", "MYID"});
    request({Step::kInfo}, {"INFO", "sentinel"});
  }
  if (survey_ && awaited_.size() < kAwaitedMax && !std::exchange(survey_->is_sent, true)) {
    const std::uint64_t number = survey_->number;
    request({Step::kSurveyMaster, number}, {"SENTINEL", "MASTER", name});
    request({Step::kSurveyCurrent, number}, {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", name});
    request({Step::kSurveyReplicas, number}, {"SENTINEL", "REPLICAS", name});
    request({Step::kSurveyMyId, number}, {"SENTINEL", "MYID"});
    request({Step::kSurveyInfo, number}, {"INFO", "sentinel"});
  }
  connection_->write(wire);
}

void SentinelQuestion::connection_reply(Reply reply) {
  if (awaited_.empty()) {
    fail(protocol_error("the Sentinel sent a reply to nothing", sentinel_.to_string()));
    return;
  }
  const auto [step, survey] = awaited_.front();
  awaited_.pop_front();
  switch (step) {
    case Step::kAuth:
      if (reply.is_error()) fail(refusal("AUTH", reply));
      return;
    case Step::kMaster: return take_master(reply);
    case Step::kCurrent: return take_current(reply);
    // These may be forbidden or unknown: then we know less, that is all.
    case Step::kSentinels: return take_sentinels(reply);
    case Step::kMyId:
      if (reply.is_string()) answer_.run_id = reply.text;
      return;
    case Step::kInfo:
      answer_.claim.is_tilted = is_tilted(reply);
      if (!awaits_masters_) end();
      return;
    case Step::kMasters: return take_masters(reply);
    default:
      if (survey_ && survey_->number == survey) survey_reply(step, reply);
      return;
  }
}

void SentinelQuestion::take_master(const Reply& reply) {
  if (reply.is_error()) {
    refusal_ = reply;
    return;
  }
  if (const auto epoch = parse_u64(field(reply, "config-epoch"))) {
    answer_.claim.config_epoch = *epoch;
  }
}

void SentinelQuestion::take_current(const Reply& reply) {
  if (reply.is_nil()) {
    awaits_masters_ = true;
    awaited_.push_back({Step::kMasters});
    std::string wire;
    append_request(wire, {"SENTINEL", "MASTERS"});
    connection_->write(wire);
    return;
  }
  if (reply.is_error()) return fail(refusal("SENTINEL", reply));
  if (auto master = address(reply)) {
    answer_.claim.master = std::move(*master);
    return;
  }
  fail(protocol_error("the Sentinel's answer makes no sense", sentinel_.to_string()));
}

void SentinelQuestion::take_sentinels(const Reply& reply) {
  for (const Reply& peer : reply.elements) {
    // They never forget one by themselves: what is down may be long gone.
    if (field(peer, "flags").find("s_down") != std::string_view::npos) continue;
    if (auto endpoint = parse_endpoint(field(peer, "ip"), field(peer, "port"))) {
      answer_.sentinels.push_back({std::move(*endpoint), std::string{field(peer, "runid")}});
    }
  }
}

void SentinelQuestion::take_masters(const Reply& reply) {
  std::string known;
  std::size_t count = 0;
  for (const Reply& master : reply.elements) {
    const std::string_view name = field(master, "name");
    if (name.empty() || ++count > kMastersNamedMax) continue;
    known += (known.empty() ? "'" : ", '") + bytes_for_message(name) + "'";
  }
  if (count > kMastersNamedMax) {
    known += " and " + std::to_string(count - kMastersNamedMax) + " more";
  }
  std::string message =
      "the Sentinel knows no master named '" + bytes_for_message(host_.redis().master_name) + "'";
  if (!reply.is_error()) message += known.empty() ? " (and no other)" : "; it knows " + known;
  Error error = invalid_argument(std::move(message));
  error.endpoint = sentinel_.to_string();
  end_with(std::move(error), true);
}

void SentinelQuestion::survey_reply(Step step, const Reply& reply) {
  SentinelView& view = survey_->view;
  switch (step) {
    case Step::kSurveyMaster:
      if (!reply.is_array()) return end_survey_with(refusal("SENTINEL MASTER", reply));
      view.master_flags = SentinelFlags::parse(field(reply, "flags"));
      view.flagged_master =
          parse_endpoint(field(reply, "ip"), field(reply, "port")).value_or(Endpoint{});
      if (const auto epoch = parse_u64(field(reply, "config-epoch"))) view.config_epoch = *epoch;
      return;
    case Step::kSurveyCurrent: {
      auto master = address(reply);
      if (!master) return end_survey_with(refusal("SENTINEL GET-MASTER-ADDR-BY-NAME", reply));
      view.master = std::move(*master);
      return;
    }
    case Step::kSurveyReplicas:
      if (!reply.is_array()) return end_survey_with(refusal("SENTINEL REPLICAS", reply));
      for (const Reply& replica : reply.elements) {
        auto endpoint = parse_endpoint(field(replica, "ip"), field(replica, "port"));
        if (!endpoint) continue;
        const auto master =
            parse_endpoint(field(replica, "master-host"), field(replica, "master-port"));
        view.replicas.push_back({std::move(*endpoint),
                                 SentinelFlags::parse(field(replica, "flags")),
                                 master.value_or(Endpoint{})});
      }
      return;
    case Step::kSurveyMyId:
      if (reply.is_string()) view.run_id = reply.text;
      return;
    default:  // kSurveyInfo, the last.
      view.is_tilted = is_tilted(reply);
      return end_survey_with(std::move(view));
  }
}

void SentinelQuestion::end_survey_with(Result<SentinelView> result) {
  const auto surveyed = std::make_unique<Survey>(std::move(*survey_));
  survey_.reset();
  surveyed->surveyed(std::move(result));
}

Error SentinelQuestion::refusal(const std::string& what, const Reply& reply) const {
  Error error;
  if (auto why = explain_refusal(what, reply.text, host_.redis().sentinel_credentials)) {
    error = invalid_argument("the Sentinel refuses us: " + *why);
  } else if (reply.text.find("No such master") != std::string::npos) {
    error = invalid_argument("the Sentinel knows no master named '" +
                             bytes_for_message(host_.redis().master_name) + "'");
  } else if (reply.text.find("unknown command") != std::string::npos) {
    error = invalid_argument("this is not a Sentinel (it does not know the command " + what + ")");
  } else {
    error = unavailable(what + " failed: " + server_text(reply.text));
  }
  error.endpoint = sentinel_.to_string();
  return error;
}

// Of all that is under way, with the connection.
void SentinelQuestion::fail(Error error) {
  hang_up();
  if (survey_) end_survey_with(error);
  if (is_asking_) end_with(std::move(error));
}

void SentinelQuestion::connection_lost(const Error& reason) {
  const bool was_reused = !is_connection_fresh_;
  const Error error = reason;
  hang_up();
  if (!is_asking_ && !survey_) return;
  if (was_reused) {  // It had gone while nobody asked, and only now we hear of it.
    is_sent_ = false;
    if (survey_) {
      survey_->is_sent = false;
      survey_->view = {.sentinel = sentinel_};
    }
    return dial();
  }
  if (refusal_) return fail(refusal("SENTINEL", *std::exchange(refusal_, std::nullopt)));
  fail(error);
}

void SentinelQuestion::hang_up() {
  host_.loop().cancel(std::exchange(dial_timer_, 0));
  is_ready_ = false;
  awaited_.clear();
  if (connection_ != nullptr) connection_->close();
  connection_.reset();
}

void SentinelQuestion::end_with(Error error, bool is_master_unknown) {
  host_.loop().cancel(std::exchange(timer_, 0));
  is_asking_ = false;
  ended_(Outcome{{}, std::move(error), is_master_unknown});
}

void SentinelQuestion::end() {
  host_.loop().cancel(std::exchange(timer_, 0));
  is_asking_ = false;
  ended_(Outcome{std::move(answer_), {}, false});
}

}  // namespace tiercel::l2
