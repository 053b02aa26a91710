// Recording and the sensitivity pass on a GPU. The first case that fails says most: dimensions, then one
// tile, then many.
#include <cuda_runtime_api.h>

#include <memory>

#include "../replay_cases.h"
#include "kernels/record_scores/cuda.h"
#include "kernels/record_values/cuda.h"

namespace deltacal::kernels {
namespace {

void must(cudaError_t error) {
  if (error != cudaSuccess) FAIL(cudaGetErrorString(error));
}

// Device memory. Outputs go there as they are on the host, so that what a kernel leaves out shows.
class OnDevice : public Backend {
 public:
  OnDevice() {
    if (cuda::device_count() == 0) SKIP("no CUDA device");
    must(cudaStreamCreate(&stream_));
  }
  ~OnDevice() override {
    release();
    cudaStreamDestroy(stream_);
  }
  using Backend::in;
  const void* in(const void* host, size_t bytes) override { return copy(host, bytes); }
  float* out(std::vector<float>& host) override {
    float* device = static_cast<float*>(copy(host.data(), host.size() * sizeof(float)));
    outputs_.push_back({&host, device});
    return device;
  }
  void run(const cuda::record_scores::Params& p) override { started(p); }
  void run(const cuda::record_values::Params& p) override { started(p); }
  void finish() override {
    must(cudaStreamSynchronize(stream_));
    for (const auto& [host, device] : outputs_)
      must(cudaMemcpy(host->data(), device, host->size() * sizeof(float), cudaMemcpyDeviceToHost));
    release();
  }
  bool as_graph = false;  // captured, then replayed twice
  bool overlap = false;

 private:
  template <class Params>
  void started(const Params& p) {
    const cuda::Launch launch{stream_, overlap};
    if (!as_graph) {
      run_kernel(p, launch);
      return;
    }
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    must(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < 2; ++i) run_kernel(p, launch);
    must(cudaStreamEndCapture(stream_, &graph));
    must(cudaGraphInstantiate(&executable, graph, 0));
    for (int i = 0; i < 2; ++i) must(cudaGraphLaunch(executable, stream_));
    must(cudaStreamSynchronize(stream_));
    must(cudaGraphExecDestroy(executable));
    must(cudaGraphDestroy(graph));
  }
  static void run_kernel(const cuda::record_scores::Params& p, const cuda::Launch& l) {
    cuda::record_scores::run(p, l);
  }
  static void run_kernel(const cuda::record_values::Params& p, const cuda::Launch& l) {
    cuda::record_values::run(p, l);
  }
  void* copy(const void* host, size_t bytes) {
    void* device = nullptr;
    must(cudaMalloc(&device, std::max<size_t>(bytes, 16)));
    memory_.push_back(device);
    must(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
    return device;
  }
  void release() {
    for (void* p : memory_) cudaFree(p);
    memory_.clear(), outputs_.clear();
  }
  cudaStream_t stream_ = nullptr;
  std::vector<void*> memory_;
  std::vector<std::pair<std::vector<float>*, float*>> outputs_;
};

constexpr int head_dims[] = {64, 96, 128, 256};
constexpr Type types[] = {Type::bf16, Type::f16};

// `n` positions spread over n_keys, the last one among them.
std::vector<int32_t> spread(int n, int n_keys) {
  std::vector<int32_t> x;
  for (int i = 1; i <= n; ++i) x.push_back(int32_t(int64_t(n_keys) * i / n) - 1);
  return x;
}

TEST_CASE("record scores, CUDA: every dimension, row and key is where it belongs") {
  OnDevice device;
  for (const Type type : types)
    for (const int head_dim : head_dims) scores_meet_their_dimensions(device, type, head_dim);
}

TEST_CASE("record values, CUDA: every dimension, row and key is where it belongs") {
  OnDevice device;
  for (const Type type : types)
    for (const int head_dim : head_dims) values_meet_their_dimensions(device, type, head_dim);
}

const std::vector<int32_t> short_rows{0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 64, 70, 73, 74, 75, 2, 74, 3, 60};

TEST_CASE("record scores, CUDA: equals the reference at every head size, group and type") {
  OnDevice device;
  for (const Type type : types)
    for (const int head_dim : head_dims)
      for (const int group : {1, 2, 7, 8, 9, 17}) {
        Replay r({type, head_dim, 2, group, 76}, short_rows, unsigned(group));
        scores_equal_reference(device, r);
        scores_equal_reference(device, r, {Page::max, true, true});
      }
}

TEST_CASE("record values, CUDA: equals the reference at every head size, group and type") {
  OnDevice device;
  for (const Type type : types)
    for (const int head_dim : head_dims)
      for (const int group : {1, 3, 7, 8}) {
        Replay r({type, head_dim, 2, group, 76}, short_rows, unsigned(group), 2);
        values_equal_reference(device, r, group % 2 == 0);
      }
}

TEST_CASE("record scores, CUDA: long rows equal the reference") {
  OnDevice device;
  Replay r({Type::bf16, 128, 2, 7, 4099}, spread(40, 4099), 11);
  for (const Page page : {Page::sum, Page::max}) scores_equal_reference(device, r, {page});
  Replay one({Type::f16, 64, 1, 1, 20001}, {20000}, 12);
  scores_equal_reference(device, one);
}

TEST_CASE("record values, CUDA: long rows equal the reference") {
  OnDevice device;
  Replay r({Type::bf16, 128, 2, 7, 2051}, spread(20, 2051), 13, 2);
  values_equal_reference(device, r);
}

TEST_CASE("record scores, CUDA: the masses may be left out, and do not change the score") {
  OnDevice device;
  Replay r({Type::bf16, 128, 2, 7, 300}, spread(17, 300), 14);
  r.prepare();
  REQUIRE(run_scores(device, r, {Page::sum, false}).score == run_scores(device, r).score);
}

TEST_CASE("record scores, CUDA: exchanged heads and groups give the same bits") {
  OnDevice device;
  exchanged_heads_score_alike(device, 1601);
}

TEST_CASE("record, CUDA: bad numbers stay in their rows") {
  OnDevice device;
  for (const int head_dim : head_dims) bad_numbers_stay_in_their_rows(device, head_dim);
}

TEST_CASE(
    "record, CUDA: the same bits every time, also captured into a graph and with overlapping launches") {
  OnDevice device;
  Replay r({Type::bf16, 128, 2, 7, 300}, spread(20, 300), 16, 2);
  r.prepare();
  const Scores scores = run_scores(device, r);
  const Values values = run_values(device, r);
  for (const bool overlap : {false, true}) {
    device.as_graph = true, device.overlap = overlap;
    const Scores again = run_scores(device, r);
    REQUIRE(again.score == scores.score);
    REQUIRE(again.group_mass == scores.group_mass);
    const Values values_again = run_values(device, r);
    REQUIRE(values_again.mass == values.mass);
    REQUIRE(values_again.value == values.value);
  }
}

TEST_CASE("record values, CUDA: g.(o~ - o) is as exact as in float, also for tiny gradients in f16") {
  OnDevice device;
  for (const Type type : types) {
    Replay r({type, 128, 2, 7, 1500}, spread(10, 1500), 17);
    for (float& x : r.gradient) x *= 1e-7f;
    const double error = error_of_differences(device, r);
    CAPTURE(int(type), error);
    REQUIRE(error < 1e-4);
  }
}

}  // namespace
}  // namespace deltacal::kernels
