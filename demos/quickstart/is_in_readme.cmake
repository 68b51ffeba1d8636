# Fails unless the file EXAMPLE stands in README, letter by letter.

file(READ ${README} readme)
file(READ ${EXAMPLE} example)
string(FIND "${readme}" "```cpp\n${example}```" at)
if(at EQUAL -1)
  message(FATAL_ERROR "README.md does not show ${EXAMPLE} as it is; copy it between ```cpp and ```")
endif()
