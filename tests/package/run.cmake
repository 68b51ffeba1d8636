# Installs the build into a prefix of its own, then configures, builds and runs the consumer against
# it. Everything must have been built before. Arguments: see CMakeLists.txt.

set(prefix ${WORK_DIR}/prefix)
set(consumer_binary_dir ${WORK_DIR}/consumer)
file(REMOVE_RECURSE ${WORK_DIR})

function(run_or_fail what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${what} failed (${status}):\n${output}")
  endif()
  message(STATUS "${what}: done")
endfunction()

set(flags "${CXX_FLAGS}")
if(SANITIZE)
  # A static library that was built with sanitizers needs their runtime in the program.
  string(APPEND flags " -fsanitize=${SANITIZE}")
endif()

run_or_fail("install" ${CMAKE_COMMAND} --install ${OUTER_BINARY_DIR} --config ${CONFIG} --prefix ${prefix})
run_or_fail("configure" ${CMAKE_COMMAND}
  -S ${CONSUMER_SOURCE_DIR} -B ${consumer_binary_dir} -G ${GENERATOR}
  -DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}
  -DCMAKE_BUILD_TYPE=${CONFIG}
  -DCMAKE_CXX_COMPILER=${CXX_COMPILER}
  -DCMAKE_CXX_COMPILER_LAUNCHER=${CXX_COMPILER_LAUNCHER}
  -DCMAKE_CXX_FLAGS=${flags}
  -DCMAKE_PREFIX_PATH=${prefix}
  -DEXPECTED_PREFIX=${prefix}
  -DEXPECT_PROMETHEUS=${PROMETHEUS})
run_or_fail("build" ${CMAKE_COMMAND} --build ${consumer_binary_dir} --config ${CONFIG} --parallel 2)
run_or_fail("run" ${CMAKE_CTEST_COMMAND} --test-dir ${consumer_binary_dir} -C ${CONFIG}
  --no-tests=error --output-on-failure)
