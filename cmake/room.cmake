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
