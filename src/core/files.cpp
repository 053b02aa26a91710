#include "core/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/error.h"

namespace deltacal {
namespace fs = std::filesystem;

void require_free_output(const std::string& path, Existing existing) {
  if (path.empty()) throw bad_input("the name of the output file is empty");
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) throw bad_input("{} is a folder: give the name of a file", path);
  const fs::path parent = fs::absolute(path).parent_path();
  if (!fs::is_directory(parent, ignored))
    throw bad_input("the folder {} does not exist: create it first", parent.string());
  const bool exists = fs::exists(path, ignored);
  if (exists && !fs::is_regular_file(path, ignored))
    throw bad_input("{} is no regular file (a pipe or a device): give the name of a file", path);
  if (existing == Existing::refuse && exists)
    throw bad_input("{} exists: give another name, or --force to replace it", path);
}

std::string read_file(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) throw bad_input("{} is a folder, not a file", path);
  std::ifstream in(path, std::ios::binary);
  if (!in) throw bad_input("cannot read {}: {}", path, std::strerror(errno));
  std::ostringstream content;
  content << in.rdbuf();
  if (in.bad()) throw failure("reading {} failed part of the way", path);
  return std::move(content).str();
}

namespace {
// No two outputs of this process, nor of two processes, share a temporary file.
std::string temporary_name(const std::string& path) {
  static std::atomic<int> count = 0;
  return fmt::format("{}.{}-{}.tmp", path, ::getpid(), count++);
}
}  // namespace

AtomicOutput::AtomicOutput(std::string path, Existing existing)
    : path_(std::move(path)), temporary_(temporary_name(path_)), existing_(existing) {
  require_free_output(path_, existing_);
}

AtomicOutput::~AtomicOutput() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicOutput::commit() {
  const int fd = ::open(temporary_.c_str(), O_RDONLY);
  if (fd < 0 || ::fsync(fd) != 0) {
    const std::string why = std::strerror(errno);
    if (fd >= 0) ::close(fd);
    throw failure("cannot write {}: {}", path_, why);
  }
  ::close(fd);
  // Somebody else may have made the file meanwhile; file systems without RENAME_NOREPLACE get a check just before.
  int renamed = -1;
  if (existing_ == Existing::refuse) {
    renamed = ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE);
    if (renamed != 0 && (errno == EEXIST || errno == EINVAL)) require_free_output(path_, existing_);
  }
  if (renamed != 0 && ::rename(temporary_.c_str(), path_.c_str()) != 0)
    throw failure("cannot rename {} to {}: {}", temporary_, path_, std::strerror(errno));
  committed_ = true;
}

void write_file_atomically(const std::string& path, std::string_view content, Existing existing) {
  AtomicOutput output(path, existing);
  std::ofstream out(output.temporary_path(), std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  if (!out) throw failure("cannot write {}: {}. Nothing was left under that name.", path, std::strerror(errno));
  output.commit();
}

}  // namespace deltacal
