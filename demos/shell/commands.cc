#include "shell/commands.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "tiercel/base/bytes.h"

namespace tiercel::shell {
namespace {

using std::chrono::milliseconds;
using Words = std::span<const std::string_view>;

constexpr std::string_view kSeparators = " \t";
constexpr std::size_t kNumberDigitsMax = 20;  // What 64 bits need.

// One word more than any command takes is enough to see that there are too many.
constexpr std::size_t kWordsMax = 1 + kMgetKeysMax + 1;

Result<void> build_get(Words arguments, Command& command);
Result<void> build_try(Words arguments, Command& command);
Result<void> build_set(Words arguments, Command& command);
Result<void> build_del(Words arguments, Command& command);
Result<void> build_mget(Words arguments, Command& command);
Result<void> build_sleep(Words arguments, Command& command);
Result<void> build_lease(Words arguments, Command& command);
Result<void> build_stats(Words arguments, Command& command);
Result<void> build_quit(Words arguments, Command& command);

struct Syntax {
  std::string_view op;
  std::string_view usage;
  std::size_t arguments_min;
  std::size_t arguments_max;
  // Fills the command in; by reference, because g++ 12 takes a returned variant for uninitialized
  // when it instruments for sanitizers.
  Result<void> (*build)(Words arguments, Command& command);
};

constexpr std::array kSyntaxes{
    Syntax{"get", "get K", 1, 1, build_get},
    Syntax{"try", "try K", 1, 1, build_try},
    Syntax{"set", "set K V [TTL_MS]", 2, 3, build_set},
    Syntax{"del", "del K", 1, 1, build_del},
    Syntax{"mget", "mget K K …", 1, kMgetKeysMax, build_mget},
    Syntax{"lease", "lease", 0, 0, build_lease},
    Syntax{"stats", "stats", 0, 0, build_stats},
    Syntax{"sleep", "sleep MS", 1, 1, build_sleep},
    Syntax{"quit", "quit", 0, 0, build_quit},
};

const Syntax* find_syntax(std::string_view op) noexcept {
  const auto found = std::ranges::find(kSyntaxes, op, &Syntax::op);
  return found == kSyntaxes.end() ? nullptr : &*found;
}

std::string all_usages() {
  std::string text;
  for (const Syntax& syntax : kSyntaxes) {
    if (!text.empty()) text += " | ";
    text += syntax.usage;
  }
  return text;
}

Error wrong(std::string_view what, std::string_view usage) {
  return invalid_argument(std::string{what} + "; write: " + std::string{usage});
}

std::string_view without_line_end(std::string_view line) noexcept {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// At most `count_max` words; what comes after them is not looked at.
std::vector<std::string_view> split_words(std::string_view line, std::size_t count_max) {
  std::vector<std::string_view> words;
  while (words.size() < count_max) {
    const auto begin = line.find_first_not_of(kSeparators);
    if (begin == std::string_view::npos) break;
    line.remove_prefix(begin);
    const auto end = std::min(line.find_first_of(kSeparators), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return words;
}

bool may_stand_bare(char c) noexcept { return c > ' ' && c < 0x7f && c != '"' && c != '\''; }

// A quote is refused rather than taken as a byte: who writes "two words" would get something else
// than was meant, without being told.
Result<std::string> bytes_of(std::string_view word) {
  if (!std::ranges::all_of(word, may_stand_bare)) {
    return invalid_argument(
        "a key or value with quotes or bytes outside printable ASCII must be in hex, here " +
        bytes_for_message(word));
  }
  return unescape_bytes(word);
}

Result<milliseconds> milliseconds_of(std::string_view word, std::string_view name, milliseconds low,
                                     milliseconds high) {
  const auto number =
      word.size() <= kNumberDigitsMax ? parse_u64(word) : Result<std::uint64_t>{Error{}};
  if (!number || *number < static_cast<std::uint64_t>(low.count()) ||
      *number > static_cast<std::uint64_t>(high.count())) {
    return invalid_argument(std::string{name} + " is '" + bytes_for_message(word) +
                            "'; it must be a whole number of milliseconds, " +
                            std::to_string(low.count()) + " to " + std::to_string(high.count()));
  }
  return milliseconds{static_cast<milliseconds::rep>(*number)};
}

template <typename KeyCommand>
Result<void> build_for_key(Words arguments, Command& command) {
  auto key = bytes_of(arguments[0]);
  if (!key) return key.error();
  command.emplace<KeyCommand>().key = std::move(*key);
  return {};
}

Result<void> build_get(Words arguments, Command& command) {
  return build_for_key<GetCommand>(arguments, command);
}
Result<void> build_try(Words arguments, Command& command) {
  return build_for_key<TryCommand>(arguments, command);
}
Result<void> build_del(Words arguments, Command& command) {
  return build_for_key<DelCommand>(arguments, command);
}

Result<void> build_set(Words arguments, Command& command) {
  auto key = bytes_of(arguments[0]);
  if (!key) return key.error();
  auto value = bytes_of(arguments[1]);
  if (!value) return value.error();
  SetCommand& set = command.emplace<SetCommand>();
  set.key = std::move(*key);
  set.value = std::move(*value);
  if (arguments.size() > 2) {
    const auto ttl = milliseconds_of(arguments[2], "TTL_MS", milliseconds{1}, kTtlMax);
    if (!ttl) return ttl.error();
    set.ttl = *ttl;
  }
  return {};
}

Result<void> build_mget(Words arguments, Command& command) {
  MgetCommand& mget = command.emplace<MgetCommand>();
  mget.keys.reserve(arguments.size());
  for (const auto word : arguments) {
    auto key = bytes_of(word);
    if (!key) return key.error();
    mget.keys.push_back(std::move(*key));
  }
  return {};
}

Result<void> build_sleep(Words arguments, Command& command) {
  const auto pause = milliseconds_of(arguments[0], "MS", milliseconds{0}, kSleepMax);
  if (!pause) return pause.error();
  command.emplace<SleepCommand>().pause = *pause;
  return {};
}

Result<void> build_lease(Words, Command& command) {
  command.emplace<LeaseCommand>();
  return {};
}
Result<void> build_stats(Words, Command& command) {
  command.emplace<StatsCommand>();
  return {};
}
Result<void> build_quit(Words, Command& command) {
  command.emplace<QuitCommand>();
  return {};
}

}  // namespace

Result<std::optional<Command>> parse_command(std::string_view line) {
  const auto words = split_words(without_line_end(line), kWordsMax);
  if (words.empty()) return std::optional<Command>{};
  const Syntax* syntax = find_syntax(words[0]);
  if (syntax == nullptr) {
    return wrong("there is no command '" + bytes_for_message(words[0]) + "'", all_usages());
  }
  const Words arguments = Words{words}.subspan(1);
  if (arguments.size() < syntax->arguments_min) return wrong("too few words", syntax->usage);
  if (arguments.size() > syntax->arguments_max) return wrong("too many words", syntax->usage);
  std::optional<Command> command{std::in_place};
  if (auto built = syntax->build(arguments, *command); !built) {
    return wrong(built.error().message, syntax->usage);
  }
  return command;
}

std::string_view op_of(std::string_view line) noexcept {
  const auto begin = std::min(line.find_first_not_of(kSeparators), line.size());
  line = without_line_end(line.substr(begin));
  const Syntax* syntax = find_syntax(line.substr(0, line.find_first_of(kSeparators)));
  return syntax == nullptr ? std::string_view{} : syntax->op;
}

Error line_too_long(std::string_view beginning) {
  const Syntax* syntax = find_syntax(op_of(beginning));
  return wrong("the line has more than " + std::to_string(kLineBytesMax) + " bytes",
               syntax == nullptr ? all_usages() : std::string{syntax->usage});
}

}  // namespace tiercel::shell
