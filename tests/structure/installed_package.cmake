# Installs into an empty prefix, then configures, builds and runs a project that knows nothing but find_package and the
# C++ language (cmake -DBUILD= -DCONFIG= -DGENERATOR= -DCOMPILER= -DSANITIZE= -DCONSUMER= -DWORK= -P ...).
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE outcome OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT outcome EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "'${command}' ended with ${outcome}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
set(sanitizer_flags "")
if(SANITIZE)
  set(sanitizer_flags "-DCMAKE_CXX_FLAGS=-fsanitize=${SANITIZE}")
endif()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix --config ${CONFIG})
run(${CMAKE_COMMAND} -S ${CONSUMER} -B ${WORK}/build -G ${GENERATOR} -DCMAKE_BUILD_TYPE=${CONFIG}
    -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_PREFIX_PATH=${WORK}/prefix ${sanitizer_flags})
run(${CMAKE_COMMAND} --build ${WORK}/build --config ${CONFIG})

run(${WORK}/build/consumer)
string(STRIP "${output}" hash)
if(NOT hash MATCHES "^[0-9a-f]+$")
  message(FATAL_ERROR "The consumer printed '${hash}' where a model's hash was expected.")
endif()
string(LENGTH "${hash}" digits)
if(NOT digits EQUAL 64)
  message(FATAL_ERROR "The consumer printed a hash of ${digits} digits: ${hash}.")
endif()

# The installed command finds the installed library wherever the prefix lies.
run(${WORK}/prefix/bin/wakesleep --version)
