// Instead of step_graph_cuda.cpp where the build has no CUDA: choose_device() lets no model get here.
#include "core/error.h"
#include "decode/step_graph.h"

namespace deltacal::decode {

struct StepGraph::Impl {};

namespace {
Error no_kernels() {
  return bad_input("this build of deltacal has no CUDA kernels");
}
}  // namespace

StepGraph::StepGraph(const model::Model&, KvCache&, Policy, int, Part, gpu_trace::Session*, Maps) {
  throw no_kernels();
}
StepGraph::~StepGraph() = default;
int StepGraph::n_rows() const {
  return 0;
}
void StepGraph::run(std::span<const int32_t>, std::span<const int32_t>, bool) {}
Logits StepGraph::logits() const {
  return {};
}
StepMaps StepGraph::take_maps() {
  return {};
}
void StepGraph::launch() {}
void StepGraph::launch_kernels(gpu_trace::Session*) {}
double StepGraph::timed_launch() {
  return 0;
}
void StepGraph::wait() const {}

}  // namespace deltacal::decode
