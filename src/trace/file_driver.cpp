#include "trace/file_driver.h"

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

struct DriverFile {
  H5FD_t head;  // HDF5's own part, must be first
  int descriptor;
  bool writable;
  int* error;
  haddr_t end_of_addresses;
  haddr_t end_of_file;  // as HDF5 believes it to be
};

DriverFile* self(H5FD_t* file) {
  return reinterpret_cast<DriverFile*>(file);
}
const DriverFile* self(const H5FD_t* file) {
  return reinterpret_cast<const DriverFile*>(file);
}

void remember(const DriverFile& file, int error) {
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
  auto* file = new (std::nothrow) DriverFile{};
  if (!file) {
    ::close(descriptor);
    return nullptr;
  }
  file->descriptor = descriptor;
  file->writable = flags & H5F_ACC_RDWR;
  file->error = settings->error;
  file->end_of_file = static_cast<haddr_t>(status.st_size);
  return &file->head;
}

herr_t close_file(H5FD_t* opened) {
  DriverFile* file = self(opened);
  if (file->writable && ::fsync(file->descriptor) != 0) remember(*file, errno);
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

uint64_t little_endian(const unsigned char* bytes, int n) {
  uint64_t value = 0;
  for (int i = n - 1; i >= 0; --i) value = value << 8 | bytes[i];
  return value;
}

// False for a global heap whose objects do not fill it exactly (HDF5 file format 3.0, section III.E); true
// for all else, and for the first part of a heap, which is read again whole.
//   heap    "GCOL", version 1, 3 reserved bytes, size of the heap [8], objects
//   object  index [2], references [2], 4 reserved bytes, size [8], data padded to 8; index 0: free, size with
//   header
bool is_sound_if_heap(const unsigned char* bytes, size_t n) {
  constexpr uint64_t header = 16;
  if (n < header || std::memcmp(bytes, "GCOL\1", 5) != 0) return true;
  const uint64_t end = little_endian(bytes + 8, 8);
  if (end > n) return true;
  uint64_t at = header;
  while (at < end && end - at >= header) {  // less is free space
    const bool is_free = little_endian(bytes + at, 2) == 0;
    const uint64_t size = little_endian(bytes + at + 8, 8);
    if (size > end - at) return false;
    const uint64_t taken = is_free ? size : header + (size + 7) / 8 * 8;
    if (taken < header || taken > end - at) return false;
    at += taken;
  }
  return end >= header;
}

// What was never written reads as zeros, as in a file with holes.
herr_t read_block(H5FD_t* opened, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) {
  auto* bytes = static_cast<char*>(buffer);
  const size_t whole = size;
  while (size > 0) {
    const ssize_t n = ::pread(self(opened)->descriptor, bytes, size, static_cast<off_t>(address));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    if (n == 0) {
      std::memset(bytes, 0, size);
      break;
    }
    bytes += n, address += static_cast<haddr_t>(n), size -= static_cast<size_t>(n);
  }
  return is_sound_if_heap(static_cast<const unsigned char*>(buffer), whole) ? 0 : -1;
}

herr_t write_block(H5FD_t* opened, H5FD_mem_t, hid_t, haddr_t address, size_t size, const void* buffer) {
  DriverFile* file = self(opened);
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
  DriverFile* file = self(opened);
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
  driver.name = "deltacal-file";
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

herr_t use_file_driver(hid_t access, int* error) {
  static const H5FD_class_t driver = driver_class();
  static const hid_t id = H5FDregister(&driver);
  const Settings settings{error};
  return H5Pset_driver(access, id, &settings);
}

}  // namespace deltacal::trace::h5
