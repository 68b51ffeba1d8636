// From the source, and into Redis:
//
//   lease ─► plan ─► reserve ─► chunks ─► announce ─► enumerate ──────────► store ─► switch ─►
//   clean up
//                                            └─ or, ours is whole: its messages ─┘
//
// Local adds go to the new filter from before the announcement on, and writers' scripts set their
// bits in the announced chunks from that on. So a key that was created before is in the source when
// the enumerator begins, and one that is created later is in both filters by itself.
//
// A filter that answers here has all that was created before the last proof of the lease. When that
// is newer than the announcement, it can be put into Redis as it is, without the source.

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "key_guard.h"
#include "link_driver.h"
#include "scripts.h"
#include "tiercel/base/bytes.h"

namespace tiercel {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t kScanCount = 500;

Error overtaken() {
  return unavailable("what Redis holds was changed by someone else, or is damaged; once more");
}

}  // namespace

// ---------------------------------------------------------------- the right to build

void KeyGuard::begin_building(bool from_source) {
  begin(Job::kBuild);
  from_source_ = from_source;
  if (from_source) {
    bool is_running = false;
    {
      MutexLock lock{mutex_};
      is_running = enumerations_ > 0;
    }
    if (is_running) return end(kLookForBuilder);  // One that was told to stop.
  }
  if (is_local()) {
    const auto current = generations_.current();
    if (auto made = make_filter(current ? current->generation() + 1 : 1); !made) {
      return fail(made.error());
    }
    return enumerate();
  }
  has_lease_ = true;  // Or so it may turn out.
  const std::string life = std::to_string(kBuilderLife / 1ms);
  around_.client->submit(
      l2::Command{l2::Retry::kIfNotSent,
                  {"SET", around_.guard_key + ":building", around_.token, "NX", "PX", life}},
      answer_by(), in_job([this](const Result<l2::Reply>& reply) { lease_answered(reply); }));
}

void KeyGuard::lease_answered(const Result<l2::Reply>& reply) {
  if (!reply) return fail(reply.error());
  if (reply->is_error()) return fail(refused(*reply));
  if (reply->is_nil()) {
    has_lease_ = false;
    return end(kLookForBuilder);
  }
  renew_lease();
  ask(in_job([this](Result<l2::Reply> answer) { plan(std::move(answer)); }));
}

void KeyGuard::renew_lease() {
  around_.loop.run_after(kBuilderLife / 3, [this, number = job_number_] {
    if (number != job_number_ || closed_.load()) return;
    const std::string life = std::to_string(kBuilderLife / 1ms);
    around_.client->submit_script(guard_lease_script(),
                                  std::array<std::string_view, 1>{around_.guard_key + ":building"},
                                  std::array<std::string_view, 2>{around_.token, life},
                                  l2::Retry::kSafe, answer_by(), [](const Result<l2::Reply>&) {});
    renew_lease();
  });
}

void KeyGuard::return_lease() {
  if (!std::exchange(has_lease_, false) || closed_.load()) return;
  const std::string key = around_.guard_key + ":building";
  around_.client->submit_script(guard_lease_script(), std::array<std::string_view, 1>{key},
                                std::array<std::string_view, 2>{around_.token, "0"},
                                l2::Retry::kSafe, answer_by(), [](const Result<l2::Reply>&) {});
}

// ---------------------------------------------------------------- announced

void KeyGuard::plan(Result<l2::Reply> reply) {
  if (!reply) return fail(reply.error());
  if (!reply->is_array() || reply->elements.size() != 2) return fail(refused(*reply));
  const std::string& text = reply->elements[0].text;
  const auto& time = reply->elements[1].elements;
  const std::uint64_t seconds = time.size() == 2 ? parse_u64(time[0].text).value_or(0) : 0;
  const std::uint64_t microseconds = time.size() == 2 ? parse_u64(time[1].text).value_or(0) : 0;
  auto stored = decode_guard(text);
  stored_ = stored ? std::move(*stored) : StoredGuard{};
  stored_id_ = guard_id_of(text);
  if (!from_source_ && stored_.branch == branch_ && stored_.current) return end(0s);

  // Above all there were, those that were forgotten with the database included.
  const std::uint64_t generation =
      std::max({seconds * 1'000'000 + microseconds, stored_.newest_generation() + 1,
                known_generation() + 1});
  if (generation > StoredGuard::kGenerationMax) {
    return fail(internal("the server's clock is beyond what a generation can be"));
  }
  if (from_source_) {
    if (auto made = make_filter(generation); !made) return fail(made.error());
  } else {
    complete_ = generations_.current();
    if (!complete_) return end(0s);
    next_header_ = complete_->header();
  }
  next_header_.generation = generation;
  next_header_.bits_set = 0;

  // Nothing that is in Redis goes unmentioned: who comes after a builder that died cleans up.
  StoredGuard reserved = stored_;
  reserved.id = new_guard_id();
  if (reserved.branch != branch_ && reserved.current) {
    reserved.garbage.push_back(*reserved.current);
    reserved.current.reset();
  }
  if (reserved.next) reserved.garbage.push_back(*reserved.next);
  reserved.next.reset();
  reserved.branch = branch_;
  reserved.garbage.push_back(next_header_);
  while (reserved.garbage.size() > StoredGuard::kGarbageMax) {
    reserved.garbage.erase(reserved.garbage.begin());
  }
  change(stored_id_, encode_guard(reserved),
         in_job([this, reserved](const Result<l2::Reply>& changed) {
           if (!is_one(changed)) return fail(not_done(changed, overtaken().message));
           stored_ = reserved;
           make_chunks();
         }));
}

BloomOptions KeyGuard::bloom_options(std::uint64_t generation) const {
  std::uint64_t keys = options_.keys_expected;
  if (const auto current = generations_.current(); current && current->is_overfull()) {
    keys = std::max(keys, static_cast<std::uint64_t>(current->keys_estimated() * 1.5));
  }
  return {.keys_expected = keys,
          .false_positive_rate = options_.false_positive_rate,
          .bits_per_key = options_.bits_per_key,
          .bytes_max = options_.bytes_max,
          .generation = generation};
}

Result<void> KeyGuard::make_filter(std::uint64_t generation) {
  auto begun = generations_.begin_building(bloom_options(generation));
  if (!begun) return begun.error();
  building_ = std::move(*begun);
  next_header_ = building_->header();
  return {};
}

Result<void> KeyGuard::take_integer(std::size_t, const Result<l2::Reply>& reply) {
  if (!reply) return reply.error();
  if (!reply->is_integer()) return refused(*reply);
  return {};
}

void KeyGuard::make_chunks() {
  pump_.start(
      {.chunks = chunks_of(next_header_),
       .send =
           [this](std::size_t chunk, l2::ReplyCallback callback) {
             const std::string key = chunk_key(around_.guard_key, next_header_.generation, chunk);
             const std::string last = std::to_string(chunk_bytes_of(next_header_, chunk) - 1);
             around_.client->submit(
                 l2::Command{l2::Retry::kSafe, {"SETRANGE", key, last, std::string_view{"\0", 1}}},
                 answer_by(), std::move(callback));
             return true;
           },
       .take = take_integer,
       .done =
           [this](const Result<void>& result) {
             if (!is_linked()) return end(kLookForLinks);
             if (!result) return fail(result.error());
             announce();
           }});
}

void KeyGuard::announce() {
  StoredGuard announced = stored_;
  announced.id = new_guard_id();
  announced.garbage.pop_back();  // It was there as long as nobody was to set bits in it.
  announced.next = next_header_;
  change(stored_.id, encode_guard(announced),
         in_job([this, announced](const Result<l2::Reply>& changed) {
           if (!is_one(changed)) return fail(not_done(changed, overtaken().message));
           stored_ = announced;
           if (from_source_) return enumerate();
           await_messages(around_.clock.now());
         }));
}

void KeyGuard::await_messages(TimePoint announced_at) {
  if (around_.lease.proven_at() >= announced_at) return store();
  around_.loop.run_after(kLookForLinks, [this, announced_at, number = job_number_] {
    if (number != job_number_ || closed_.load()) return;
    if (!is_linked()) return end(kLookForLinks);
    await_messages(announced_at);
  });
}

// ---------------------------------------------------------------- the source

void KeyGuard::enumerate() {
  enumeration_ = std::make_shared<Enumeration>();
  if (options_.enumerate) return enumerate_by_user();
  scan("0");
}

void KeyGuard::enumerate_by_user() {
  {
    MutexLock lock{mutex_};
    ++enumerations_;
  }
  auto posted = around_.executor.post([self = shared_from_this(), enumeration = enumeration_,
                                       filter = building_, number = job_number_] {
    Result<void> result;
    try {
      result = self->options_.enumerate([&](std::string_view key) {
        if (enumeration->stops.load(std::memory_order_relaxed) || self->closed_.load())
          return false;
        filter->add(key);
        return true;
      });
    } catch (const std::exception& thrown) {
      result = internal(std::string{"enumerate threw: "} + thrown.what());
    } catch (...) {
      result = internal("enumerate threw something that is no std::exception");
    }
    self->around_.loop.post([guard = self.get(), number, result = std::move(result)]() mutable {
      if (number == guard->job_number_) guard->enumerated(std::move(result));
    });
    MutexLock lock{self->mutex_};
    --self->enumerations_;
    self->changed_.notify_all();
  });
  if (posted) return;
  {
    MutexLock lock{mutex_};
    --enumerations_;
    changed_.notify_all();
  }
  fail(posted.error());
}

// SCAN gives each key that is there from its first page to its last.
void KeyGuard::scan(const std::string& cursor) {
  around_.client->submit(l2::Command{l2::Retry::kSafe,
                                     {"SCAN", cursor, "MATCH", around_.value_prefix + '*', "COUNT",
                                      std::to_string(kScanCount)}},
                         answer_by(),
                         in_job([this](Result<l2::Reply> reply) { scanned(std::move(reply)); }));
}

void KeyGuard::scanned(Result<l2::Reply> reply) {
  if (!reply) return fail(reply.error());
  if (!reply->is_array() || reply->elements.size() != 2) return fail(refused(*reply));
  for (const l2::Reply& key : reply->elements[1].elements) {
    if (key.text.starts_with(around_.value_prefix)) {
      building_->add(std::string_view{key.text}.substr(around_.value_prefix.size()));
    }
  }
  const std::string& cursor = reply->elements[0].text;
  if (cursor == "0") return enumerated({});
  // Leaves the server some time between two pages.
  around_.loop.run_after(1ms, [this, cursor, number = job_number_] {
    if (number == job_number_ && !closed_.load()) scan(cursor);
  });
}

void KeyGuard::enumerated(Result<void> result) {
  if (closed_.load()) return;
  if (!result) return fail(result.error());
  if (!is_linked()) return end(kLookForLinks);
  auto old = generations_.current();
  if (auto finished = generations_.finish(); !finished) return fail(finished.error());
  if (old) let_go(std::move(old));
  {
    MutexLock lock{mutex_};
    ++counts_.built;
  }
  log(LogLevel::kInfo, "built from its source");
  failed_ = 0;
  published_ = 0;
  complete_ = std::move(building_);
  if (is_local()) return end(kLookEvery);
  store();
}

// ---------------------------------------------------------------- into Redis

void KeyGuard::store() {
  next_header_.bits_set = complete_->bits_set();  // Before the chunks: BloomHeader says why.
  pump_.start({.chunks = chunks_of(next_header_),
               .send =
                   [this](std::size_t chunk, l2::ReplyCallback callback) {
                     return send_chunk(chunk, std::move(callback));
                   },
               .take = [](std::size_t, const Result<l2::Reply>& reply) -> Result<void> {
                 if (is_one(reply)) return {};
                 return not_done(reply, overtaken().message);
               },
               .done = [this](Result<void> result) { switch_over(std::move(result)); }});
}

bool KeyGuard::send_chunk(std::size_t chunk, l2::ReplyCallback callback) {
  const std::string bytes = complete_->copy_chunk(chunk);
  if (bytes.find_first_not_of('\0') == std::string::npos) return false;
  const std::string key = chunk_key(around_.guard_key, next_header_.generation, chunk);
  const std::string temporary = key + ":merging";
  around_.client->submit_script(guard_merge_script(),
                                std::array<std::string_view, 3>{around_.guard_key, key, temporary},
                                std::array<std::string_view, 2>{stored_.id, bytes},
                                l2::Retry::kSafe, answer_by(), std::move(callback));
  return true;
}

void KeyGuard::switch_over(Result<void> result) {
  if (!is_linked()) return end(kLookForLinks);
  if (!result) return fail(result.error());
  StoredGuard switched = stored_;
  switched.id = new_guard_id();
  if (switched.current) switched.garbage.push_back(*switched.current);
  switched.current = next_header_;
  switched.next.reset();
  change(stored_.id, encode_guard(switched),
         in_job([this, switched](const Result<l2::Reply>& changed) {
           if (!is_one(changed)) return fail(not_done(changed, overtaken().message));
           stored_ = switched;
           published_ = next_header_.generation;
           complete_.reset();
           failed_ = 0;
           {
             MutexLock lock{mutex_};
             ++counts_.stored;
           }
           clean_up();
         }));
}

void KeyGuard::clean_up() {
  if (stored_.garbage.empty()) return end(kLookEvery);
  pump_.start({.chunks = chunks_of(stored_.garbage.back()),
               .send =
                   [this](std::size_t chunk, l2::ReplyCallback callback) {
                     const std::string key =
                         chunk_key(around_.guard_key, stored_.garbage.back().generation, chunk);
                     around_.client->submit(l2::Command{l2::Retry::kSafe, {"UNLINK", key}},
                                            answer_by(), std::move(callback));
                     return true;
                   },
               .take = take_integer,
               .done = [this](Result<void> result) { cleaned_up(std::move(result)); }});
}

void KeyGuard::cleaned_up(Result<void> result) {
  if (!is_linked()) return end(kLookForLinks);
  if (!result) return fail(result.error());
  StoredGuard cleaned = stored_;
  cleaned.id = new_guard_id();
  cleaned.garbage.pop_back();
  change(stored_.id, encode_guard(cleaned),
         in_job([this, cleaned](const Result<l2::Reply>& changed) {
           if (!is_one(changed)) return fail(not_done(changed, overtaken().message));
           stored_ = cleaned;
           clean_up();
         }));
}

}  // namespace tiercel
