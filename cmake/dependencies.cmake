# Everything from outside, as targets. HDF5, PCRE2, utf8proc and libcrypto link statically, so that the executable
# runs on machines that have LibTorch and libhwy (Debian has no static one) and nothing else of this list.
set(DELTACAL_DEPS ${PROJECT_SOURCE_DIR}/.deps)
list(APPEND CMAKE_PREFIX_PATH ${DELTACAL_DEPS}/catch2/usr)

find_package(LibTorch 2.11 REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
# The wheel brings the OpenMP runtime that LibTorch uses: link that one, so that the kernels share its threads.
find_library(LibTorch_GOMP_LIBRARY libgomp.so.1 PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH)
if(LibTorch_GOMP_LIBRARY)
  set_property(TARGET OpenMP::OpenMP_CXX PROPERTY INTERFACE_LINK_LIBRARIES ${LibTorch_GOMP_LIBRARY})
endif()
find_package(fmt REQUIRED)
find_package(Eigen3 REQUIRED NO_MODULE)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(Threads REQUIRED)

# A static library and its header folder as an imported target.
function(deltacal_static name library header)
  find_library(${name}_LIBRARY NAMES lib${library}.a REQUIRED)
  find_path(${name}_INCLUDE ${header} REQUIRED)
  add_library(deltacal_${name} INTERFACE)
  target_link_libraries(deltacal_${name} INTERFACE ${${name}_LIBRARY} ${ARGN})
  target_include_directories(deltacal_${name} SYSTEM INTERFACE ${${name}_INCLUDE})
endfunction()
deltacal_static(pcre2 pcre2-8 pcre2.h)
deltacal_static(utf8proc utf8proc utf8proc.h)
target_compile_definitions(deltacal_utf8proc INTERFACE UTF8PROC_STATIC)
deltacal_static(crypto crypto openssl/sha.h Threads::Threads ${CMAKE_DL_LIBS})
deltacal_static(aec aec libaec.h)
deltacal_static(sz sz szlib.h deltacal_aec)
deltacal_static(z z zlib.h)

# HDF5: the serial C library; its folder of headers differs between distributions.
find_library(HDF5_SERIAL NAMES libhdf5_serial.a libhdf5.a REQUIRED)
find_path(HDF5_INCLUDE hdf5.h PATH_SUFFIXES hdf5/serial REQUIRED)
add_library(deltacal_hdf5 INTERFACE)
target_link_libraries(deltacal_hdf5 INTERFACE ${HDF5_SERIAL} deltacal_sz deltacal_z ${CMAKE_DL_LIBS} m)
target_include_directories(deltacal_hdf5 SYSTEM INTERFACE ${HDF5_INCLUDE})

find_library(HWY_LIBRARY hwy REQUIRED)
find_path(HWY_INCLUDE hwy/highway.h REQUIRED)
add_library(deltacal_hwy INTERFACE)
target_link_libraries(deltacal_hwy INTERFACE ${HWY_LIBRARY})
target_include_directories(deltacal_hwy SYSTEM INTERFACE ${HWY_INCLUDE})
