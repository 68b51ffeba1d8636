# Looks for prometheus-cpp, here and in an installed package; sets tiercel_prometheus_cpp_FOUND. By
# pkg-config: its own CMake package also asks for libraries that only its server and gateway need.

if(NOT TARGET PkgConfig::tiercel_prometheus_cpp)
  pkg_check_modules(tiercel_prometheus_cpp QUIET IMPORTED_TARGET prometheus-cpp-core>=1.0)
endif()
