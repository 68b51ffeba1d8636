# What the library links, found the same way here and in an installed package (tiercel-config.cmake
# includes this file). All by pkg-config: Debian ships libuv, OpenSSL and xxhash that way, and
# Cap'n Proto's own CMake package fails in a project that has not enabled C.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

foreach(dependency IN ITEMS "capnp;capnp>=0.9" "libuv;libuv>=1.40" "openssl;openssl>=3.0" "xxhash;libxxhash>=0.8")
  list(GET dependency 0 name)
  list(GET dependency 1 requirement)
  if(NOT TARGET PkgConfig::tiercel_${name})
    pkg_check_modules(tiercel_${name} REQUIRED IMPORTED_TARGET ${requirement})
  endif()
endforeach()
