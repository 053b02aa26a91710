// Runs build/deltacal as a person would.
#pragma once
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace deltacal::test {

struct Outcome {
  int status = -1;     // exit status; 128 + signal where a signal ended it
  std::string output;  // standard output and standard error together
};

// `arguments` as a shell takes them; `before`: words before the program, such as "ulimit -f 1;".
inline Outcome run_program(const std::string& arguments, const std::string& before = "") {
  const std::string command = "(" + before + " " + PROGRAM + " " + arguments + ") 2>&1 </dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) throw std::runtime_error("cannot start a shell");
  Outcome outcome;
  std::array<char, 4096> buffer;
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) outcome.output.append(buffer.data(), n);
  const int status = pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

}  // namespace deltacal::test
