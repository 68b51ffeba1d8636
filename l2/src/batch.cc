// Invariants: part p is about the keys [p * kKeysPerPart, …), and whoever answers a command of it
// writes only to its own places of the answer, so that no lock is needed; the last to count down
// hands it over. The submitting thread holds one count of its own, until all are on their way.

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
// What a read brings should not be much more: it is copied in one go.
constexpr std::size_t kReplyBytes = 128 * 1024;

std::size_t parts_of(std::size_t keys) noexcept { return (keys + kKeysPerPart - 1) / kKeysPerPart; }

Error refused_by_server(const ReplyView& reply) {
  return unavailable("the server answered " + server_text(reply.text()));
}

// The first of the commands of a part to fail tells why. They may fail on two threads.
class PartErrors {
 public:
  explicit PartErrors(std::size_t parts) : is_failed_(parts) {}
  void note(BatchErrors& errors, std::size_t part, Error error) {
    if (!is_failed_[part].exchange(true)) BatchAccess::by_part(errors)[part] = std::move(error);
  }

 private:
  std::vector<std::atomic<bool>> is_failed_;
};

// Of the keys of one command.
struct Keys {
  std::size_t first;
  std::size_t count;
};

struct GetMany {
  GetMany(std::size_t keys, std::size_t keys_in_command, GetManyCallback callback)
      : step(keys_in_command), failed(parts_of(keys)), done(std::move(callback)) {
    BatchAccess::values(batch).resize(keys);
    BatchAccess::blocks(batch).resize((keys + step - 1) / step);
    BatchAccess::by_part(BatchAccess::errors(batch)).resize(parts_of(keys));
  }

  // How large the values were; nothing where there is no telling.
  std::optional<std::size_t> answer(Keys keys, const Result<ReplyView>& reply) {
    std::optional<std::size_t> mean;
    if (!reply) {
      fail(keys, reply.error());
    } else if (reply->size() != keys.count) {
      fail(keys, refused_by_server(*reply));
    } else {
      mean = keep(keys, *reply) / keys.count;
    }
    count_down();
    return mean;
  }
  void fail(Keys keys, Error error) {
    failed.note(BatchAccess::errors(batch), keys.first / kKeysPerPart, std::move(error));
  }
  std::size_t keep(Keys keys, const ReplyView& reply) {
    std::size_t bytes = 1;  // An empty value, too, has an address.
    for (const ReplyView value : reply) bytes += value.text().size();
    auto& block = BatchAccess::blocks(batch)[keys.first / step];
    block.reset(new char[bytes]);
    char* at = block.get();
    auto place = BatchAccess::values(batch).begin() + static_cast<std::ptrdiff_t>(keys.first);
    for (const ReplyView value : reply) {
      const std::string_view text = value.text();
      if (value.is_string()) {
        if (!text.empty()) std::memcpy(at, text.data(), text.size());
        *place = {at, text.size()};
        at += text.size();
      }
      ++place;
    }
    return bytes;
  }
  void count_down() {
    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) done(std::move(batch));
  }

  const std::size_t step;  // Keys in one command; divides kKeysPerPart.
  ValueBatch batch;
  PartErrors failed;
  GetManyCallback done;
  std::atomic<std::size_t> left{1};
};

struct SetMany {
  SetMany(std::size_t keys, SetManyCallback callback)
      : failed(parts_of(keys)), done(std::move(callback)) {
    BatchAccess::by_part(errors).resize(parts_of(keys));
  }

  void answer(std::size_t part, const Result<ReplyView>& reply) {
    if (!reply) {
      fail(part, reply.error());
    } else if (reply->is_error()) {
      fail(part, refused_by_server(*reply));
    }
    count_down();
  }
  void fail(std::size_t part, Error error) { failed.note(errors, part, std::move(error)); }
  void count_down() {
    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) done(std::move(errors));
  }

  BatchErrors errors;
  PartErrors failed;
  SetManyCallback done;
  std::atomic<std::size_t> left{1};
};

// A power of two, so that a part is a number of whole commands.
std::size_t keys_per_command(std::size_t value_bytes) noexcept {
  std::size_t keys = kKeysPerPart;
  while (keys > 1 && keys * value_bytes > kReplyBytes) keys /= 2;
  return keys;
}

}  // namespace

void Client::get_many(std::span<const std::string_view> keys, TimePoint deadline,
                      GetManyCallback done) {
  const std::size_t step = keys_per_command(core_->batch_value_bytes());
  const auto state = std::make_shared<GetMany>(keys.size(), step, std::move(done));
  for (std::size_t first = 0; first < keys.size(); first += step) {
    const auto mine = keys.subspan(first, std::min(step, keys.size() - first));
    std::array<std::string_view, kKeysPerPart + 1> words{"MGET"};
    std::copy(mine.begin(), mine.end(), words.begin() + 1);
    const std::span<const std::string_view> request{words.data(), mine.size() + 1};
    const Keys asked{first, mine.size()};
    // The core outlives what is submitted to it.
    ViewCallback callback{[state, asked, core = core_.get()](const Result<ReplyView>& reply) {
      if (const auto mean = state->answer(asked, reply)) core->note_batch_value_bytes(*mean);
    }};
    state->left.fetch_add(1, std::memory_order_relaxed);
    if (auto refused =
            try_submit_written(request_bytes(request), Retry::kSafe, deadline, callback,
                               [request](char* out) noexcept { write_request(out, request); })) {
      state->answer(asked, std::move(*refused));
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
