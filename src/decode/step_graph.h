// One decoding step of many sequences on a CUDA device as one CUDA graph, page lists included: captured once,
// then launched for every step with the tokens and positions of its rows. Nothing is read back within a step
// and nothing allocated. By kernels/, each of which may begin while the one before it ends; of more than
// kernels::cuda::linear::max_rows() rows, linear layers by cuBLAS in bf16 through LibTorch.
//
// It differs from the Decoder on the same device by the order of sums, where other kernels do a linear layer
// or attention, and by a rounding less: a gate within a linear layer takes sums, not their bf16.
#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "decode/kv_cache.h"
#include "decode/logits.h"
#include "decode/policy.h"
#include "decode/step_maps.h"
#include "gpu_trace/session.h"
#include "model/model.h"

namespace deltacal::decode {

class StepGraph {
 public:
  // What is captured: the step; or parts of it for their times, without logits that mean anything.
  enum class Part {
    step,
    attention,          // of all layers, with scores and selection where a layer ranks
    without_attention,  // all else, the append to the cache included
  };
  // Whether there is a second form of the step, captured beside the plain one, that also records the page
  // maps of every layer (step_maps.h), by PageScore::sum.
  enum class Maps { none, layers, heads };  // heads: with the page mass of each key/value head

  // Row r is sequence r of the cache. Model and cache outlive the graph; several may share them. bad_input
  // for a model that is not on a CUDA device or has no kernel, for a policy that needs the host
  // (check_for_capture()), for more rows than the cache has sequences, for maps of layers that attend to a
  // list; failure where device memory does not suffice. Kernels are attributed to layer and phase in
  // `session`, if one is given.
  StepGraph(const model::Model&, KvCache&, Policy, int n_rows, Part = Part::step,
            gpu_trace::Session* = nullptr, Maps = Maps::none);
  ~StepGraph();
  int n_rows() const;

  // Enqueues the step: row r has token[r] at position[r], its keys before that in the cache; position -1: the
  // row is idle, nothing of it is read or written. Ordered after what was enqueued before (a Decoder's
  // passes), and before what is enqueued later. `recorded`: in the form that leaves maps.
  void run(std::span<const int32_t> token, std::span<const int32_t> position,  // [n_rows] each
           bool recorded = false);
  Logits logits() const;  // [n_rows, n_vocab] of the last step; those of idle rows mean nothing
  // Maps of the oldest recorded step that were not taken, of which there are two at most: they are copied
  // while later steps run, and waited for here. Those of idle rows mean nothing. Valid until the second
  // recorded step from then on.
  StepMaps take_maps();

  // The last step's graph once more. Keys and values are written to the same places: it changes nothing.
  void launch();
  // The same work without the graph, kernel by kernel, for sessions that tell only such launches apart
  // (counters); attributed in `session` alone.
  void launch_kernels(gpu_trace::Session*);
  // Seconds from the graph's begin to its end on the device; waits for it.
  double timed_launch();
  void wait() const;  // for all steps so far

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace deltacal::decode
