// What this room uses of the HDF5 C library: owners for its handles, typed attributes and datasets, and an
// output file that survives a full disk. Included by the files of this folder only.
#pragma once
#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace deltacal::trace::h5 {

// An HDF5 call failed, or an object is not what it must be. Says what and why, not which file: the caller
// knows the path, and whether it is the user's input or our output.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Owns a handle. Closing never throws.
class Id {
 public:
  using Close = herr_t (*)(hid_t);
  Id() = default;
  // Fault "DOING: reason" if `id` is negative.
  Id(hid_t id, Close close, const std::string& doing);
  Id(Id&& other) noexcept;
  Id& operator=(Id&& other) noexcept;
  ~Id() { reset(); }
  hid_t get() const { return id_; }
  void reset() noexcept;

 private:
  hid_t id_ = H5I_INVALID_HID;
  Close close_ = nullptr;
};

// Keeps HDF5 from printing its errors in this thread; they are in the text of Fault.
void be_quiet();

// An existing file, opened for reading only.
class Input {
 public:
  explicit Input(const std::string& path);  // Fault if it is no HDF5 file or not whole
  hid_t get() const { return file_.get(); }

 private:
  std::unique_ptr<int> error_;  // of the driver; outlives file_
  Id file_;
};

// A new file, in the file format of HDF5 1.10: everything in it but attribute strings carries a checksum. A
// failed write does not show in the calls that caused it (file_driver.h): check() and close() tell.
class Output {
 public:
  explicit Output(const std::string& path);  // Fault if it cannot be created; replaces a file of that name
  hid_t get() const { return file_.get(); }
  bool failed() const { return *error_ != 0; }  // a write failed: disk full, file too large, ...
  void check() const;                           // Fault if failed()
  void close();  // flushes, syncs to the disk, closes; Fault if any of it failed

 private:
  std::unique_ptr<int> error_;  // errno of the first write that failed; outlives file_
  Id file_;
};

bool exists(hid_t where, const std::string& name);  // one link, not a path
Id open_group(hid_t where, const std::string& path);
Id create_group(hid_t where, const std::string& path);
int count_links(hid_t group);
std::vector<std::string> link_names(hid_t group);  // ascending
// The object with all that is below it and its attributes; chunks are copied as they are.
void copy(hid_t from, const std::string& path, hid_t to, const std::string& new_path);

// Attributes: UTF-8 strings of variable length, 64-bit integers. Reading takes any string or integer type.
void write_attribute(hid_t where, const std::string& name, const std::string& value);
void write_attribute(hid_t where, const std::string& name, int64_t value);
void write_attribute(hid_t where, const std::string& name, uint64_t value);
bool has_attribute(hid_t where, const std::string& name);
std::string read_text(hid_t where, const std::string& name);
int64_t read_integer(hid_t where, const std::string& name);
uint64_t read_unsigned(hid_t where, const std::string& name);
// Lists of 64-bit integers, [n].
void write_attribute(hid_t where, const std::string& name, const std::vector<int64_t>& values);
std::vector<int64_t> read_integers(hid_t where, const std::string& name);

enum class Type { i32, f32, f16 };  // f16: IEEE binary16, in memory a uint16_t

using Shape = std::vector<hsize_t>;
std::string text(const Shape&);  // "[30, 256, 128]"

class Dataset {
 public:
  // Fault if it is missing or of another type. `cache_bytes`: how much of it HDF5 may keep decompressed.
  static Dataset open(hid_t where, const std::string& name, Type, size_t cache_bytes = 1 << 20);
  // Chunks shuffled, deflated at level 1 and checksummed; `chunk` may be empty where `shape` is. It can
  // shrink.
  static Dataset create(hid_t where, const std::string& name, Type, const Shape& shape, const Shape& chunk);
  const Shape& shape() const { return shape_; }
  hid_t get() const { return id_.get(); }  // for its attributes
  Shape chunk() const;                     // empty if it is not chunked
  void shrink(const Shape&);
  // The block of `count` at `offset`; data is dense, of the dataset's type.
  void write(const Shape& offset, const Shape& count, const void* data);
  // The whole chunk at `offset` as the file holds it: after the filters of create() (filters.h).
  void write_filtered(const Shape& offset, std::span<const std::byte> chunk);
  void read(const Shape& offset, const Shape& count, void* data) const;

 private:
  Id id_, type_;
  std::string name_;
  Shape shape_;
};

}  // namespace deltacal::trace::h5
