// The one place that starts kernels. Part of launch.h; the emulator of the tests has a file of this name
// instead.
#pragma once

namespace deltacal::kernels::cuda {

// kernel<<<grid, block, shared, launch.stream>>>(args...), with the attribute of programmatic dependent
// launch where asked for. Raises the kernel's limit of dynamic shared memory.
template <class... Parameters, class... Arguments>
void launch_kernel(const char* name, void (*kernel)(Parameters...), dim3 grid, int block, size_t shared,
                   const Launch& launch, const Arguments&... arguments) {
  const Device& device = current_device();
  if (shared > device.shared_a_block)
    refuse(std::string(name) + ": needs " + std::to_string(shared) +
           " bytes of shared memory a block, the device has " + std::to_string(device.shared_a_block));
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shared > 48 * 1024) {  // as much of the first-level cache as shared memory as there can be
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)), name);
    check(cudaFuncSetAttribute(function, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared),
          name);
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = dim3(unsigned(block)), config.dynamicSmemBytes = shared;
  config.stream = launch.stream;
  config.attrs = &attribute, config.numAttrs = launch.overlap && device.capability >= 90 ? 1 : 0;
  const auto start = [&](Parameters... values) {
    void* pointers[] = {&values...};
    check(cudaLaunchKernelExC(&config, function, pointers), name);
  };
  start(arguments...);
}

}  // namespace deltacal::kernels::cuda
