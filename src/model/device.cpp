#include "model/device.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace deltacal::model {
namespace {

// Why no CUDA device can be used; empty where one can.
//
// LibTorch's CUDA part is not linked: the program starts on machines without any of it. It is loaded from
// beside the libtorch_cpu that is in use, and adds itself to the operators.
std::string load_cuda() {
#ifndef DELTACAL_HAS_CUDA
  return "this build of deltacal has no CUDA kernels: build it where nvcc is found";
#else
  Dl_info here{};
  const auto any_function = static_cast<void (at::TensorBase::*)() const>(&at::TensorBase::print);
  const void* address = nullptr;
  static_assert(sizeof any_function >= sizeof address);
  std::memcpy(&address, &any_function, sizeof address);
  if (!::dladdr(address, &here) || !here.dli_fname) return "the folder of libtorch_cpu.so is not known";
  const auto path = std::filesystem::path(here.dli_fname).parent_path() / "libtorch_cuda.so";
  if (!::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
    const char* why = ::dlerror();
    return fmt::format(
        "LibTorch's CUDA libraries cannot be loaded ({}): run with a PyTorch 2.11 that has CUDA, its "
        "torch/lib in LD_LIBRARY_PATH",
        why ? why : path.string());
  }
  if (!at::globalContext().hasCUDA())
    return "no CUDA device was found: none is present, or its driver does not answer";
  return "";
#endif
}

}  // namespace

std::string name_of(Device device) {
  return device == Device::cuda ? "cuda" : "cpu";
}

Device choose_device(const std::string& name) {
  if (name == "cpu") return Device::cpu;
  if (name != "auto" && name != "cuda") throw bad_input("--device {}: unknown; use auto, cpu or cuda", name);
  static const std::string missing = load_cuda();
  if (missing.empty()) return Device::cuda;
  if (name == "cuda") throw bad_input("--device cuda: {}; or use --device cpu", missing);
  return Device::cpu;
}

int with_clear_errors(const std::function<int()>& work) {
  const auto first_sentences = [](const c10::Error& e) {
    const std::string text = e.what_without_backtrace();
    return text.substr(0, std::min(text.find('\n'), text.find(" If reserved but unallocated")));
  };
  constexpr const char* less =
      "use shorter samples (--max-tokens), fewer at a time (--threads 4), or --device cpu";
  try {
    return work();
  } catch (const c10::OutOfMemoryError& e) {
    throw failure("{}: {}", first_sentences(e), less);
  } catch (const c10::Error& e) {
    const std::string what = first_sentences(e);
    if (what.find("not enough memory") != std::string::npos ||
        what.find("can't allocate") != std::string::npos)
      throw failure("out of memory: {}: {}", what, less);
    throw failure("LibTorch: {}", what);
  }
}

}  // namespace deltacal::model
