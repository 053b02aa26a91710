// Progress on stderr: one line rewritten on a terminal, a line now and then otherwise.
#pragma once
#include <chrono>
#include <string>

namespace deltacal {

class Progress {
 public:
  // `total` in `unit` ("tokens", "samples"). Prints nothing when `quiet`.
  Progress(std::string what, double total, std::string unit, bool quiet = false);
  ~Progress();  // ends the line
  void advance(double amount);

 private:
  void print(bool last);
  std::string what_, unit_;
  double total_, done_ = 0;
  bool quiet_, terminal_, printed_ = false;
  std::chrono::steady_clock::time_point start_, last_print_;
};

}  // namespace deltacal
