// Times of the CUDA kernels on the current device, as a Markdown table: `timing_kernels_cuda`. Random data,
// page 16, bf16. Two figures each: in a graph of calls over pages of which no call finds much in the
// second-level cache, divided by their number (programmatic dependent launch, as in a decode step), and one
// call between two events after the cache was overwritten (with the launch itself). Medians of 60. Shares are
// of the read bandwidth measured first.
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/append_kv/cuda.h"
#include "kernels/page_score/cuda.h"
#include "kernels/paged_attention/cuda.h"
#include "kernels/rms_norm/cuda.h"
#include "kernels/select_pages/cuda.h"
#include "kernels/swiglu/cuda.h"
#include "timing/timer.cuh"

namespace deltacal::kernels::cuda {
namespace {

__global__ void fill_scores(float* to, size_t n) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < n; i += size_t(gridDim.x) * blockDim.x) {
    uint32_t x = uint32_t(i) * 2654435761u;
    x ^= x >> 16, x *= 0x85ebca6bu, x ^= x >> 13;
    to[i] = exp2f(-float(x & 0xffff) / 4096);
  }
}

struct Shape {
  const char* name;
  int n_heads, n_kv_heads, head_dim;
};
constexpr Shape qwen_7b{"7B", 28, 4, 128}, qwen_1_5b{"1.5B", 12, 2, 128};
constexpr int pool_pages = 2048 * 32;  // of the 7B shape; 1.07 GB of keys, as much of values

struct Table {
  Table() : keys(size_t(pool_pages) * 4 * 16 * 128), values(keys.size) {
    fill_random(keys, 1), fill_random(values, 2);
    read_bandwidth = measured_bandwidth();
    std::printf(
        "| what | us in a graph | us alone, cold | GB/s in a graph | of read bandwidth | to reach "
        "|\n|---|---|---|---|---|---|\n");
  }
  double measured_bandwidth() {
    const size_t bytes = keys.size * 2;
    const double best = kernels::cuda::read_bandwidth(timer, keys.data, values.data, bytes);
    const double copy = 2 * double(bytes) / timer.in_graph(4, [&](int, const Launch& on) {
      bandwidth::copy(values.data, keys.data, bytes, on);
    }) / 1e3;
    std::printf("%s, %d multiprocessors. Read bandwidth %.0f GB/s, copy %.0f GB/s (read and written).\n\n",
                device_name().c_str(), current_device().n_sms, best, copy);
    return best;
  }
  double row(const std::string& what, double bytes, const char* target, int calls, const Call& call) {
    const double graph = timer.in_graph(calls, call), alone = timer.alone(calls, call),
                 rate = bytes / graph / 1e3;
    std::printf("| %s | %.1f | %.1f | ", what.c_str(), graph, alone);
    if (bytes > 0) {
      std::printf("%.0f | %.1f%% | %s |\n", rate, 100 * rate / read_bandwidth, target);
    } else {
      std::printf("- | - | %s |\n", target);
    }
    std::fflush(stdout);
    return graph;
  }
  Timer timer;
  Memory<uint16_t> keys, values;
  double read_bandwidth = 0;
};

// Rows of given lengths, each call on other pages of the pool as far as it goes; lists of random pages.
class Batch {
 public:
  Batch(Table& t, const Shape& shape, std::vector<int32_t> lengths, int k_pages)
      : table_(t),
        shape_(shape),
        host_length_(lengths),
        rows_(int(lengths.size())),
        max_pages_(pages_for(*std::max_element(lengths.begin(), lengths.end()))),
        pages_(pool_pages * 4 / shape.n_kv_heads),
        n_calls_(std::clamp(pages_ / (rows_ * max_pages_), 1, 16)),
        k_(k_pages),
        q_(size_t(rows_) * size_t(shape.n_heads) * size_t(shape.head_dim)),
        out_(q_.size),
        length_(lengths),
        position_(positions()),
        table_of_pages_(tables()),
        lists_(lists()),
        records_(records_bytes(rows_, shape.n_heads, shape.n_kv_heads, max_pages_)),
        lse2_(size_t(rows_) * size_t(shape.n_heads)),
        score_(size_t(rows_) * size_t(max_pages_)),
        list_(size_t(rows_) * size_t(k_pages)),
        workspace_(paged_attention::workspace_bytes(rows_, shape.n_heads, kv(0))) {
    fill_random(q_, 3);
    fill_scores<<<256, 256>>>(score_.get(), score_.size);
    check(cudaDeviceSynchronize(), "fill");
  }
  PagedKv kv(int call) const {
    return {Type::bf16,
            shape_.n_kv_heads,
            shape_.head_dim,
            pages_,
            table_.keys.get(),
            table_.values.get(),
            table_of_pages_.get() + size_t(call % n_calls_) * size_t(rows_) * size_t(max_pages_),
            max_pages_};
  }
  double bytes_of(double tokens) const { return tokens * shape_.n_kv_heads * shape_.head_dim * 4; }
  double all_bytes() const {
    return bytes_of(std::accumulate(host_length_.begin(), host_length_.end(), 0.0));
  }
  double list_bytes() const { return bytes_of(double(rows_) * k_ * page_size); }

  paged_attention::Params attention(int call) const {
    paged_attention::Params p;
    p.n_rows = rows_, p.n_heads = shape_.n_heads, p.scale = 0.088f, p.q = q_.get(), p.kv = kv(call);
    p.length = length_.get(), p.out = out_.get(), p.workspace = workspace_.data;
    return p;
  }
  void full(int call, const Launch& on) const { paged_attention::run(attention(call), on); }
  void full_with_logits(int call, const Launch& on) const {
    paged_attention::Params p = attention(call);
    p.logits = logits();
    paged_attention::run(p, on);
  }
  paged_attention::Params list_params(int call) const {
    paged_attention::Params p = attention(call);
    p.list = lists_.get() + size_t(call % 16) * size_t(rows_) * size_t(k_);
    p.list_stride = p.k_pages = k_;
    return p;
  }
  void over_list(int call, const Launch& on) const { paged_attention::run(list_params(call), on); }
  // As in a decode step: the append of the layer, then its attention over lists, which may ask for pages
  // while the append still runs.
  void append(int call, const Launch& on) const {
    append_kv::Params p;
    p.n_rows = rows_, p.n_heads = shape_.n_heads, p.position = position_.get(), p.kv = kv(call);
    p.q = p.q_out = q_.get(), p.k = p.v = q_.get();
    p.k_stride = p.v_stride = shape_.n_heads * shape_.head_dim;
    append_kv::run(p, on);
  }
  template <bool early>
  void append_and_list(int call, const Launch& on) const {
    append(call, on);
    paged_attention::Params p = list_params(call);
    p.early = early;
    paged_attention::run(p, on);
  }
  template <bool early>
  void append_and_full(int call, const Launch& on) const {
    append(call, on);
    paged_attention::Params p = attention(call);
    p.early = early;
    paged_attention::run(p, on);
  }
  template <bool last_use>
  void scores(int, const Launch& on) const {
    page_score::Params p;
    p.n_rows = rows_, p.n_heads = shape_.n_heads, p.n_kv_heads = shape_.n_kv_heads, p.logits = logits();
    p.length = length_.get(), p.out_pages = max_pages_, p.score = score_.get(), p.last_use = last_use;
    page_score::run(p, on);
  }
  void select(int, const Launch& on) const {
    select_pages::Params p;
    p.n_rows = rows_, p.k_pages = k_, p.l_pages = 8, p.score = score_.get(), p.score_stride = max_pages_;
    p.length = length_.get(), p.list = list_.get();
    select_pages::run(p, on);
  }
  void delta(int call, const Launch& on) const {
    full_with_logits(call, on), scores<true>(call, on), select(call, on);
  }
  double logit_bytes() const { return double(records_.size); }
  int n_calls() const { return std::max(n_calls_, 4); }

 private:
  PageLogits logits() const { return {max_pages_, records_.data, lse2_.get()}; }
  std::vector<int32_t> positions() const {
    std::vector<int32_t> last(host_length_);
    for (int32_t& p : last) --p;
    return last;
  }
  std::vector<int32_t> tables() const {
    std::vector<int32_t> order(static_cast<size_t>(pages_));
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(1);
    std::shuffle(order.begin(), order.end(), random);
    order.resize(size_t(n_calls_) * size_t(rows_) * size_t(max_pages_));
    return order;
  }
  std::vector<int32_t> lists() const {
    std::vector<int32_t> all;
    std::mt19937 random(2);
    for (int i = 0; i < 16; ++i) {
      for (const int32_t length : host_length_) {
        std::vector<int32_t> order(static_cast<size_t>(pages_for(length)));
        std::iota(order.begin(), order.end(), 0);
        std::shuffle(order.begin(), order.end(), random);
        order.resize(size_t(k_), 0);
        all.insert(all.end(), order.begin(), order.end());
      }
    }
    return all;
  }

  Table& table_;
  Shape shape_;
  std::vector<int32_t> host_length_;
  int rows_, max_pages_, pages_, n_calls_, k_;
  Memory<uint16_t> q_, out_;
  Memory<int32_t> length_, position_, table_of_pages_, lists_;
  Memory<char> records_;
  Memory<float> lse2_, score_;
  Memory<int32_t> list_;
  Memory<char> workspace_;
};

Call call_of(const Batch& batch, void (Batch::*method)(int, const Launch&) const) {
  return [&batch, method](int i, const Launch& on) { (batch.*method)(i, on); };
}

// What early asking for pages is worth, with the kernel that comes before it in a decode step.
void after_append(Table& t, const Batch& b, const std::string& rows) {
  t.row("append, " + rows, 0, "", 16, call_of(b, &Batch::append));
  t.row("append and sparse call, " + rows, b.list_bytes(), "", 16,
        call_of(b, &Batch::append_and_list<false>));
  t.row("the same, pages asked for early", b.list_bytes(), "", 16, call_of(b, &Batch::append_and_list<true>));
  t.row("append and full attention, " + rows, b.all_bytes(), "", b.n_calls(),
        call_of(b, &Batch::append_and_full<false>));
  t.row("the same, pages asked for early", b.all_bytes(), "", b.n_calls(),
        call_of(b, &Batch::append_and_full<true>));
}

void append_row(Table& t) {
  const int rows = 32, max_pages = 2048;
  std::vector<int32_t> pages(size_t(rows) * max_pages), position(rows, 32767);
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<float> frequencies(64);
  for (int j = 0; j < 64; ++j) frequencies[size_t(j)] = powf(1e6f, -float(j) / 64);
  Memory<int32_t> table(pages), at(position);
  Memory<float> frequency(frequencies);
  Memory<uint16_t> qkv(size_t(rows) * 36 * 128), q(size_t(rows) * 28 * 128);
  fill_random(qkv, 4);
  append_kv::Params p;
  p.n_rows = rows, p.n_heads = 28, p.rotary_dim = 128, p.inverse_frequency = frequency.get(),
  p.position = at.get();
  p.q = qkv.get(), p.k = qkv.get() + 28 * 128, p.v = qkv.get() + 32 * 128, p.q_out = q.get();
  p.q_stride = p.k_stride = p.v_stride = 36 * 128;
  p.kv = {Type::bf16, 4, 128, pool_pages, t.keys.get(), t.values.get(), table.get(), max_pages};
  t.row("append with rotary embedding, 32 rows", 0, "", 16,
        [&](int, const Launch& on) { append_kv::run(p, on); });
}

// The 7B shape's.
void norm_and_gate(Table& t, int rows) {
  const int n = 3584, n_gate = 18944;
  const std::string of_rows = rows == 1 ? ", 1 row" : ", " + std::to_string(rows) + " rows";
  Memory<float> x(size_t(rows) * n), weight(n);
  Memory<uint16_t> y(size_t(rows) * n), out(y.size), gate_up(size_t(rows) * 2 * n_gate),
      gated(gate_up.size / 2);
  fill_random(y, 5), fill_random(gate_up, 6);
  rms_norm::Params norm;
  norm.n_rows = rows, norm.n = n, norm.epsilon = 1e-6f, norm.x = x.get(), norm.y = y.get();
  norm.weight = weight.get(), norm.out = out.get();
  t.row("residual add and RMS norm of 3,584" + of_rows, double(rows) * n * 12, "", 16,
        [&](int, const Launch& on) { rms_norm::run(norm, on); });
  swiglu::Params gate;
  gate.n_rows = rows, gate.n = n_gate, gate.gate_up = gate_up.get(), gate.out = gated.get();
  t.row("SwiGLU of 18,944" + of_rows, double(rows) * n_gate * 6, "", 16,
        [&](int, const Launch& on) { swiglu::run(gate, on); });
}

void run_all() {
  current_device();  // says what is wrong where there is none
  Table t;
  {
    const Batch b(t, qwen_7b, std::vector<int32_t>(32, 32768), 64);
    const double full =
        t.row("paged attention, 32 rows of 32K", b.all_bytes(), "93%", b.n_calls(), call_of(b, &Batch::full));
    t.row("the same, logits kept", b.all_bytes(), "", b.n_calls(), call_of(b, &Batch::full_with_logits));
    t.row("page scores from logits, 32 rows of 32K", b.logit_bytes(), "", b.n_calls(),
          call_of(b, &Batch::scores<false>));
    t.row("selection, 2,048 pages, K = 64, 32 rows", 0, "8", 16, call_of(b, &Batch::select));
    const double delta = t.row("delta layer, 32 rows of 32K", b.all_bytes(), "1.10 times", b.n_calls(),
                               call_of(b, &Batch::delta));
    std::printf("| delta layer over plain attention | %.3f | | | | 1.10 |\n", delta / full);
    t.row("sparse call, 1,024 tokens, 32 rows", b.list_bytes(), "20 (floor 14.6)", 16,
          call_of(b, &Batch::over_list));
    after_append(t, b, "32 rows");
  }
  double uniform = 0;
  {
    const Batch b(t, qwen_7b, std::vector<int32_t>(8, 8192), 64);
    uniform =
        t.row("paged attention, 8 rows of 8K", b.all_bytes(), "40", b.n_calls(), call_of(b, &Batch::full));
    t.row("delta layer, 8 rows of 8K", b.all_bytes(), "", b.n_calls(), call_of(b, &Batch::delta));
    t.row("sparse call, 1,024 tokens, 8 rows", b.list_bytes(), "", 16, call_of(b, &Batch::over_list));
    after_append(t, b, "8 rows");
  }
  {
    std::vector<int32_t> lengths(8, 8192);
    lengths[3] = 500;
    const Batch b(t, qwen_7b, lengths, 31);
    const double mixed = t.row("paged attention, one row of 500 among seven of 8K", b.all_bytes(), "",
                               b.n_calls(), call_of(b, &Batch::full));
    std::printf("| mixed over uniform | %.3f | | | | 1.05 |\n", mixed / uniform);
  }
  {
    const Batch b(t, qwen_7b, {32768}, 64);
    t.row("paged attention, 1 row of 32K", b.all_bytes(), "26", b.n_calls(), call_of(b, &Batch::full));
    t.row("delta layer, 1 row of 32K", b.all_bytes(), "", b.n_calls(), call_of(b, &Batch::delta));
    t.row("sparse call, 1,024 tokens, 1 row", b.list_bytes(), "", 16, call_of(b, &Batch::over_list));
    after_append(t, b, "1 row");
  }
  {
    const Batch b(t, qwen_1_5b, std::vector<int32_t>(64, 18000), 64);
    t.row("1.5B shape: paged attention, 64 rows of 18,000", b.all_bytes(), "", b.n_calls(),
          call_of(b, &Batch::full));
    t.row("1.5B shape: delta layer", b.all_bytes(), "", b.n_calls(), call_of(b, &Batch::delta));
    t.row("1.5B shape: sparse call, 1,024 tokens, 64 rows", b.list_bytes(), "", 16,
          call_of(b, &Batch::over_list));
  }
  append_row(t);
  for (const int rows : {1, 32, 4096}) norm_and_gate(t, rows);
}

}  // namespace
}  // namespace deltacal::kernels::cuda

int main() {
  return deltacal::kernels::cuda::status_of(deltacal::kernels::cuda::run_all);
}
