# deltacal_room(NAME DEPENDS targets...): the folder's own *.cpp and those of its subfolders as one static library.
# Includes are written from the project's root for kernels/, calib/, reports/ and from src/ for everything in src/.
function(deltacal_room name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS *.cpp)
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wshadow -Wno-restrict)  # GCC 12 warns of <string> itself
  target_link_libraries(${name} PUBLIC ${ARG_DEPENDS})
endfunction()

# deltacal_room_with_cuda(NAME): of a room's sources, those named *_cuda.cpp are for builds with CUDA kernels,
# *_no_cuda.cpp for the others.
function(deltacal_room_with_cuda name)
  get_target_property(sources ${name} SOURCES)
  if(DELTACAL_HAS_CUDA)
    list(FILTER sources EXCLUDE REGEX "_no_cuda\\.cpp$")
    target_link_libraries(${name} PRIVATE deltacal_kernels_cuda)
  else()
    set(without ${sources})
    list(FILTER without INCLUDE REGEX "_no_cuda\\.cpp$")
    list(FILTER sources EXCLUDE REGEX "_cuda\\.cpp$")
    list(APPEND sources ${without})
  endif()
  set_target_properties(${name} PROPERTIES SOURCES "${sources}")
endfunction()
