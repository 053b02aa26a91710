// Instead of engine_cuda.cpp where the build has no CUDA: choose_device() lets no model get here.
#include "core/error.h"
#include "decode/engine.h"

namespace deltacal::decode {

std::string why_not_on_cuda(const ModelInfo&) {
  return "this build of deltacal has no CUDA kernels";
}

std::unique_ptr<Engine> cuda_engine(const model::Model&, KvCache&, const Policy&) {
  throw bad_input("this build of deltacal has no CUDA kernels");
}

}  // namespace deltacal::decode
