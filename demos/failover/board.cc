#include "failover/board.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <type_traits>
#include <utility>

// Layout: BoardState, the log of all writes, ids (only with a trace). A new memfd is all
// zeros, which is the start value of every atomic here.

namespace tiercel::failover {
namespace {

constexpr std::uint64_t kMagic = 0x4c4352544d454421;

static_assert(std::is_trivially_copyable_v<BoardConfig>);

struct Layout {
  std::size_t log;
  std::size_t ids;
  std::size_t end;
};

constexpr std::size_t aligned(std::size_t offset) { return (offset + 63) / 64 * 64; }

WriteLog::Limits limits_of(const BoardConfig& config) {
  return {.key_count = config.key_count,
          .capacity = config.log_capacity,
          .staleness_max = config.staleness_max()};
}

Layout layout_of(const BoardConfig& config) {
  Layout layout{};
  layout.log = aligned(sizeof(BoardState));
  layout.ids = aligned(layout.log + WriteLog::bytes(limits_of(config)));
  layout.end = layout.ids + (config.trace_bytes > 0 ? config.key_count * sizeof(std::uint64_t) : 0);
  return layout;
}

std::string system_message(const char* what) {
  return std::string{what} + ": " + std::system_category().message(errno);
}

void* map(int fd, std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

Result<Board> Board::create(const BoardConfig& config, std::span<const std::uint64_t> ids) {
  TIERCEL_CHECK(config.key_count >= 1 && config.instances <= kInstancesMax);
  TIERCEL_CHECK((config.trace_bytes > 0) == !ids.empty());
  TIERCEL_CHECK(ids.empty() || ids.size() == config.key_count);
  const std::size_t bytes = layout_of(config).end;
  const int fd = ::memfd_create("tiercel-failover-board", MFD_CLOEXEC);
  if (fd < 0) return unavailable(system_message("memfd_create"));
  void* memory = ::ftruncate(fd, static_cast<off_t>(bytes)) == 0 ? map(fd, bytes) : nullptr;
  if (memory == nullptr) {
    auto error = unavailable(system_message("no memory for the board"));
    ::close(fd);
    return error;
  }
  auto* state = static_cast<BoardState*>(memory);
  state->config = config;
  state->magic = kMagic;
  Board board{fd, memory, bytes};
  std::ranges::copy(ids, board.ids_.begin());
  return board;
}

Result<Board> Board::attach(int fd) {
  const auto no_board = [] {
    return invalid_argument("only the demo's coordinator starts instances");
  };
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return no_board();
  const auto bytes = static_cast<std::size_t>(status.st_size);
  if (bytes < sizeof(BoardState)) return no_board();
  void* memory = map(fd, bytes);
  if (memory == nullptr) return no_board();
  const auto* state = static_cast<const BoardState*>(memory);
  if (state->magic != kMagic || layout_of(state->config).end != bytes) {
    ::munmap(memory, bytes);
    return no_board();
  }
  return Board{-1, memory, bytes};
}

Board::Board(int fd, void* memory, std::size_t bytes) noexcept
    : fd_(fd),
      memory_(memory),
      bytes_(bytes),
      state_(static_cast<BoardState*>(memory)),
      log_(limits_of(state_->config),
           static_cast<std::byte*>(memory) + layout_of(state_->config).log) {
  const Layout layout = layout_of(state_->config);
  auto* base = static_cast<std::byte*>(memory);
  if (state_->config.trace_bytes > 0) {
    ids_ = {reinterpret_cast<std::uint64_t*>(base + layout.ids), state_->config.key_count};
  }
}

Board::Board(Board&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      memory_(std::exchange(other.memory_, nullptr)),
      bytes_(other.bytes_),
      state_(other.state_),
      log_(other.log_),
      ids_(other.ids_) {}

Board::~Board() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
  if (fd_ >= 0) ::close(fd_);
}

std::optional<std::uint32_t> Board::key_of_id(std::uint64_t id) const noexcept {
  if (ids_.empty()) {
    if (id < config().key_count) return static_cast<std::uint32_t>(id);
    return std::nullopt;
  }
  const auto found = std::ranges::lower_bound(ids_, id);
  if (found == ids_.end() || *found != id) return std::nullopt;
  return static_cast<std::uint32_t>(found - ids_.begin());
}

}  // namespace tiercel::failover
