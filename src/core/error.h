// The one error type. It says what was wrong, where, and what to do; only main() turns it into an exit status.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace deltacal {

// Exit status of the executable.
enum class Status {
  done = 0,
  failure = 1,    // the run failed: disk full, out of memory, a device lost
  bad_input = 2,  // wrong usage or input: the user can mend it
  not_met = 3,    // `validate`: the thresholds are not met
};

class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  Status status() const { return status_; }

 private:
  Status status_;
};

// throw bad_input("trace {}: sample {} has {} layers, the model has {}. Profile again with this model.", ...);
template <class... Args>
Error bad_input(fmt::format_string<Args...> format, Args&&... args) {
  return Error(Status::bad_input, fmt::format(format, std::forward<Args>(args)...));
}

// throw failure("cannot write {}: {}. Free some space and run again with --resume.", ...);
template <class... Args>
Error failure(fmt::format_string<Args...> format, Args&&... args) {
  return Error(Status::failure, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace deltacal
