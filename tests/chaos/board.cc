#include "chaos/board.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <type_traits>
#include <utility>

// Layout: BoardState, the log of all writes. A new memfd is all zeros, which is the start value of
// every atomic here.

namespace tiercel::chaos {
namespace {

constexpr std::uint64_t kMagic = 0x4c45435243484153;

static_assert(std::is_trivially_copyable_v<InstanceSetup>);

fleet::WriteLog::Limits limits_of(const BoardConfig& config) {
  return {.key_count = config.key_count,
          .capacity = config.log_capacity,
          .staleness_max = config.staleness_max()};
}

constexpr std::size_t kLogAt = (sizeof(BoardState) + 63) / 64 * 64;

std::size_t bytes_of(const BoardConfig& config) {
  return kLogAt + fleet::WriteLog::bytes(limits_of(config));
}

void* map(int fd, std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

Result<Board> Board::create(const BoardConfig& config) {
  TIERCEL_CHECK(config.key_count >= 1 && config.key_count <= kKeysMax);
  const std::size_t bytes = bytes_of(config);
  const int fd = ::memfd_create("tiercel-chaos-board", MFD_CLOEXEC);
  void* memory =
      fd >= 0 && ::ftruncate(fd, static_cast<off_t>(bytes)) == 0 ? map(fd, bytes) : nullptr;
  if (memory == nullptr) {
    auto error = unavailable("no memory for the board: " + std::system_category().message(errno));
    if (fd >= 0) ::close(fd);
    return error;
  }
  auto* state = static_cast<BoardState*>(memory);
  state->config = config;
  state->magic = kMagic;
  return Board{fd, memory, bytes};
}

Result<Board> Board::attach(int fd) {
  const auto no_board = [] {
    return invalid_argument("only the coordinator of a chaos run starts instances");
  };
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return no_board();
  const auto bytes = static_cast<std::size_t>(status.st_size);
  if (bytes < sizeof(BoardState)) return no_board();
  void* memory = map(fd, bytes);
  if (memory == nullptr) return no_board();
  const auto* state = static_cast<const BoardState*>(memory);
  if (state->magic != kMagic || bytes_of(state->config) != bytes) {
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
      log_(limits_of(state_->config), static_cast<std::byte*>(memory) + kLogAt) {}

Board::Board(Board&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      memory_(std::exchange(other.memory_, nullptr)),
      bytes_(other.bytes_),
      state_(other.state_),
      log_(other.log_) {}

Board::~Board() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace tiercel::chaos
