// An HDF5 file driver for output files that remembers the first failed write instead of reporting it; see
// h5::Output.
#pragma once
#include <hdf5.h>

namespace deltacal::trace::h5 {

// Makes `access` (a file access property list) use the driver; `error` gets the errno of the first failure (0
// until then) and must outlive the file. Negative on failure, like HDF5's own.
herr_t use_output_driver(hid_t access, int* error);

}  // namespace deltacal::trace::h5
