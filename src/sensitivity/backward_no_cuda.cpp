// Instead of backward_cuda.cpp where the build has no CUDA: choose_device() lets no model get here.
#include "core/error.h"
#include "sensitivity/backward.h"

namespace deltacal::sensitivity {

std::unique_ptr<Backward> cuda_backward(const model::Model&, Activations::Impl&, decode::KvCache&,
                                        const LossOptions&) {
  throw bad_input("this build of deltacal has no CUDA kernels");
}

}  // namespace deltacal::sensitivity
