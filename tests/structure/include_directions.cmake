# Which room may include which (cmake -DROOT=... -P ...):
#   include/  the standard library and itself
#   kernels/  include/ and itself
#   host/     include/ and itself
# CUDA headers stay in kernels/, and so do preprocessor conditionals: what differs between backends lies behind
# ops.hpp. The one exception is portable.hpp, which is there for that.
cmake_minimum_required(VERSION 3.25)

set(allowed_include "include")
set(allowed_kernels "include;kernels")
set(allowed_host "include;host")
set(may_have_conditionals "include/wakesleep/portable.hpp")
set(cuda_header "^(cuda|cublas|curand|cusparse|cusolver|nvrtc|nvml|nvtx|thrust/|cub/|cooperative_groups|device_|vector_types)")

set(violations "")
function(violation file text)
  set(violations "${violations}\n  ${file}: ${text}" PARENT_SCOPE)
endfunction()

# The room of the file that `name` means when `file` includes it; empty when it is none of this project's.
function(find_room file name result)
  get_filename_component(folder ${ROOT}/${file} DIRECTORY)
  set(${result} "" PARENT_SCOPE)
  foreach(base ${folder} ${ROOT}/include ${ROOT} ${ROOT}/host)
    get_filename_component(path ${base}/${name} ABSOLUTE)
    if(EXISTS ${path})
      file(RELATIVE_PATH relative ${ROOT} ${path})
      string(REGEX MATCH "^[^/]+" room ${relative})
      set(${result} ${room} PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/include/*.[ch]pp ${ROOT}/host/*.[ch]pp ${ROOT}/kernels/*.[ch]pp
     ${ROOT}/kernels/*.cu ${ROOT}/kernels/*.cuh)
if(NOT files)
  message(FATAL_ERROR "There are no sources under ${ROOT}.")
endif()

foreach(file ${files})
  string(REGEX MATCH "^[^/]+" room ${file})
  file(STRINGS ${ROOT}/${file} directives REGEX "^[ \t]*#[ \t]*(include|if|ifdef|ifndef|elif)")
  foreach(directive ${directives})
    if(directive MATCHES "#[ \t]*include[ \t]*([<\"])([^>\"]+)[>\"]")
      set(bracket "${CMAKE_MATCH_1}")
      set(name "${CMAKE_MATCH_2}")
      find_room(${file} ${name} included_room)
      if(included_room AND NOT included_room IN_LIST allowed_${room})
        violation(${file} "${room}/ must not include ${name}, which lies in ${included_room}/")
      elseif(NOT included_room AND bracket STREQUAL "\"")
        violation(${file} "there is no ${name} in the project")
      elseif(NOT room STREQUAL "kernels" AND name MATCHES "${cuda_header}")
        violation(${file} "the CUDA header ${name} belongs in kernels/")
      elseif(room STREQUAL "include" AND NOT included_room AND NOT name MATCHES "^[a-z_0-9]+$")
        violation(${file} "public headers include the standard library and themselves, not ${name}")
      endif()
    elseif(NOT room STREQUAL "kernels" AND NOT file IN_LIST may_have_conditionals)
      violation(${file} "'${directive}' belongs in kernels/")
    endif()
  endforeach()
endforeach()

if(violations)
  message(FATAL_ERROR "Includes that point the wrong way:${violations}")
endif()
list(LENGTH files count)
message(STATUS "${count} files include only what their room may.")
