// Times of linear layers of decode steps on the current device, as a Markdown table: `timing_linear_cuda`.
// bf16, random data; calls in a graph over weights of which none is met again before 2 GB of others, divided
// by their number (programmatic dependent launch, as in a decode step). `after a norm`: with an RMS norm of
// the inputs before each call, whose own time is hidden where the weight is asked for early. Shares are of
// the read bandwidth measured first, and of the weight's bytes.
#include <cstdio>

#include "kernels/linear/cuda.h"
#include "kernels/rms_norm/cuda.h"
#include "timer.cuh"

namespace deltacal::kernels::cuda {
namespace {

struct Layer {
  const char* name;
  int n, k;
  bool gated, out_f32;
};
constexpr Layer qwen_7b[] = {{"7B qkv", 4608, 3584, false, false},
                             {"7B attention output", 3584, 3584, false, false},
                             {"7B gate and up", 18944, 3584, true, false},
                             {"7B down", 3584, 18944, false, false},
                             {"7B output layer", 152064, 3584, false, true}};
constexpr Layer qwen_1_5b[] = {{"1.5B qkv", 2048, 1536, false, false},
                               {"1.5B attention output", 1536, 1536, false, false},
                               {"1.5B gate and up", 8960, 1536, true, false},
                               {"1.5B down", 1536, 8960, false, false},
                               {"1.5B output layer", 151936, 1536, false, true}};

struct Program {
  Program()
      : pool(size_t(1) << 30),
        second(size_t(1) << 29),
        x(size_t(64) * 18944),
        residual(size_t(64) * 8192),
        norm_weight(8192),
        out(size_t(64) * 152064),
        workspace(linear::workspace_bytes()) {
    fill_random(pool, 1), fill_random(second, 2), fill_random(x, 3);
    bandwidth = read_bandwidth(timer, pool.data, second.data, second.size * 2);
    std::printf(
        "%s, read bandwidth %.0f GB/s\n\n| layer | rows | us | of read bandwidth | us after a norm |\n"
        "|---|---|---|---|---|\n",
        device_name().c_str(), bandwidth);
  }

  void layer(const Layer& l, int rows) {
    const size_t weights = size_t(l.gated ? 2 : 1) * size_t(l.n) * size_t(l.k);
    const int in_pool = int(pool.size / weights), calls = std::min(in_pool, 28);
    linear::Params p;
    p.n_rows = rows, p.n = l.n, p.k = l.k, p.gated = l.gated, p.out_f32 = l.out_f32;
    p.x = x.get(), p.out = out.get(), p.workspace = workspace.get();
    const Call call = [&](int i, const Launch& on) {
      p.weight = pool.get() + size_t(i % in_pool) * weights;
      linear::run(p, on);
    };
    rms_norm::Params norm;
    norm.n_rows = rows, norm.n = std::min(l.k, 8192), norm.epsilon = 1e-6f, norm.x = residual.get();
    norm.weight = norm_weight.get(), norm.out = x.get();
    const double us = timer.in_graph(calls, call), after = timer.in_graph(calls, [&](int i, const Launch&on) {
      rms_norm::run(norm, on);
      call(i, on);
    });
    std::printf("| %s | %d | %.2f | %.1f%% | %.2f |\n", l.name, rows, us,
                100 * 2e-3 * double(weights) / us / bandwidth, after);
    std::fflush(stdout);
  }

  Timer timer;
  Memory<uint16_t> pool, second, x;
  Memory<float> residual, norm_weight, out;
  Memory<char> workspace;
  double bandwidth = 0;
};

void run_all() {
  current_device();  // says what is wrong where there is none
  Program program;
  for (const auto& layers : {qwen_7b, qwen_1_5b})
    for (const int rows : {1, 8, 16, 32, 64})
      for (int i = 0; i < 5 && rows <= linear::max_rows(); ++i) program.layer(layers[i], rows);
}

}  // namespace
}  // namespace deltacal::kernels::cuda

int main() {
  return deltacal::kernels::cuda::status_of(deltacal::kernels::cuda::run_all);
}
