// What every kernel's host side needs: the device, the stream, and errors that say what to do. C++17, for
// nvcc.
#pragma once
#include <cuda_runtime_api.h>

#include <string>

#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda {

struct Launch {
  cudaStream_t stream = nullptr;
  // Programmatic dependent launch: the kernel's blocks may start while the one before it in the stream ends,
  // and wait on the device before they touch memory, but for what a kernel's header names as read before.
  // Every kernel here waits before it ends, so any of them may follow any other. Ignored below compute
  // capability 9.0.
  bool overlap = false;
};

struct Device {
  int id = 0;
  int n_sms = 0;
  int capability = 0;         // 90 is 9.0
  size_t shared_a_block = 0;  // bytes of shared memory that one block can have
  int l2_bytes = 0;           // of the second-level cache
};

// The current device; asked of the runtime once a device. Throws where there is none (status bad_input), or
// where kernels for its compute capability are not built: they are for 8.x and 9.0.
const Device& current_device();

// Why the kernels cannot run on the current device; empty if they can. They need compute capability 8.0 or
// 9.0, and blocks of up to 163 KB of shared memory (8.6 and 8.9 have 99).
std::string why_no_kernels();

// Number of devices; 0 without a driver.
int device_count();

// The error type of core/error.h, which nvcc need not read: wrong input, or a failure of the runtime.
[[noreturn]] void refuse(const std::string& message);
void check(cudaError_t, const char* what);

// "KERNEL: FIELD is FOUND, expected EXPECTED"
inline void require(bool ok, const char* kernel, const char* field, const std::string& found,
                    const std::string& expected) {
  if (!ok) refuse(std::string(kernel) + ": " + field + " is " + found + ", expected " + expected);
}
inline void require(bool ok, const char* kernel, const char* field, long found, const std::string& expected) {
  require(ok, kernel, field, std::to_string(found), expected);
}
inline void require_pointer(const char* kernel, const char* field, const void* pointer) {
  require(pointer != nullptr, kernel, field, "null", "an array in device memory");
}
inline void require_aligned(const char* kernel, const char* field, const void* pointer, int bytes) {
  require_pointer(kernel, field, pointer);
  require(reinterpret_cast<uintptr_t>(pointer) % uintptr_t(bytes) == 0, kernel, field,
          std::string("not aligned"), "an array aligned to " + std::to_string(bytes) + " bytes");
}
inline void require_type(const char* kernel, const char* field, Type type) {
  require(type == Type::bf16 || type == Type::f16, kernel, field, long(type), "bf16 or f16");
}

// Shapes and arrays of a cache, and heads that divide into its key/value heads.
void check_cache(const char* kernel, const PagedKv&, int n_heads);

}  // namespace deltacal::kernels::cuda

#include "kernels/cuda/launch_kernel.h"
