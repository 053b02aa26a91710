#include "core/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace deltacal {
namespace {
double seconds(std::chrono::steady_clock::duration d) { return std::chrono::duration<double>(d).count(); }
}  // namespace

Progress::Progress(std::string what, double total, std::string unit, bool quiet)
    : what_(std::move(what)), unit_(std::move(unit)), total_(total), quiet_(quiet), terminal_(isatty(2)),
      start_(std::chrono::steady_clock::now()), last_print_(start_) {}

Progress::~Progress() {
  if (!quiet_ && (printed_ || done_ >= total_)) print(true);
}

void Progress::advance(double amount) {
  done_ += amount;
  const auto now = std::chrono::steady_clock::now();
  if (quiet_ || seconds(now - last_print_) < (terminal_ ? 0.2 : 15.0)) return;
  last_print_ = now;
  print(false);
}

void Progress::print(bool last) {
  const double elapsed = seconds(std::chrono::steady_clock::now() - start_);
  const double rate = elapsed > 0 ? done_ / elapsed : 0;
  std::string line = fmt::format("{}: {:.0f} of {:.0f} {}, {:.1f} {}/s", what_, done_, total_, unit_, rate, unit_);
  line += last || rate <= 0 ? fmt::format(", {:.1f} s", elapsed)
                            : fmt::format(", {:.0f} s left", (total_ - done_) / rate);
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s%s", line.c_str(), last ? "\n" : "");
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  printed_ = true;
}

}  // namespace deltacal
