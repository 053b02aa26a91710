// The current CUDA device, for benchmarks and for what fits.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace deltacal::decode {

struct DeviceInfo {
  std::string name;
  size_t free_bytes = 0, total_bytes = 0;  // of its memory
};
DeviceInfo device_info();

// GB/s of each repeat, after a warm-up, between two events on the device: passes over arrays of 1 GiB, by
// turns. A copy counts the bytes read and the bytes written.
struct DeviceBandwidth {
  std::vector<double> read, copy;
};
DeviceBandwidth measure_bandwidth(int repeats);

// For all that was enqueued. Nothing to wait for where the build has no CUDA.
void wait_for_device();

}  // namespace deltacal::decode
