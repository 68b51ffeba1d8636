#include "l2_tasks.h"

#include <fmt/core.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <utility>

namespace tiercel::bench {

Task single(Row row, One run) {
  return {{std::move(row)},
          [run = std::move(run)](Duration duration) -> Result<std::vector<Measurement>> {
            auto measured = run(duration);
            if (!measured) return std::move(measured).error();
            return std::vector<Measurement>{*measured};
          }};
}

std::string check_regex(const std::string& text) {
  try {
    std::regex{text};
    return {};
  } catch (const std::regex_error&) {
    return "'" + text + "' is not a regular expression";
  }
}

std::vector<Task> wanted(std::vector<Task> tasks, const std::regex& filter) {
  std::vector<std::string> names;
  for (const Task& task : tasks) {
    for (const Row& row : task.rows) {
      if (!std::regex_search(row.name, filter)) continue;
      names.push_back(row.name);
      names.push_back(row.yardstick);
    }
  }
  std::erase_if(tasks, [&names](const Task& task) {
    return std::ranges::none_of(task.rows, [&names](const Row& row) {
      return std::ranges::find(names, row.name) != names.end();
    });
  });
  return tasks;
}

Result<void> measure(std::vector<Task>& tasks, std::uint32_t rounds, Duration turn, Rounds& into) {
  std::mt19937_64 random{1};
  for (std::uint32_t round = 1; round <= rounds; ++round) {
    fmt::print(stderr, "round {} of {}\n", round, rounds);
    into.begin_round();
    std::ranges::shuffle(tasks, random);
    for (const Task& task : tasks) {
      const auto measured = task.run(turn);
      if (!measured) {
        const Error& error = measured.error();
        return Error{error.code, task.rows[0].name + ": " + error.message, error.endpoint};
      }
      for (std::size_t i = 0; i < task.rows.size(); ++i) {
        into.add(task.rows[i].name, (*measured)[i]);
      }
    }
  }
  return {};
}

nlohmann::json describe_machine(BenchServer& server) {
  std::string cpu = "unknown";
  std::ifstream lines{"/proc/cpuinfo"};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(": ");
    if (!line.starts_with("model name") || colon == std::string::npos) continue;
    cpu = line.substr(colon + 2);
    break;
  }
  utsname system{};
  (void)::uname(&system);
  return {{"cpu", cpu},
          {"cores", std::thread::hardware_concurrency()},
          {"kernel", std::string{system.sysname} + " " + system.release},
          {"redis", server.version()}};
}

void print_machine(const nlohmann::json& machine) {
  fmt::print("{}, {} cores, {}, Redis {}\n\n", machine["cpu"].get<std::string>(),
             machine["cores"].get<unsigned>(), machine["kernel"].get<std::string>(),
             machine["redis"].get<std::string>());
}

}  // namespace tiercel::bench
