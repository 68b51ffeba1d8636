#pragma once

// The loop of `tiercel shell`: reads a command, asks the cache, writes the answer, one after the
// other. A wrong command is answered with an error and does not end it.

#include <cstdio>

#include "shell/answers.h"
#include "shell/commands.h"
#include "shell/line_reader.h"
#include "tiercel/base/result.h"
#include "tiercel/cache/cache.h"

namespace tiercel::shell {

// Blocks for as long as the cache, or a sleep, takes. Not on the cache's loop thread.
[[nodiscard]] Json execute(Cache& cache, const Command& command);

// Until `quit` or the end of the input. Each answer is flushed before the next line is read.
// Errors: kUnavailable when the input cannot be read or the output not be written.
Result<void> run(Cache& cache, LineReader& input, std::FILE* output);

}  // namespace tiercel::shell
