// The current CUDA device, for benchmarks and for what fits.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace deltacal::decode {

struct DeviceInfo {
  std::string name;
  // Of its memory. Free is what LibTorch's allocator would give back too: it keeps what it is done with.
  size_t free_bytes = 0, total_bytes = 0;
};
DeviceInfo device_info();

// What LibTorch's allocator is done with, to the device. Before much is made of other sizes than were there:
// it would lie in pieces of what was, and the gaps between are of use to little. Nothing without CUDA.
void give_back_unused_memory();

constexpr size_t bandwidth_bytes = size_t{2} << 30;  // of the device's memory, for measure_bandwidth()

// GB/s of each repeat, after a warm-up, between two events on the device: passes over arrays of 1 GiB, by
// turns. A copy counts the bytes read and the bytes written.
struct DeviceBandwidth {
  std::vector<double> read, copy;
};
DeviceBandwidth measure_bandwidth(int repeats);

// Whether attention of so many rows, the last of so many positions, is left to cuDNN: on compute capability
// 9.0 it is twice as fast as LibTorch's own kernel. It makes a plan for each pair of numbers (40 ms): only
// whole thousands of rows and keys, so that the pairs are few, and enough keys to gain from it.
bool suits_cudnn(int n_rows, int n_keys, int head_dim);

// For all that was enqueued. Nothing to wait for where the build has no CUDA.
void wait_for_device();

}  // namespace deltacal::decode
