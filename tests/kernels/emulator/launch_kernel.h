// The end of kernels/cuda/launch.h for the emulator (CMakeLists.txt puts the two together).
//
// Runs the kernel thread by thread.
template <class... Parameters, class... Arguments>
void launch_kernel(const char* name, void (*kernel)(Parameters...), dim3 grid, int block, size_t shared,
                   const Launch&, const Arguments&... arguments) {
  if (shared > current_device().shared_a_block) refuse(std::string(name) + ": too much shared memory");
  const auto start = [&](Parameters... values) {
    emulator::submit([=] { emulator::run_grid(grid, block, [=] { kernel(values...); }); });
  };
  start(arguments...);
}

}  // namespace deltacal::kernels::cuda
