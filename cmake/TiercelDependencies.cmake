# What the library links, found the same way here and in an installed package (tiercel-config.cmake
# includes this file). hiredis, libuv and xxhash are found by pkg-config, as Debian ships them.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(CapnProto 0.9 REQUIRED CONFIG)

foreach(dependency IN ITEMS "hiredis;hiredis>=0.14" "libuv;libuv>=1.40" "xxhash;libxxhash>=0.8")
  list(GET dependency 0 name)
  list(GET dependency 1 requirement)
  if(NOT TARGET PkgConfig::tiercel_${name})
    pkg_check_modules(tiercel_${name} REQUIRED IMPORTED_TARGET ${requirement})
  endif()
endforeach()
