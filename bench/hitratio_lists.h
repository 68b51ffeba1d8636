#pragma once

// Lists of ids, of which the reference policies of the hit-ratio bench are made.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tiercel::bench {

using Id = std::uint64_t;

// A handful of doubly linked lists over the ids; an id is on one of them or on none (list 0).
template <std::size_t kLists>
class Lists {
 public:
  explicit Lists(std::size_t distinct)
      : older_(distinct + kLists), newer_(distinct + kLists), list_(distinct), distinct_(distinct) {
    for (std::size_t i = 0; i < kLists; ++i) older_[distinct + i] = newer_[distinct + i] = head(i);
  }

  std::size_t list(Id id) const { return list_[id]; }
  std::size_t size(std::size_t list) const { return size_[list]; }
  Id oldest(std::size_t list) const { return newer_[head(list)]; }
  Id newest(std::size_t list) const { return older_[head(list)]; }
  // The next newer one on the same list, or the oldest again after the newest.
  Id newer(Id id) const { return newer_[id] >= distinct_ ? oldest(list_[id]) : Id{newer_[id]}; }

  void remove(Id id) {
    if (list_[id] == 0) return;
    --size_[list_[id]];
    older_[newer_[id]] = older_[id];
    newer_[older_[id]] = newer_[id];
    list_[id] = 0;
  }

  // As the newest of `list`, away from where it was.
  void push(std::size_t list, Id id) {
    remove(id);
    const std::uint32_t end = head(list);
    newer_[id] = end;
    older_[id] = older_[end];
    newer_[older_[end]] = static_cast<std::uint32_t>(id);
    older_[end] = static_cast<std::uint32_t>(id);
    list_[id] = static_cast<std::uint8_t>(list);
    ++size_[list];
  }

 private:
  std::uint32_t head(std::size_t list) const {
    return static_cast<std::uint32_t>(distinct_ + list);
  }

  std::vector<std::uint32_t> older_;
  std::vector<std::uint32_t> newer_;
  std::vector<std::uint8_t> list_;
  std::array<std::size_t, kLists> size_{};
  std::size_t distinct_;
};

}  // namespace tiercel::bench
