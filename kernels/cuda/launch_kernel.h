// The one place that starts kernels. Part of launch.h; the emulator of the tests has a file of this name
// instead.
#pragma once

namespace deltacal::kernels::cuda {

// Raises the kernel's limit of dynamic shared memory.
inline void allow_shared(const char* name, const void* function, size_t shared) {
  const Device& device = current_device();
  if (shared > device.shared_a_block)
    refuse(std::string(name) + ": needs " + std::to_string(shared) +
           " bytes of shared memory a block, the device has " + std::to_string(device.shared_a_block));
  if (shared > 48 * 1024) {  // as much of the first-level cache as shared memory as there can be
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)), name);
    check(cudaFuncSetAttribute(function, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared),
          name);
  }
}

inline cudaLaunchAttribute cluster_attribute(int cluster) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = unsigned(cluster);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  return attribute;
}

// kernel<<<grid, block, shared, launch.stream>>>(args...) in clusters of so many blocks, with the attribute
// of programmatic dependent launch where asked for.
template <class... Parameters, class... Arguments>
void launch_clusters(const char* name, void (*kernel)(Parameters...), dim3 grid, int cluster, int block,
                     size_t shared, const Launch& launch, const Arguments&... arguments) {
  const void* function = reinterpret_cast<const void*>(kernel);
  allow_shared(name, function, shared);
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = dim3(unsigned(block)), config.dynamicSmemBytes = shared;
  config.stream = launch.stream;
  config.attrs = attributes;
  if (cluster > 1) attributes[config.numAttrs++] = cluster_attribute(cluster);
  if (launch.overlap && current_device().capability >= 90) {
    cudaLaunchAttribute& overlap = attributes[config.numAttrs++];
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
  }
  const auto start = [&](Parameters... values) {
    void* pointers[] = {&values...};
    check(cudaLaunchKernelExC(&config, function, pointers), name);
  };
  start(arguments...);
}
template <class... Parameters, class... Arguments>
void launch_kernel(const char* name, void (*kernel)(Parameters...), dim3 grid, int block, size_t shared,
                   const Launch& launch, const Arguments&... arguments) {
  launch_clusters(name, kernel, grid, 1, block, shared, launch, arguments...);
}

// How many clusters of the kernel the current device runs at a time. Asks the runtime.
template <class... Parameters>
int clusters_at_a_time(const char* name, void (*kernel)(Parameters...), int cluster, int block,
                       size_t shared) {
  const void* function = reinterpret_cast<const void*>(kernel);
  allow_shared(name, function, shared);
  cudaLaunchAttribute attribute = cluster_attribute(cluster);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(cluster)), config.blockDim = dim3(unsigned(block));
  config.dynamicSmemBytes = shared, config.attrs = &attribute, config.numAttrs = 1;
  int n = 0;
  check(cudaOccupancyMaxActiveClusters(&n, function, &config), name);
  return n;
}

}  // namespace deltacal::kernels::cuda
