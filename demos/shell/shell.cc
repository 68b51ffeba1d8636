#include "shell/shell.h"

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace tiercel::shell {
namespace {

struct Execution {
  Cache& cache;

  Json operator()(const GetCommand& command) const {
    return read_answer("get", command.key, cache.get(command.key));
  }
  Json operator()(const TryCommand& command) const {
    return read_answer("try", command.key, ReadResult{cache.try_get(command.key)});
  }
  Json operator()(const SetCommand& command) const {
    return write_answer(
        "set", command.key,
        cache.set(command.key, command.value, {.ttl = command.ttl, .timeout = std::nullopt}));
  }
  Json operator()(const DelCommand& command) const {
    return write_answer("del", command.key, cache.invalidate(command.key));
  }
  Json operator()(const MgetCommand& command) const {
    const std::vector<std::string_view> keys{command.keys.begin(), command.keys.end()};
    return mget_answer(command.keys, cache.get_many(keys));
  }
  Json operator()(const LeaseCommand&) const { return lease_answer(cache.lease()); }
  Json operator()(const StatsCommand&) const { return stats_answer(cache.stats()); }
  Json operator()(const SleepCommand& command) const {
    std::this_thread::sleep_for(command.pause);
    return sleep_answer(command.pause);
  }
  Json operator()(const QuitCommand&) const { return quit_answer(); }
};

Result<void> write_answer_line(const Json& answer, std::FILE* output) {
  const std::string line = to_line(answer);
  if (std::fwrite(line.data(), 1, line.size(), output) != line.size() || std::fflush(output) != 0) {
    return unavailable("the answer cannot be written: " + std::generic_category().message(errno));
  }
  return {};
}

struct Step {
  std::optional<Json> answer;  // None for a blank line.
  bool quit = false;
};

Step take_step(Cache& cache, const Line& line) {
  if (line.too_long) return {.answer = error_answer(op_of(line.text), line_too_long(line.text))};
  const auto command = parse_command(line.text);
  if (!command) return {.answer = error_answer(op_of(line.text), command.error())};
  if (!*command) return {};
  return {.answer = execute(cache, **command),
          .quit = std::holds_alternative<QuitCommand>(**command)};
}

}  // namespace

Json execute(Cache& cache, const Command& command) { return std::visit(Execution{cache}, command); }

Result<void> run(Cache& cache, LineReader& input, std::FILE* output) {
  for (;;) {
    const auto line = input.next();
    if (!line) return line.error();
    if (!*line) return {};
    const Step step = take_step(cache, **line);
    if (!step.answer) continue;
    if (auto written = write_answer_line(*step.answer, output); !written) return written;
    if (step.quit) return {};
  }
}

}  // namespace tiercel::shell
