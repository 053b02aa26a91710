// What a recorded step of a batch leaves besides a plain one (step_graph.h): page score and page mass of
// every layer, computed within the step's graph and copied to host memory while the next steps run. Included
// only by src/decode/*.cpp that are built with CUDA.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <memory>

#include "core/model_info.h"
#include "decode/step_maps.h"
#include "kernels/cuda/graph.h"
#include "kernels/page_score/cuda.h"

namespace deltacal::decode {

class StepRecording {
 public:
  // Copies go to `copies`, a stream of their own.
  StepRecording(const ModelInfo&, int n_rows, int max_pages, bool group_mass, const c10::Stream& copies);

  // Within a capture: maps of a layer from the logits that its attention kept. length [n_rows]
  void score(int layer, const kernels::cuda::PageLogits&, const int32_t* length,
             const kernels::cuda::Launch&) const;

  // Around the launch of a recorded step: the stream waits for the copy of the last one's maps; then the copy
  // of this one's is enqueued.
  void before(cudaStream_t) const;
  void after(cudaStream_t);
  // Of the oldest recorded step whose maps have not been taken; waits for its copy. Valid until the second
  // recorded step from then on.
  StepMaps take();
  void wait() const;  // for all copies

 private:
  static constexpr int n_slots = 2;
  struct Slot {
    std::unique_ptr<kernels::cuda::Pinned<float>> numbers;
    kernels::cuda::Event copied = {};
  };
  float* score_at() const { return maps_.mutable_data_ptr<float>(); }
  float* mass_at() const { return score_at() + n_values_; }
  float* group_mass_at() const { return mass_at() + n_values_; }

  int n_layers_, n_rows_, n_heads_, n_kv_heads_, n_pages_;
  bool group_mass_;
  size_t n_values_;  // of score and of mass: n_layers x n_rows x n_pages
  // In the device's memory, in one array for one copy: score, mass [n_layers, n_rows, n_pages], group mass
  // [n_layers, n_rows, n_kv_heads, n_pages].
  at::Tensor maps_;
  c10::Stream copies_stream_;  // keeps the stream alive
  cudaStream_t copies_;
  kernels::cuda::Event done_ = {};
  Slot slots_[n_slots] = {};
  long long n_recorded_ = 0, n_taken_ = 0;
};

}  // namespace deltacal::decode
