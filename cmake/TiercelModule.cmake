# tiercel_module(NAME SOURCES … [LINKS …] [LINKS_PRIVATE …] [EXPORT …])
#
# A module is a static library tiercel_NAME (alias tiercel::NAME) whose public headers stand in
# NAME/include/tiercel/NAME and whose private ones in NAME/src, out of reach of other modules. LINKS are
# seen by those who link the module, LINKS_PRIVATE are not. EXPORT is the set that it is installed with.

add_library(tiercel_flags INTERFACE)
target_compile_features(tiercel_flags INTERFACE cxx_std_20)
target_compile_options(tiercel_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wconversion
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
  # g++ 12 sees overlap in `"literal" + std::string` where there is none (GCC bug 105651).
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
  $<$<BOOL:${TIERCEL_WERROR}>:-Werror>)
if(TIERCEL_UNITY_BUILD)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 6)
  # To g++ the sources are headers of the one that includes them all.
  target_compile_options(tiercel_flags INTERFACE
    $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()
if(TIERCEL_SANITIZE)
  # Under a sanitizer g++ loses track of what a std::variant holds.
  target_compile_options(tiercel_flags INTERFACE
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_compile_options(-fsanitize=${TIERCEL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TIERCEL_SANITIZE})
endif()

function(tiercel_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "EXPORT" "SOURCES;LINKS;LINKS_PRIVATE")
  if(NOT arg_EXPORT)
    set(arg_EXPORT tiercel-targets)
  endif()
  add_library(tiercel_${name} STATIC ${arg_SOURCES})
  add_library(tiercel::${name} ALIAS tiercel_${name})
  target_compile_features(tiercel_${name} PUBLIC cxx_std_20)
  target_include_directories(tiercel_${name}
    PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
           $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/src)
  target_link_libraries(tiercel_${name}
    PUBLIC ${arg_LINKS}
    PRIVATE $<BUILD_INTERFACE:tiercel_flags> ${arg_LINKS_PRIVATE})
  set_target_properties(tiercel_${name} PROPERTIES
    EXPORT_NAME ${name} CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON
    UNITY_BUILD ${TIERCEL_UNITY_BUILD})
  install(TARGETS tiercel_${name} EXPORT ${arg_EXPORT})
  install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} 
    FILES_MATCHING PATTERN "*.h" PATTERN "chaos_hooks.h" EXCLUDE)
endfunction()

# tiercel_test(NAME [BUSY] SOURCES … [LINKS …] [LABELS …] [TIMEOUT seconds]): one GoogleTest program,
# one CTest entry for each of its tests. Tests are compiled without optimisation, which takes half as
# long, but for those that are BUSY with computing themselves.
function(tiercel_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "BUSY" "TIMEOUT" "SOURCES;LINKS;LABELS")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE tiercel_flags ${arg_LINKS} GTest::gmock GTest::gtest_main)
  if(CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT arg_BUSY)
    target_compile_options(${name} PRIVATE -O0)
    # GoogleTest's headers take a third of a test's compilation, so they are read once for all. Not
    # under optimisation, where g++ 12 then warns of what it otherwise knows to be the library's own.
    if(NOT TARGET tiercel_test_headers)
      add_library(tiercel_test_headers OBJECT ${PROJECT_SOURCE_DIR}/tests/support/test_headers.cc)
      target_link_libraries(tiercel_test_headers PRIVATE tiercel_flags GTest::gmock)
      target_compile_options(tiercel_test_headers PRIVATE -O0)
      target_precompile_headers(tiercel_test_headers PRIVATE <gmock/gmock.h> <gtest/gtest.h>)
    endif()
    target_precompile_headers(${name} REUSE_FROM tiercel_test_headers)
  endif()
  gtest_discover_tests(${name}
    DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")
endfunction()
