#pragma once

// Where the library's few log lines go: to a sink that the embedding process hands in, or nowhere.
// The sink may be called from any thread of ours, must not block for long and must not throw.
// `demos/` shows one that feeds spdlog.

#include <cstdint>
#include <functional>
#include <string_view>

namespace tiercel {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

using LogSink = std::function<void(LogLevel level, std::string_view message)>;

}  // namespace tiercel
