#pragma once

// BloomPages: the zeroed memory of a BloomFilter.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tiercel::detail {

class BloomPages {
 public:
  // Null if the system refuses so much. Not resident before it is touched.
  [[nodiscard]] static std::unique_ptr<BloomPages> create(std::size_t bytes,
                                                          bool huge_pages) noexcept;
  ~BloomPages();
  BloomPages(const BloomPages&) = delete;
  BloomPages& operator=(const BloomPages&) = delete;

  [[nodiscard]] std::uint64_t* words() const noexcept { return words_; }

 private:
  BloomPages(void* mapped, std::size_t mapped_bytes, std::uint64_t* words) noexcept
      : mapped_(mapped), mapped_bytes_(mapped_bytes), words_(words) {}

  void* const mapped_;
  const std::size_t mapped_bytes_;
  std::uint64_t* const words_;
};

}  // namespace tiercel::detail
