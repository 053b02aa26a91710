# LibTorch from the wheels in .deps/py, or from an installed PyTorch (LIBTORCH_ROOT, in CMake or in the environment).
# TorchConfig.cmake is not used: it is fatal without a CUDA toolkit. Only libtorch_cpu and libc10 are linked.
#
#   LibTorch::torch   headers and libraries
set(LIBTORCH_ROOT "" CACHE PATH "folder of the installed Python package torch")
if(NOT LIBTORCH_ROOT AND NOT "$ENV{LIBTORCH_ROOT}" STREQUAL "")
  set(LIBTORCH_ROOT $ENV{LIBTORCH_ROOT})
elseif(NOT LIBTORCH_ROOT)
  set(LIBTORCH_ROOT ${PROJECT_SOURCE_DIR}/.deps/py/torch)
endif()

find_path(LibTorch_INCLUDE_DIR ATen/ATen.h PATHS ${LIBTORCH_ROOT}/include NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH)
if(EXISTS ${LIBTORCH_ROOT}/include/torch/headeronly/version.h)
  set(version_header ${LIBTORCH_ROOT}/include/torch/headeronly/version.h)
else()
  set(version_header ${LIBTORCH_ROOT}/include/torch/csrc/api/include/torch/version.h)
endif()
if(EXISTS ${version_header})
  file(STRINGS ${version_header} line REGEX "define TORCH_VERSION_(MAJOR|MINOR) ")
  string(REGEX MATCHALL "[0-9]+" numbers "${line}")
  list(JOIN numbers "." LibTorch_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run tools/setup, or set LIBTORCH_ROOT to the folder torch/ of an installed PyTorch 2.11")

if(LibTorch_FOUND AND NOT TARGET LibTorch::torch)
  file(GLOB nvidia_libs ${LIBTORCH_ROOT}/../nvidia/*/lib)
  add_library(LibTorch::torch INTERFACE IMPORTED)
  target_link_libraries(LibTorch::torch INTERFACE ${LibTorch_CPU_LIBRARY} ${LibTorch_C10_LIBRARY})
  set_property(TARGET LibTorch::torch PROPERTY INTERFACE_INCLUDE_DIRECTORIES
    ${LibTorch_INCLUDE_DIR} ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include)
  foreach(lib ${nvidia_libs})
    target_link_options(LibTorch::torch INTERFACE -Wl,-rpath-link,${lib})
  endforeach()
endif()
