#pragma once

// What a GuardedProcess and its guardian (guardian_main.cc) say to each other, over a
// SOCK_SEQPACKET pair: one message, one packet. The end of the stream, from the side of the
// process, means "it is gone": the guardian kills what it guards, removes the folder and leaves.

#include <cstdint>

namespace tiercel::testing {

inline constexpr int kGuardianControlFd = 3;

// Command line: guardian PARENT_PID FOLDER OUTPUT PROGRAM [ARGUMENT…]. FOLDER is removed at the
// end and OUTPUT gets the program's standard output and error; "-" for neither.
inline constexpr const char* kGuardianNone = "-";

// A folder whose name does not begin so is not removed, whatever the command line says.
inline constexpr const char* kTemporaryPrefix = "tiercel-";

enum class GuardianWord : std::int32_t {
  // To the guardian.
  kSignal = 1,  // Send signal `value` to the program. Answered by kDone.
  kLeave = 2,   // Kill the program, keep the folder, leave.
  // From the guardian.
  kStarted = 3,  // The program runs; `value` is its pid.
  kFailed = 4,   // It could not be executed; `value` is errno. The guardian leaves.
  kExited = 5,   // It ended and has been reaped; `value` as waitpid(2) gives it.
  kDone = 6,     // The signal is sent, or there was nobody left to send it to.
};

struct GuardianMessage {
  GuardianWord word = GuardianWord::kDone;
  std::int32_t value = 0;
};

}  // namespace tiercel::testing
