#pragma once

// Pipeline: commands that one thread has at the same time, to be handed to a Client together.
//
//   Pipeline reads;
//   for (const auto& key : keys) reads.add(Retry::kSafe, "GET", key);
//   client.submit_pipeline(reads, deadline, [](std::size_t index, Result<ReplyView> reply) { … });
//
// It costs less than as many calls of Client::submit: the commands are formatted where they are
// sent from, and they share one lock, one wake-up and one callback. That is all that it is: not a
// transaction, and each command is answered, sent again or given up by itself. All are accepted or
// all refused: kOverloaded, kClosed, or kInvalidArgument for more than queue_commands_max. Many
// keys that are only read are cheaper by get_many.
//
// Not thread-safe: one owner. Views passed to add() are copied.

#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "tiercel/l2/command.h"

namespace tiercel::l2 {

class Pipeline {
 public:
  Pipeline() = default;
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;
  ~Pipeline();

  // At least one word (an empty request is a bug, and aborts).
  void add(Retry retry, std::span<const std::string_view> words);
  void add(Retry retry, std::initializer_list<std::string_view> words) {
    add(retry, std::span{words.begin(), words.size()});
  }
  template <std::convertible_to<std::string_view>... Words>
  requires(sizeof...(Words) > 0) void add(Retry retry, const Words&... words) {
    add(retry, {std::string_view(words)...});
  }

  [[nodiscard]] std::size_t size() const noexcept { return parts_.size(); }
  [[nodiscard]] bool empty() const noexcept { return parts_.empty(); }
  void clear() noexcept;

 private:
  friend class Client;
  friend class SubmitQueue;
  struct Part {
    std::size_t bytes;
    Retry retry;
  };

  char* reserve(std::size_t bytes);

  WriteChunk* chunk_ = nullptr;  // The requests, one after the other. Null: there is none.
  std::vector<Part> parts_;
};

}  // namespace tiercel::l2
