#include "trace/hdf5.h"

#include <fmt/ranges.h>

#include <cassert>
#include <cstring>
#include <utility>

#include "trace/file_driver.h"

namespace deltacal::trace::h5 {
namespace {

// The reason nearest to the cause; a system error's own text where there is one.
std::string reason() {
  std::string found;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned n, const H5E_error2_t* error, void* out) -> herr_t {
        if (n == 0 && error->desc) *static_cast<std::string*>(out) = error->desc;
        return 0;
      },
      &found);
  const std::string marker = "error message = '";
  if (const size_t at = found.find(marker); at != std::string::npos) {
    const size_t begin = at + marker.size();
    found = found.substr(begin, found.find('\'', begin) - begin);
  }
  return found.empty() ? "HDF5 gives no reason" : found;
}

void require(herr_t status, const std::string& doing) {
  if (status < 0) throw Fault(doing + ": " + reason());
}

Id property_list(hid_t kind) {
  return Id(H5Pcreate(kind), H5Pclose, "HDF5 property list");
}

// Attributes stay in the object's header, and no time stamps: the same data give the same bytes.
Id object_properties(hid_t kind) {
  Id properties = property_list(kind);
  require(H5Pset_attr_phase_change(properties.get(), 64, 32), "HDF5 property list");
  require(H5Pset_obj_track_times(properties.get(), false), "HDF5 property list");
  return properties;
}

Id half_type() {
  Id type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose, "float16");
  // Sign at bit 15, 5 exponent bits from bit 10, 10 fraction bits from bit 0; then the size, which must still
  // hold the fields. What h5py makes of numpy's float16, too.
  require(H5Tset_fields(type.get(), 15, 10, 5, 0, 10), "float16");
  require(H5Tset_size(type.get(), 2), "float16");
  require(H5Tset_ebias(type.get(), 15), "float16");
  return type;
}

Id make_type(Type type) {
  if (type == Type::f16) return half_type();
  return Id(H5Tcopy(type == Type::i32 ? H5T_STD_I32LE : H5T_IEEE_F32LE), H5Tclose, "HDF5 type");
}

const char* name_of(Type type) {
  return type == Type::i32 ? "int32" : type == Type::f32 ? "float32" : "float16";
}

Id text_type() {
  Id type(H5Tcopy(H5T_C_S1), H5Tclose, "string type");
  require(H5Tset_size(type.get(), H5T_VARIABLE), "string type");
  require(H5Tset_cset(type.get(), H5T_CSET_UTF8), "string type");
  return type;
}

Id create_scalar(hid_t where, const std::string& name, hid_t type) {
  const Id space(H5Screate(H5S_SCALAR), H5Sclose, "attribute " + name);
  return Id(H5Acreate2(where, name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
            "attribute " + name);
}

// The attribute and its type, which must be of `kind` and a single value.
std::pair<Id, Id> open_scalar(hid_t where, const std::string& name, H5T_class_t kind) {
  if (!has_attribute(where, name)) throw Fault("attribute " + name + " is missing");
  Id attribute(H5Aopen(where, name.c_str(), H5P_DEFAULT), H5Aclose, "attribute " + name);
  Id type(H5Aget_type(attribute.get()), H5Tclose, "attribute " + name);
  const Id space(H5Aget_space(attribute.get()), H5Sclose, "attribute " + name);
  if (H5Tget_class(type.get()) != kind || H5Sget_simple_extent_npoints(space.get()) != 1)
    throw Fault(fmt::format("attribute {} is not one {}", name, kind == H5T_STRING ? "string" : "integer"));
  return {std::move(attribute), std::move(type)};
}

template <class Integer>
void write_number(hid_t where, const std::string& name, hid_t stored, hid_t native, Integer value) {
  be_quiet();
  const Id attribute = create_scalar(where, name, stored);
  require(H5Awrite(attribute.get(), native, &value), "attribute " + name);
}

template <class Integer>
Integer read_number(hid_t where, const std::string& name, hid_t native) {
  be_quiet();
  const auto [attribute, type] = open_scalar(where, name, H5T_INTEGER);
  Integer value = 0;
  require(H5Aread(attribute.get(), native, &value), "attribute " + name);
  return value;
}

}  // namespace

void be_quiet() {
  static thread_local const herr_t once = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  static_cast<void>(once);
}

// ---- handles ----

Id::Id(hid_t id, Close close, const std::string& doing) : id_(id), close_(close) {
  if (id_ < 0) throw Fault(doing + ": " + reason());
}

Id::Id(Id&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}

Id& Id::operator=(Id&& other) noexcept {
  if (this != &other) {
    reset();
    id_ = std::exchange(other.id_, H5I_INVALID_HID);
    close_ = other.close_;
  }
  return *this;
}

void Id::reset() noexcept {
  if (id_ < 0) return;
  be_quiet();
  close_(std::exchange(id_, H5I_INVALID_HID));
}

// ---- files and groups ----

namespace {

Id file_access(int* error) {
  Id access = property_list(H5P_FILE_ACCESS);
  require(use_file_driver(access.get(), error), "HDF5 file driver");
  require(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), "HDF5 property list");
  require(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), "HDF5 property list");
  return access;
}

}  // namespace

Input::Input(const std::string& path) : error_(std::make_unique<int>(0)) {
  be_quiet();
  const Id access = file_access(error_.get());
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get());
  if (file < 0 && *error_ != 0) throw Fault(std::string("cannot be opened: ") + std::strerror(*error_));
  file_ = Id(file, H5Fclose, "cannot be opened");
}

Output::Output(const std::string& path) : error_(std::make_unique<int>(0)) {
  be_quiet();
  const Id access = file_access(error_.get());
  const Id creation = object_properties(H5P_FILE_CREATE);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get());
  if (file < 0 && failed()) throw Fault(std::strerror(*error_));
  file_ = Id(file, H5Fclose, "cannot be created");
}

void Output::check() const {
  if (failed()) throw Fault(std::strerror(*error_));
}

void Output::close() {
  const herr_t flushed = H5Fflush(file_.get(), H5F_SCOPE_GLOBAL);
  file_.reset();
  check();
  require(flushed, "flushing");
}

bool exists(hid_t where, const std::string& name) {
  be_quiet();
  return H5Lexists(where, name.c_str(), H5P_DEFAULT) > 0;
}

Id open_group(hid_t where, const std::string& path) {
  be_quiet();
  return Id(H5Gopen2(where, path.c_str(), H5P_DEFAULT), H5Gclose, "group " + path);
}

Id create_group(hid_t where, const std::string& path) {
  be_quiet();
  const Id properties = object_properties(H5P_GROUP_CREATE);
  return Id(H5Gcreate2(where, path.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT), H5Gclose,
            "group " + path);
}

int count_links(hid_t group) {
  be_quiet();
  H5G_info_t info{};
  require(H5Gget_info(group, &info), "group");
  return static_cast<int>(info.nlinks);
}

std::vector<std::string> link_names(hid_t group) {
  std::vector<std::string> names;
  const int n = count_links(group);
  for (int i = 0; i < n; ++i) {
    const auto index = static_cast<hsize_t>(i);
    const ssize_t length =
        H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, index, nullptr, 0, H5P_DEFAULT);
    if (length < 0) throw Fault("the names in a group cannot be read");
    std::string name(static_cast<size_t>(length), '\0');
    H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, index, name.data(), name.size() + 1, H5P_DEFAULT);
    names.push_back(std::move(name));
  }
  return names;
}

void copy(hid_t from, const std::string& path, hid_t to, const std::string& new_path) {
  be_quiet();
  require(H5Ocopy(from, path.c_str(), to, new_path.c_str(), H5P_DEFAULT, H5P_DEFAULT), "copying " + path);
}

// ---- attributes ----

void write_attribute(hid_t where, const std::string& name, const std::string& value) {
  be_quiet();
  if (value.find('\0') != std::string::npos)
    throw Fault("attribute " + name + ": the text has a NUL character");
  const Id type = text_type();
  const Id attribute = create_scalar(where, name, type.get());
  const char* bytes = value.c_str();
  require(H5Awrite(attribute.get(), type.get(), &bytes), "attribute " + name);
}

void write_attribute(hid_t where, const std::string& name, int64_t value) {
  write_number(where, name, H5T_STD_I64LE, H5T_NATIVE_INT64, value);
}

void write_attribute(hid_t where, const std::string& name, uint64_t value) {
  write_number(where, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, value);
}

bool has_attribute(hid_t where, const std::string& name) {
  be_quiet();
  return H5Aexists(where, name.c_str()) > 0;
}

std::string read_text(hid_t where, const std::string& name) {
  be_quiet();
  const auto [attribute, type] = open_scalar(where, name, H5T_STRING);
  if (H5Tis_variable_str(type.get()) <= 0) {
    std::string value(H5Tget_size(type.get()), '\0');
    require(H5Aread(attribute.get(), type.get(), value.data()), "attribute " + name);
    return value.substr(0, value.find('\0'));
  }
  char* bytes = nullptr;
  require(H5Aread(attribute.get(), type.get(), &bytes), "attribute " + name);
  std::string value = bytes ? bytes : "";
  H5free_memory(bytes);
  return value;
}

int64_t read_integer(hid_t where, const std::string& name) {
  return read_number<int64_t>(where, name, H5T_NATIVE_INT64);
}

uint64_t read_unsigned(hid_t where, const std::string& name) {
  return read_number<uint64_t>(where, name, H5T_NATIVE_UINT64);
}

void write_attribute(hid_t where, const std::string& name, const std::vector<int64_t>& values) {
  be_quiet();
  const std::string doing = "attribute " + name;
  const hsize_t n = values.size();
  const Id space(H5Screate_simple(1, &n, &n), H5Sclose, doing);
  const Id attribute(H5Acreate2(where, name.c_str(), H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT),
                     H5Aclose, doing);
  require(H5Awrite(attribute.get(), H5T_NATIVE_INT64, values.data()), doing);
}

std::vector<int64_t> read_integers(hid_t where, const std::string& name) {
  be_quiet();
  const std::string doing = "attribute " + name;
  const Id attribute(H5Aopen(where, name.c_str(), H5P_DEFAULT), H5Aclose, doing);
  const Id type(H5Aget_type(attribute.get()), H5Tclose, doing),
      space(H5Aget_space(attribute.get()), H5Sclose, doing);
  hsize_t n = 0;
  if (H5Tget_class(type.get()) != H5T_INTEGER || H5Sget_simple_extent_ndims(space.get()) != 1 ||
      H5Sget_simple_extent_dims(space.get(), &n, nullptr) != 1 || n > (1u << 20))
    throw Fault(doing + " is not a list of integers");
  std::vector<int64_t> values(n);
  require(H5Aread(attribute.get(), H5T_NATIVE_INT64, values.data()), doing);
  return values;
}

// ---- datasets ----

std::string text(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Dataset Dataset::open(hid_t where, const std::string& name, Type type, size_t cache_bytes) {
  be_quiet();
  if (!exists(where, name)) throw Fault("dataset " + name + " is missing");
  const Id access = property_list(H5P_DATASET_ACCESS);
  constexpr size_t slots = 1009;  // a prime well above the number of chunks kept
  require(H5Pset_chunk_cache(access.get(), slots, cache_bytes, 1.0), "HDF5 property list");
  Dataset dataset;
  dataset.name_ = name;
  dataset.id_ = Id(H5Dopen2(where, name.c_str(), access.get()), H5Dclose, "dataset " + name);
  dataset.type_ = make_type(type);
  const Id stored(H5Dget_type(dataset.id_.get()), H5Tclose, "dataset " + name);
  if (H5Tequal(stored.get(), dataset.type_.get()) <= 0)
    throw Fault(fmt::format("dataset {} is not {}", name, name_of(type)));
  const Id space(H5Dget_space(dataset.id_.get()), H5Sclose, "dataset " + name);
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (rank < 0) throw Fault("dataset " + name + " has no shape");
  dataset.shape_.resize(static_cast<size_t>(rank));
  require(H5Sget_simple_extent_dims(space.get(), dataset.shape_.data(), nullptr), "dataset " + name);
  return dataset;
}

Dataset Dataset::create(hid_t where, const std::string& name, Type type, const Shape& shape,
                        const Shape& chunk) {
  be_quiet();
  const std::string doing = "dataset " + name;
  Dataset dataset;
  dataset.name_ = name;
  dataset.shape_ = shape;
  dataset.type_ = make_type(type);
  const int rank = static_cast<int>(shape.size());
  const Id space(H5Screate_simple(rank, shape.data(), shape.data()), H5Sclose, doing);
  const Id properties = object_properties(H5P_DATASET_CREATE);
  if (!chunk.empty()) {
    require(H5Pset_chunk(properties.get(), rank, chunk.data()), doing);
    require(H5Pset_shuffle(properties.get()), doing);
    require(H5Pset_deflate(properties.get(), 1), doing);
    require(H5Pset_fletcher32(properties.get()), doing);
  }
  dataset.id_ = Id(H5Dcreate2(where, name.c_str(), dataset.type_.get(), space.get(), H5P_DEFAULT,
                              properties.get(), H5P_DEFAULT),
                   H5Dclose, doing);
  return dataset;
}

Shape Dataset::chunk() const {
  const Id properties(H5Dget_create_plist(id_.get()), H5Pclose, "dataset " + name_);
  if (H5Pget_layout(properties.get()) != H5D_CHUNKED) return {};
  Shape chunk(shape_.size());
  if (H5Pget_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()) < 0) return {};
  return chunk;
}

void Dataset::shrink(const Shape& shape) {
  if (shape == shape_) return;
  require(H5Dset_extent(id_.get(), shape.data()), "dataset " + name_);
  shape_ = shape;
}

namespace {

// The selection of a block in the file and the dense block in memory.
std::pair<Id, Id> select_block(hid_t dataset, const Shape& shape, const Shape& offset, const Shape& count,
                               const std::string& name) {
  assert(offset.size() == shape.size() && count.size() == shape.size());
  for (size_t d = 0; d < shape.size(); ++d) assert(offset[d] <= shape[d] && count[d] <= shape[d] - offset[d]);
  Id file(H5Dget_space(dataset), H5Sclose, "dataset " + name);
  require(H5Sselect_hyperslab(file.get(), H5S_SELECT_SET, offset.data(), nullptr, count.data(), nullptr),
          "dataset " + name);
  Id memory(H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr), H5Sclose,
            "dataset " + name);
  return {std::move(file), std::move(memory)};
}

bool is_empty(const Shape& count) {
  for (const hsize_t n : count)
    if (n == 0) return true;
  return false;
}

}  // namespace

void Dataset::write(const Shape& offset, const Shape& count, const void* data) {
  be_quiet();
  if (is_empty(count)) return;
  const auto [file, memory] = select_block(id_.get(), shape_, offset, count, name_);
  require(H5Dwrite(id_.get(), type_.get(), memory.get(), file.get(), H5P_DEFAULT, data), "dataset " + name_);
}

void Dataset::write_filtered(const Shape& offset, std::span<const std::byte> chunk) {
  be_quiet();
  assert(offset.size() == shape_.size());
  constexpr uint32_t all_filters = 0;  // a mask of those left out
  require(H5Dwrite_chunk(id_.get(), H5P_DEFAULT, all_filters, offset.data(), chunk.size(), chunk.data()),
          "dataset " + name_);
}

void Dataset::read(const Shape& offset, const Shape& count, void* data) const {
  be_quiet();
  if (is_empty(count)) return;
  const auto [file, memory] = select_block(id_.get(), shape_, offset, count, name_);
  require(H5Dread(id_.get(), type_.get(), memory.get(), file.get(), H5P_DEFAULT, data), "dataset " + name_);
}

}  // namespace deltacal::trace::h5
