#pragma once

// Batches: many keys in one call of Client::get_many or set_many, with one answer.
//
// A batch is cut into parts of at most kKeysPerPart keys, each a command (or, for large values or
// with a time to live, some commands) among those of everyone else: pipelined, bounded, answered
// by its deadline, sent again or not by the rules of client.h. So a batch of 10,000 keys holds up
// neither the server nor the loop, and it is not atomic: each part succeeds or fails by itself. Of
// the parts that failed the answer has the error, key by key; the rest of it is good. A part is
// answered kOverloaded where the queue has no room.
//
// Each value is copied once: out of the read buffer, into one block of memory for each part; into
// the write buffer from where the caller has it. What one command reads is copied in one go, so the
// client remembers how large the values of its last batches were, and asks for fewer in one command
// where they are large. The first batch of large values may hold up the loop for some milliseconds.

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tiercel/base/error.h"
#include "tiercel/base/unique_function.h"

namespace tiercel::l2 {

inline constexpr std::size_t kKeysPerPart = 64;

struct KeyValue {
  std::string_view key;
  std::string_view value;
};

// What went wrong, by parts of the batch.
class BatchErrors {
 public:
  [[nodiscard]] bool empty() const noexcept;
  // Of the part that this key was in; null where it was answered. Valid while this lives. O(1).
  [[nodiscard]] const Error* of(std::size_t index) const noexcept {
    const auto& error = by_part_[index / kKeysPerPart];
    return error ? &*error : nullptr;
  }
  // The first, for a message; null where all went well.
  [[nodiscard]] const Error* first() const noexcept;

 private:
  friend class BatchAccess;
  std::vector<std::optional<Error>> by_part_;
};

// The answer to get_many, in the order of the keys. Owns the bytes.
class ValueBatch {
 public:
  [[nodiscard]] std::size_t size() const noexcept { return values_.size(); }
  // Nothing where the key is missing, or holds something else than a string, or where its part
  // failed: errors() tells which. Valid while this lives.
  [[nodiscard]] std::optional<std::string_view> operator[](std::size_t index) const noexcept {
    const std::string_view value = values_[index];
    return value.data() == nullptr ? std::nullopt : std::optional{value};
  }
  [[nodiscard]] const BatchErrors& errors() const noexcept { return errors_; }

 private:
  friend class BatchAccess;
  std::vector<std::string_view> values_;  // Without data: nothing.
  std::vector<std::unique_ptr<char[]>> blocks_;
  BatchErrors errors_;
};

// Called once, on the loop thread; or at once on the submitting thread where nothing was accepted.
using GetManyCallback = UniqueFunction<void(ValueBatch)>;
// Keys without an error were written. An error of kDeadlineExceeded: perhaps.
using SetManyCallback = UniqueFunction<void(BatchErrors)>;

}  // namespace tiercel::l2
