// Invariants: part p is about the keys [p * kKeysPerPart, …), and whoever answers it writes only to
// its own places of the answer, so that no lock is needed; the last to count down hands it over.
// The submitting thread holds one count of its own, until all parts are on their way.

#include "tiercel/l2/batch.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include "client_core.h"
#include "resp_format.h"
#include "server_text.h"

namespace tiercel::l2 {

class BatchAccess {
 public:
  static auto& by_part(BatchErrors& errors) noexcept { return errors.by_part_; }
  static auto& values(ValueBatch& batch) noexcept { return batch.values_; }
  static auto& blocks(ValueBatch& batch) noexcept { return batch.blocks_; }
  static auto& errors(ValueBatch& batch) noexcept { return batch.errors_; }
};

bool BatchErrors::empty() const noexcept { return first() == nullptr; }

const Error* BatchErrors::first() const noexcept {
  for (const auto& error : by_part_) {
    if (error) return &*error;
  }
  return nullptr;
}

namespace {

// A write is sent when it has grown to this, so that large values are commands of their own.
constexpr std::size_t kCommandBytes = 64 * 1024;

std::size_t parts_of(std::size_t keys) noexcept { return (keys + kKeysPerPart - 1) / kKeysPerPart; }

Error refused_by_server(const ReplyView& reply) {
  return unavailable("the server answered " + server_text(reply.text()));
}

struct GetMany {
  explicit GetMany(std::size_t keys, GetManyCallback callback) : done(std::move(callback)) {
    BatchAccess::values(batch).resize(keys);
    BatchAccess::blocks(batch).resize(parts_of(keys));
    BatchAccess::by_part(BatchAccess::errors(batch)).resize(parts_of(keys));
  }

  void answer(std::size_t part, std::size_t count, const Result<ReplyView>& reply) {
    if (!reply) {
      fail(part, reply.error());
    } else if (reply->size() != count) {
      fail(part, refused_by_server(*reply));
    } else {
      keep(part, *reply);
    }
    count_down();
  }
  void fail(std::size_t part, Error error) {
    BatchAccess::by_part(BatchAccess::errors(batch))[part] = std::move(error);
  }
  void keep(std::size_t part, const ReplyView& reply) {
    std::size_t bytes = 1;  // An empty value, too, has an address.
    for (const ReplyView value : reply) bytes += value.text().size();
    auto& block = BatchAccess::blocks(batch)[part];
    block.reset(new char[bytes]);
    char* at = block.get();
    auto place =
        BatchAccess::values(batch).begin() + static_cast<std::ptrdiff_t>(part * kKeysPerPart);
    for (const ReplyView value : reply) {
      const std::string_view text = value.text();
      if (value.is_string()) {
        if (!text.empty()) std::memcpy(at, text.data(), text.size());
        *place = {at, text.size()};
        at += text.size();
      }
      ++place;
    }
  }
  void count_down() {
    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) done(std::move(batch));
  }

  ValueBatch batch;
  GetManyCallback done;
  std::atomic<std::size_t> left{1};
};

struct SetMany {
  explicit SetMany(std::size_t keys, SetManyCallback callback) : done(std::move(callback)) {
    BatchAccess::by_part(errors).resize(parts_of(keys));
    is_failed = std::vector<std::atomic<bool>>(parts_of(keys));
  }

  void answer(std::size_t part, const Result<ReplyView>& reply) {
    if (!reply) {
      fail(part, reply.error());
    } else if (reply->is_error()) {
      fail(part, refused_by_server(*reply));
    }
    count_down();
  }
  // Of the commands of one part the first to fail tells why.
  void fail(std::size_t part, Error error) {
    if (!is_failed[part].exchange(true)) BatchAccess::by_part(errors)[part] = std::move(error);
  }
  void count_down() {
    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) done(std::move(errors));
  }

  BatchErrors errors;
  std::vector<std::atomic<bool>> is_failed;
  SetManyCallback done;
  std::atomic<std::size_t> left{1};
};

}  // namespace

void Client::get_many(std::span<const std::string_view> keys, TimePoint deadline,
                      GetManyCallback done) {
  const auto state = std::make_shared<GetMany>(keys.size(), std::move(done));
  for (std::size_t part = 0; part < parts_of(keys.size()); ++part) {
    const auto mine = keys.subspan(part * kKeysPerPart,
                                   std::min(kKeysPerPart, keys.size() - part * kKeysPerPart));
    std::array<std::string_view, kKeysPerPart + 1> words{"MGET"};
    std::copy(mine.begin(), mine.end(), words.begin() + 1);
    const std::span<const std::string_view> request{words.data(), mine.size() + 1};
    ViewCallback callback{[state, part, count = mine.size()](Result<ReplyView> reply) {
      state->answer(part, count, reply);
    }};
    state->left.fetch_add(1, std::memory_order_relaxed);
    if (auto refused =
            try_submit_written(request_bytes(request), Retry::kSafe, deadline, callback,
                               [request](char* out) noexcept { write_request(out, request); })) {
      state->answer(part, mine.size(), std::move(*refused));
    }
  }
  state->count_down();
}

void Client::set_many(std::span<const KeyValue> entries,
                      std::optional<std::chrono::milliseconds> ttl, TimePoint deadline,
                      SetManyCallback done) {
  const auto state = std::make_shared<SetMany>(entries.size(), std::move(done));
  const std::string life = ttl ? std::to_string(ttl->count()) : std::string{};
  const auto send = [&](std::size_t part, std::span<const std::string_view> request) {
    ViewCallback callback{[state, part](Result<ReplyView> reply) { state->answer(part, reply); }};
    state->left.fetch_add(1, std::memory_order_relaxed);
    if (auto refused =
            try_submit_written(request_bytes(request), Retry::kIfNotSent, deadline, callback,
                               [request](char* out) noexcept { write_request(out, request); })) {
      state->answer(part, std::move(*refused));
    }
  };
  for (std::size_t part = 0; part < parts_of(entries.size()); ++part) {
    const auto mine = entries.subspan(part * kKeysPerPart,
                                      std::min(kKeysPerPart, entries.size() - part * kKeysPerPart));
    if (ttl) {  // MSET knows no time to live.
      for (const KeyValue& entry : mine) {
        send(part, std::array<std::string_view, 5>{"SET", entry.key, entry.value, "PX", life});
      }
      continue;
    }
    std::array<std::string_view, 2 * kKeysPerPart + 1> words{"MSET"};
    std::size_t count = 1;
    std::size_t bytes = 0;
    for (const KeyValue& entry : mine) {
      words[count++] = entry.key;
      words[count++] = entry.value;
      bytes += entry.key.size() + entry.value.size();
      if (bytes < kCommandBytes && &entry != &mine.back()) continue;
      send(part, {words.data(), count});
      count = 1;
      bytes = 0;
    }
  }
  state->count_down();
}

}  // namespace tiercel::l2
