# A kernel's cuda.cu as C++: shared memory whose size the launch gives becomes a pointer to the emulator's.
file(READ ${FROM} text)
string(REGEX REPLACE "extern __shared__ (__align__\\([0-9]+\\) )?([a-z0-9_]+) ([a-z_]+)\\[\\];"
       "\\2* \\3 = reinterpret_cast<\\2*>(emulator::dynamic_shared());" text "${text}")
if(text MATCHES "extern __shared__")
  message(FATAL_ERROR "${FROM}: a declaration of shared memory that the emulator does not know")
endif()
file(WRITE ${TO} "${text}")
