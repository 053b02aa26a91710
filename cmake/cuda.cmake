# The CUDA compiler: used where it is found, never required. DELTACAL_CUDA = AUTO, ON (its absence is an error) or OFF.
# Afterwards DELTACAL_HAS_CUDA says whether kernels/*/cuda.cu are built; one line of the configuration says it too.
#
#   deltacal_cudart   the CUDA runtime, the library that LibTorch's wheel is linked with: programs start on machines
#                     that have no CUDA driver, and ask it for devices when they want one
set(DELTACAL_CUDA AUTO CACHE STRING "CUDA kernels: AUTO, ON or OFF")
set_property(CACHE DELTACAL_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT DELTACAL_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "DELTACAL_CUDA=${DELTACAL_CUDA}: AUTO, ON or OFF")
endif()

# What wheels bring of CUDA: beside LibTorch, and with the compiler that tools/setup fetches.
set(DELTACAL_CUDA_WHEELS ${LIBTORCH_ROOT}/../nvidia/cu13 ${DELTACAL_DEPS}/nvcc/nvidia/cu13)

# Sets the result to OFF where the program is not an nvcc of release 13, the one of LibTorch's CUDA.
function(deltacal_is_nvcc_13 result program)
  execute_process(COMMAND ${program} --version OUTPUT_VARIABLE version ERROR_QUIET)
  if(NOT version MATCHES "Cuda compiler driver.*release 13\\.")
    set(${result} OFF PARENT_SCOPE)
  endif()
endfunction()

# Sets CMAKE_CUDA_COMPILER: what CMake or the environment (CUDACXX) says, else the machine's nvcc, else tools/setup's.
# `missing`: why there is none, or empty.
include(CheckLanguage)
function(deltacal_find_nvcc missing)
  if(CMAKE_CUDA_COMPILER)
    set(said_by CMAKE_CUDA_COMPILER)
    set(nvcc ${CMAKE_CUDA_COMPILER})
  elseif(NOT "$ENV{CUDACXX}" STREQUAL "")
    set(said_by CUDACXX)
    set(nvcc $ENV{CUDACXX})
  else()
    find_program(nvcc nvcc PATHS /usr/local/cuda/bin ${DELTACAL_DEPS}/nvcc/nvidia/cu13/bin
      VALIDATOR deltacal_is_nvcc_13 NO_CACHE)
    if(NOT nvcc)
      set(${missing} "no nvcc of release 13 was found: run tools/setup, or set CUDACXX" PARENT_SCOPE)
      return()
    endif()
    set(ENV{CUDACXX} ${nvcc})
  endif()

  set(is_13 ON)
  deltacal_is_nvcc_13(is_13 ${nvcc})
  if(NOT is_13)
    set(${missing} "${said_by}: ${nvcc} is not an nvcc of release 13; unset it and run tools/setup" PARENT_SCOPE)
    return()
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    unset(CMAKE_CUDA_COMPILER CACHE)  # an earlier NOTFOUND would be believed
    check_language(CUDA)              # whether it compiles, in a project of its own
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    set(${missing} "${nvcc} does not work: is the toolkit whole?" PARENT_SCOPE)
  endif()
endfunction()

function(deltacal_find_cuda)
  set(DELTACAL_HAS_CUDA OFF PARENT_SCOPE)
  if(DELTACAL_CUDA STREQUAL "OFF")
    message(STATUS "CUDA kernels: not built (DELTACAL_CUDA=OFF)")
    return()
  endif()
  set(missing "")
  deltacal_find_nvcc(missing)
  find_library(DELTACAL_CUDART NAMES libcudart.so.13 PATHS ${DELTACAL_CUDA_WHEELS} PATH_SUFFIXES lib NO_DEFAULT_PATH)
  find_library(DELTACAL_CUDART NAMES libcudart.so.13 libcudart.so PATHS /usr/local/cuda/lib64)
  if(NOT missing AND NOT DELTACAL_CUDART)
    set(missing "libcudart.so.13 was not found: run tools/setup")
  endif()
  if(missing)
    if(DELTACAL_CUDA STREQUAL "ON")
      message(FATAL_ERROR "DELTACAL_CUDA=ON: ${missing}")
    endif()
    message(STATUS "CUDA kernels: not built (${missing})")
    return()
  endif()
  set(DELTACAL_HAS_CUDA ON PARENT_SCOPE)
endfunction()
deltacal_find_cuda()

if(DELTACAL_HAS_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES OFF)         # the targets are said below, 90a included
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)
  if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)               # CMake 3.25 knows no 20 for nvcc 13
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  # Ampere and Hopper. The 90a target has no PTX: it would run on no other device.
  set(DELTACAL_CUDA_OPTIONS -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a
      -Xcompiler=-Wall,-Wextra --expt-relaxed-constexpr)
  add_library(deltacal_cudart INTERFACE)
  target_link_libraries(deltacal_cudart INTERFACE ${DELTACAL_CUDART})
  target_include_directories(deltacal_cudart SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  message(STATUS "CUDA kernels: built for sm_80 and sm_90a with ${CMAKE_CUDA_COMPILER} (${CMAKE_CUDA_COMPILER_VERSION})")
endif()
