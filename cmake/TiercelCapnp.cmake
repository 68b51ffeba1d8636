# tiercel_capnp_sources(OUT_VAR schema…): generates C++ from schema/NAME.capnp into the build tree, at
# schema/ under the current binary directory, and names the .c++ files in OUT_VAR. They compile without
# warnings because they are not ours to mend.
find_program(TIERCEL_CAPNP capnp REQUIRED)
find_program(TIERCEL_CAPNPC_CXX capnpc-c++ REQUIRED)
pkg_get_variable(includedir capnp includedir)
set(TIERCEL_CAPNP_INCLUDEDIR ${includedir} CACHE INTERNAL "For imports such as /capnp/c++.capnp")

function(tiercel_capnp_sources out_var)
  tiercel_capnp_sources_from(sources ${CMAKE_CURRENT_SOURCE_DIR}/schema ${ARGN})
  set(${out_var} ${sources} PARENT_SCOPE)
endfunction()

# Likewise, from DIR/NAME.capnp.
function(tiercel_capnp_sources_from out_var dir)
  set(output_dir ${CMAKE_CURRENT_BINARY_DIR}/schema)
  file(MAKE_DIRECTORY ${output_dir})
  set(sources)
  foreach(schema IN LISTS ARGN)
    set(input ${dir}/${schema}.capnp)
    set(source ${output_dir}/${schema}.capnp.c++)
    add_custom_command(
      OUTPUT ${source} ${output_dir}/${schema}.capnp.h
      COMMAND ${TIERCEL_CAPNP} compile -I${TIERCEL_CAPNP_INCLUDEDIR}
              -o${TIERCEL_CAPNPC_CXX}:${output_dir}
              --src-prefix=${dir} ${input}
      DEPENDS ${input}
      COMMENT "Generating C++ from ${schema}.capnp"
      VERBATIM)
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS -w)
    list(APPEND sources ${source})
  endforeach()
  set(${out_var} ${sources} PARENT_SCOPE)
endfunction()
