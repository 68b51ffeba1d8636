#pragma once

// RefList: nodes by reference, through their `newer` and `older`, from oldest to newest. 0 is no
// node. For `nodes` see recency_lists.h.

#include <cstdint>

namespace tiercel::l1 {

struct RefList {
  std::uint32_t newest = 0;
  std::uint32_t oldest = 0;
  std::uint32_t count = 0;

  [[nodiscard]] bool empty() const noexcept { return oldest == 0; }

  template <typename Nodes>
  void push_newest(Nodes& nodes, std::uint32_t ref) noexcept {
    auto& node = nodes[ref];
    using Link = decltype(node.newer);
    node.newer = 0;
    node.older = static_cast<Link>(newest);
    if (newest == 0) {
      oldest = ref;
    } else {
      nodes[newest].newer = static_cast<Link>(ref);
    }
    newest = ref;
    ++count;
  }

  template <typename Nodes>
  void push_oldest(Nodes& nodes, std::uint32_t ref) noexcept {
    auto& node = nodes[ref];
    using Link = decltype(node.newer);
    node.older = 0;
    node.newer = static_cast<Link>(oldest);
    if (oldest == 0) {
      newest = ref;
    } else {
      nodes[oldest].older = static_cast<Link>(ref);
    }
    oldest = ref;
    ++count;
  }

  template <typename Nodes>
  void unlink(Nodes& nodes, std::uint32_t ref) noexcept {
    auto& node = nodes[ref];
    if (node.newer == 0) {
      newest = node.older;
    } else {
      nodes[node.newer].older = node.older;
    }
    if (node.older == 0) {
      oldest = node.newer;
    } else {
      nodes[node.older].newer = node.newer;
    }
    --count;
  }
};

}  // namespace tiercel::l1
