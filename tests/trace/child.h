// Work in a process of its own, where being killed or running out of disk space hurts nobody else.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace deltacal::trace::testing {

// Runs `work` in a child process that exits with what it returns (99 if it throws); gives the wait status.
inline int in_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 99;
    try {
      status = work();
    } catch (...) {
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace deltacal::trace::testing
