#include "shell/spdlog_sink.h"

#include <string_view>
#include <utility>

namespace tiercel::shell {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

LogSink spdlog_sink(std::shared_ptr<spdlog::logger> logger) {
  return [logger = std::move(logger)](LogLevel level, std::string_view message) {
    // As an argument, not as the format: a message may contain braces.
    logger->log(spdlog_level(level), "{}", message);
  };
}

}  // namespace tiercel::shell
