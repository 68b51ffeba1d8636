# `cmake --install`, so that another project can say find_package(tiercel) and link tiercel::cache.

include(CMakePackageConfigHelpers)

set(tiercel_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tiercel)
install(EXPORT tiercel-targets NAMESPACE tiercel:: DESTINATION ${tiercel_package_dir})
if(TIERCEL_BUILD_PROMETHEUS)
  install(EXPORT tiercel-prometheus-targets NAMESPACE tiercel:: DESTINATION ${tiercel_package_dir})
endif()
configure_package_config_file(cmake/tiercel-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/tiercel-config.cmake INSTALL_DESTINATION ${tiercel_package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/tiercel-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/tiercel-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/tiercel-config-version.cmake
  cmake/TiercelDependencies.cmake
  cmake/TiercelPrometheus.cmake
  DESTINATION ${tiercel_package_dir})
