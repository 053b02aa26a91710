// A folder for a test's files, and the message of an error a test expects.
#pragma once
#include <filesystem>
#include <stdexcept>
#include <string>

#include "core/error.h"

namespace deltacal::test {

// A fresh folder that goes with its object.
class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "deltacal-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("cannot make a folder for the test");
    path_ = name;
  }
  Scratch(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// "2: MESSAGE" for the Error that `action` throws, status first; "no error" if it throws none.
template <class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const Error& e) {
    return std::to_string(static_cast<int>(e.status())) + ": " + e.what();
  }
  return "no error";
}

}  // namespace deltacal::test
