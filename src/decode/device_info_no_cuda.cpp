// Instead of device_info_cuda.cpp where the build has no CUDA.
#include "core/error.h"
#include "decode/device_info.h"

namespace deltacal::decode {

DeviceInfo device_info() {
  throw bad_input("this build of deltacal has no CUDA kernels");
}
DeviceBandwidth measure_bandwidth(int) {
  throw bad_input("this build of deltacal has no CUDA kernels");
}
bool suits_cudnn(int, int, int) {
  return false;
}
void wait_for_device() {}
void give_back_unused_memory() {}

}  // namespace deltacal::decode
