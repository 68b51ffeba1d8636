#pragma once

// The library's log lines as lines of an spdlog logger: what an application that already uses
// spdlog hands to CacheOptions::log.

#include <spdlog/logger.h>

#include <memory>

#include "tiercel/base/log.h"

namespace tiercel::shell {

// The sink shares the logger, which must be one for many threads (spdlog's "_mt" ones).
[[nodiscard]] LogSink spdlog_sink(std::shared_ptr<spdlog::logger> logger);

}  // namespace tiercel::shell
