# The check of include directions must fail on each of these, and pass without them (cmake -DWORK=... -P ...).
cmake_minimum_required(VERSION 3.25)

set(check ${CMAKE_CURRENT_LIST_DIR}/include_directions.cmake)

function(run_on_tree_with file content result)
  file(REMOVE_RECURSE ${WORK})
  file(WRITE ${WORK}/include/wakesleep/ops.hpp "#include <vector>\n#include \"wakesleep/portable.hpp\"\n")
  file(WRITE ${WORK}/include/wakesleep/portable.hpp "#if defined(__CUDACC__)\n#endif\n")
  file(WRITE ${WORK}/host/file.hpp "#include <zlib.h>\n#include \"wakesleep/ops.hpp\"\n")
  file(WRITE ${WORK}/kernels/loop.hpp "#include \"wakesleep/ops.hpp\"\n#ifdef __AVX2__\n#endif\n")
  file(WRITE ${WORK}/kernels/cuda/product.cu "#include <cublas_v2.h>\n#include \"kernels/loop.hpp\"\n")
  if(file)
    file(APPEND ${WORK}/${file} "${content}\n")
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} -DROOT=${WORK} -P ${check} RESULT_VARIABLE outcome OUTPUT_QUIET ERROR_QUIET)
  set(${result} ${outcome} PARENT_SCOPE)
endfunction()

run_on_tree_with("" "" outcome)
if(NOT outcome EQUAL 0)
  message(FATAL_ERROR "The check refuses a tree in which everything is in order.")
endif()

foreach(fault
        "kernels/loop.hpp|#include \"file.hpp\""
        "kernels/loop.hpp|#include \"host/file.hpp\""
        "kernels/cuda/product.cu|#include \"../../host/file.hpp\""
        "host/file.hpp|#include \"kernels/loop.hpp\""
        "host/file.hpp|  # include <kernels/loop.hpp>"
        "host/file.hpp|#include \"absent.hpp\""
        "host/file.hpp|#include <cuda_runtime.h>"
        "host/file.hpp|#ifdef WAKESLEEP_WITH_CUDA"
        "include/wakesleep/ops.hpp|#include <zlib.h>"
        "include/wakesleep/ops.hpp|#include <cuda_fp16.h>"
        "include/wakesleep/ops.hpp|#include \"../../host/file.hpp\""
        "include/wakesleep/ops.hpp|#if defined(__CUDACC__)")
  string(REPLACE "|" ";" fault "${fault}")
  list(GET fault 0 file)
  list(GET fault 1 content)
  run_on_tree_with(${file} "${content}" outcome)
  if(outcome EQUAL 0)
    message(FATAL_ERROR "The check passes '${content}' in ${file}.")
  endif()
endforeach()
