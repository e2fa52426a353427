# What must hold for the tree itself: public headers that stand alone, rooms that keep to their doors, a package that
# a C++-only project can use, scripts that can be called from anywhere and judge rightly, and one formatting.

# ---------------------------------------------------------------------------------------------- headers alone
# One source per public header, with nothing but the public include folder. Each is included twice, so that a missing
# guard shows too.
file(GLOB public_headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/include
     ${PROJECT_SOURCE_DIR}/include/wakesleep/*.hpp)
set(header_sources "")
foreach(header ${public_headers})
  string(MAKE_C_IDENTIFIER ${header} name)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/headers_alone/${name}.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include \"@header@\"\n#include \"@header@\"\n" @ONLY)
  list(APPEND header_sources ${source})
endforeach()
add_library(headers_alone OBJECT EXCLUDE_FROM_ALL ${header_sources})
target_link_libraries(headers_alone PRIVATE wakesleep_flags)
add_test(NAME structure.public_headers_compile_alone
         COMMAND ${CMAKE_COMMAND} --build ${PROJECT_BINARY_DIR} --config $<CONFIG> --target headers_alone)

# ---------------------------------------------------------------------------------------------- include directions
add_test(NAME structure.include_directions
         COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR}
                 -P ${CMAKE_CURRENT_SOURCE_DIR}/structure/include_directions.cmake)
add_test(NAME structure.include_directions_are_noticed
         COMMAND ${CMAKE_COMMAND} -DWORK=${CMAKE_CURRENT_BINARY_DIR}/include_directions
                 -P ${CMAKE_CURRENT_SOURCE_DIR}/structure/include_directions_are_noticed.cmake)

# ---------------------------------------------------------------------------------------------- installed package
add_test(NAME structure.installed_package
         COMMAND ${CMAKE_COMMAND} -DBUILD=${PROJECT_BINARY_DIR} -DCONFIG=$<CONFIG> -DGENERATOR=${CMAKE_GENERATOR}
                 -DCOMPILER=${CMAKE_CXX_COMPILER} -DSANITIZE=${WAKESLEEP_SANITIZE}
                 -DCONSUMER=${CMAKE_CURRENT_SOURCE_DIR}/consumer -DWORK=${CMAKE_CURRENT_BINARY_DIR}/installed_package
                 -P ${CMAKE_CURRENT_SOURCE_DIR}/structure/installed_package.cmake)

# ---------------------------------------------------------------------------------------------- scripts
add_test(NAME structure.paths_of_scripts_are_the_callers
         COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/structure/script_paths.sh ${PROJECT_SOURCE_DIR}
                 ${CMAKE_CURRENT_BINARY_DIR}/script_paths)

find_package(Python3 COMPONENTS Interpreter QUIET)
if(Python3_FOUND)
  add_test(NAME structure.stages_of_a_gpu_check
           COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/structure/gpu_stages_test.py ${PROJECT_SOURCE_DIR}/scripts)
else()
  add_test(NAME structure.stages_of_a_gpu_check COMMAND ${CMAKE_COMMAND} -E echo "Python 3 is not installed")
  set_tests_properties(structure.stages_of_a_gpu_check PROPERTIES SKIP_REGULAR_EXPRESSION "is not installed")
endif()

# ---------------------------------------------------------------------------------------------- formatting
add_test(NAME structure.formatting COMMAND ${PROJECT_SOURCE_DIR}/scripts/format.sh --check)
set_tests_properties(structure.formatting PROPERTIES SKIP_RETURN_CODE 77)
