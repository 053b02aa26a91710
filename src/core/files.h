// Files that appear whole or not at all.
#pragma once
#include <string>
#include <string_view>

namespace deltacal {

// Whether an existing output may be replaced (`--force`).
enum class Existing { refuse, replace };

// Throws bad_input if `path` exists and may not be replaced, is a folder, or its folder does not exist. Called before any work.
void require_free_output(const std::string& path, Existing existing);

std::string read_file(const std::string& path);

// Written to a temporary name in the same folder, synced and renamed; the temporary file is removed on failure.
void write_file_atomically(const std::string& path, std::string_view content, Existing existing);

// The temporary name for `path` and its rename, for writers that need a path of their own (HDF5).
class AtomicOutput {
 public:
  AtomicOutput(std::string path, Existing existing);
  AtomicOutput(const AtomicOutput&) = delete;
  ~AtomicOutput();  // removes the temporary file unless committed
  const std::string& temporary_path() const { return temporary_; }
  void commit();

 private:
  std::string path_, temporary_;
  Existing existing_;
  bool committed_ = false;
};

}  // namespace deltacal
