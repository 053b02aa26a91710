// HDF5's access to files, through a driver of our own that stands what HDF5 1.10 does not:
//
// - A failed write. HDF5 cannot close a file then and crashes, at the latest when the process ends. The
// driver
//   remembers the first error, discards what comes after, and reports success; the caller asks for the error.
// - A damaged global heap. That is where texts of variable length are kept, the only part of the file format
// of HDF5
//   1.10 without a checksum, and HDF5 follows its lengths blindly. The driver walks a heap when it is read
//   and refuses one whose lengths lead out of it.
#pragma once
#include <hdf5.h>

namespace deltacal::trace::h5 {

// Makes `access` (a file access property list) use the driver; `error` gets the errno of the first failed
// write or open (0 until then) and must outlive the file. Negative on failure, like HDF5's own.
herr_t use_file_driver(hid_t access, int* error);

}  // namespace deltacal::trace::h5
