#pragma once

// The answers of `tiercel shell`: one JSON object each. Bytes are written as in commands.h,
// versions as decimal strings (JSON numbers end at 53 bits), "0" where the version is unknown.
// Pure functions; any thread.

#include <chrono>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "tiercel/cache/cache.h"

namespace tiercel::shell {

using Json = nlohmann::ordered_json;  // Members stay in the order in which they were added.

// `op` may be empty: a line whose command is not known.
[[nodiscard]] Json error_answer(std::string_view op, const Error& error);

// For get and try.
[[nodiscard]] Json read_answer(std::string_view op, std::string_view key, const ReadResult& result);
// One result for each key.
[[nodiscard]] Json mget_answer(std::span<const std::string> keys,
                               std::span<const ReadResult> results);
// For set and del.
[[nodiscard]] Json write_answer(std::string_view op, std::string_view key,
                                const WriteResult& result);
[[nodiscard]] Json lease_answer(const LeaseInfo& lease);
[[nodiscard]] Json stats_answer(const CacheStats& stats);
[[nodiscard]] Json sleep_answer(std::chrono::milliseconds pause);
[[nodiscard]] Json quit_answer();

// One line with its newline, valid UTF-8 whatever bytes a message brought along.
[[nodiscard]] std::string to_line(const Json& answer);

}  // namespace tiercel::shell
