#include "trace/output_driver.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <new>
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

namespace deltacal::trace::h5 {
namespace {

struct Settings {  // copied by HDF5, byte for byte
  int* error;
};

struct OutputFile {
  H5FD_t head;  // HDF5's own part, must be first
  int descriptor;
  int* error;
  haddr_t end_of_addresses;
  haddr_t end_of_file;  // as HDF5 believes it to be
};

OutputFile* self(H5FD_t* file) {
  return reinterpret_cast<OutputFile*>(file);
}
const OutputFile* self(const H5FD_t* file) {
  return reinterpret_cast<const OutputFile*>(file);
}

void remember(const OutputFile& file, int error) {
  if (*file.error == 0) *file.error = error != 0 ? error : EIO;
}

H5FD_t* open_file(const char* path, unsigned flags, hid_t access, haddr_t) {
  const auto* settings = static_cast<const Settings*>(H5Pget_driver_info(access));
  if (!settings) return nullptr;
  int mode = flags & H5F_ACC_RDWR ? O_RDWR : O_RDONLY;
  if (flags & H5F_ACC_TRUNC) mode |= O_TRUNC;
  if (flags & H5F_ACC_CREAT) mode |= O_CREAT;
  if (flags & H5F_ACC_EXCL) mode |= O_EXCL;
  const int descriptor = ::open(path, mode | O_CLOEXEC, 0666);
  struct stat status {};
  if (descriptor < 0 || ::fstat(descriptor, &status) != 0) {
    *settings->error = errno;
    if (descriptor >= 0) ::close(descriptor);
    return nullptr;
  }
  auto* file = new (std::nothrow) OutputFile{};
  if (!file) {
    ::close(descriptor);
    return nullptr;
  }
  file->descriptor = descriptor;
  file->error = settings->error;
  file->end_of_file = static_cast<haddr_t>(status.st_size);
  return &file->head;
}

herr_t close_file(H5FD_t* opened) {
  OutputFile* file = self(opened);
  if (::fsync(file->descriptor) != 0) remember(*file, errno);
  if (::close(file->descriptor) != 0) remember(*file, errno);
  delete file;
  return 0;
}

herr_t query(const H5FD_t*, unsigned long* features) {
  *features = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
              H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

haddr_t get_end_of_addresses(const H5FD_t* file, H5FD_mem_t) {
  return self(file)->end_of_addresses;
}

herr_t set_end_of_addresses(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  self(file)->end_of_addresses = address;
  return 0;
}

haddr_t get_end_of_file(const H5FD_t* file, H5FD_mem_t) {
  return self(file)->end_of_file;
}

// What was never written reads as zeros, as in a file with holes.
herr_t read_block(H5FD_t* opened, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) {
  auto* bytes = static_cast<char*>(buffer);
  while (size > 0) {
    const ssize_t n = ::pread(self(opened)->descriptor, bytes, size, static_cast<off_t>(address));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    if (n == 0) {
      std::memset(bytes, 0, size);
      return 0;
    }
    bytes += n, address += static_cast<haddr_t>(n), size -= static_cast<size_t>(n);
  }
  return 0;
}

herr_t write_block(H5FD_t* opened, H5FD_mem_t, hid_t, haddr_t address, size_t size, const void* buffer) {
  OutputFile* file = self(opened);
  file->end_of_file = std::max(file->end_of_file, address + size);
  const auto* bytes = static_cast<const char*>(buffer);
  while (size > 0 && *file->error == 0) {
    const ssize_t n = ::pwrite(file->descriptor, bytes, size, static_cast<off_t>(address));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      remember(*file, n < 0 ? errno : ENOSPC);
      break;
    }
    bytes += n, address += static_cast<haddr_t>(n), size -= static_cast<size_t>(n);
  }
  return 0;
}

herr_t truncate_file(H5FD_t* opened, hid_t, hbool_t) {
  OutputFile* file = self(opened);
  if (*file->error == 0 && ::ftruncate(file->descriptor, static_cast<off_t>(file->end_of_addresses)) != 0)
    remember(*file, errno);
  file->end_of_file = file->end_of_addresses;
  return 0;
}

H5FD_class_t driver_class() {
  H5FD_class_t driver{};
#if H5_VERSION_GE(1, 13, 0)
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(497);  // from the range that HDF5 leaves to applications
#endif
  driver.name = "deltacal-output";
  driver.maxaddr = (haddr_t{1} << 62) - 1;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(Settings);
  driver.open = open_file;
  driver.close = close_file;
  driver.query = query;
  driver.get_eoa = get_end_of_addresses;
  driver.set_eoa = set_end_of_addresses;
  driver.get_eof = get_end_of_file;
  driver.read = read_block;
  driver.write = write_block;
  driver.truncate = truncate_file;
  const H5FD_mem_t kinds[H5FD_MEM_NTYPES] = H5FD_FLMAP_DICHOTOMY;
  std::copy(std::begin(kinds), std::end(kinds), std::begin(driver.fl_map));
  return driver;
}

}  // namespace

herr_t use_output_driver(hid_t access, int* error) {
  static const H5FD_class_t driver = driver_class();
  static const hid_t id = H5FDregister(&driver);
  const Settings settings{error};
  return H5Pset_driver(access, id, &settings);
}

}  // namespace deltacal::trace::h5
