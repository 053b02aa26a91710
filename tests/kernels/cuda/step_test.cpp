// The kernels of a decode step one after the other, as a graph replays them: nothing is read back between
// them.
#include "attention.h"
#include "kernels/append_kv/cuda.h"
#include "kernels/page_score/cuda.h"
#include "kernels/select_pages/cuda.h"
#include "kernels/select_pages/select_pages.h"

namespace deltacal::kernels::cuda {
namespace {

constexpr int k_pages = 6, l_pages = 2, group = 7, head_dim = 128, kv_heads = 2, max_pages = 40;
constexpr int n_heads = group * kv_heads;

// A Δ-layer and a sparse layer after it, on one cache: append, attention with logits, scores, selection,
// attention over the list.
struct Step {
  explicit Step(std::vector<int32_t> first_positions)
      : position(std::move(first_positions)),
        rows(position.size()),
        cache(Type::bf16, kv_heads, head_dim, std::vector<int>(rows, max_pages * page_size - 1), 1),
        d_position(position),
        d_length(rows),
        q(rows * n_heads * head_dim),
        k(rows * kv_heads * head_dim),
        v(rows * kv_heads * head_dim),
        out(q_size()),
        sparse_out(q_size()),
        records(records_bytes(int(rows), n_heads, kv_heads, max_pages)),
        lse2(rows * n_heads),
        score(rows * max_pages),
        list(rows * k_pages),
        workspace(int(rows), n_heads, cache.kv()) {}
  size_t q_size() const { return rows * n_heads * head_dim; }

  // Before a step: what the host would know of it anyway.
  void set(const std::vector<float>& q_of, const std::vector<float>& k_of, const std::vector<float>& v_of) {
    std::vector<int32_t> length;
    for (const int32_t p : position) length.push_back(p + 1);
    d_position.set(position), d_length.set(length);
    q.set(to_bits(Type::bf16, q_of)), k.set(to_bits(Type::bf16, k_of)), v.set(to_bits(Type::bf16, v_of));
  }
  void launch(const Launch& on) {
    append_kv::Params a;
    a.n_rows = int(rows), a.n_heads = n_heads, a.position = d_position.get(), a.kv = cache.kv();
    a.q = q.get(), a.q_out = q.get(), a.k = k.get(), a.v = v.get();
    append_kv::run(a, on);
    paged_attention::Params p;
    p.n_rows = int(rows), p.n_heads = n_heads, p.scale = scale, p.q = q.get(), p.kv = cache.kv();
    p.length = d_length.get(), p.out = out.get(), p.workspace = workspace.get();
    p.logits = {max_pages, records.get(), lse2.get()};
    p.early = early;
    paged_attention::run(p, on);
    page_score::Params s;
    s.n_rows = int(rows), s.n_heads = n_heads, s.n_kv_heads = kv_heads, s.logits = p.logits;
    s.length = d_length.get(), s.out_pages = max_pages, s.score = score.get();
    page_score::run(s, on);
    select_pages::Params c;
    c.n_rows = int(rows), c.k_pages = k_pages, c.l_pages = l_pages, c.score = score.get(),
    c.score_stride = max_pages;
    c.length = d_length.get(), c.list = list.get();
    select_pages::run(c, on);
    p.early = false;  // the selection comes right before
    p.logits = {}, p.list = list.get(), p.list_stride = k_pages, p.k_pages = k_pages,
    p.out = sparse_out.get();
    paged_attention::run(p, on);
  }

  bool early = false;  // the attention after the append asks for pages before the append has ended
  float scale = 0.3f;
  std::vector<int32_t> position;
  size_t rows;
  DeviceCache cache;
  Array<int32_t> d_position, d_length;
  Array<uint16_t> q, k, v, out, sparse_out;
  Array<char> records;
  Array<float> lse2, score;
  Array<int32_t> list;
  paged_attention::Workspace workspace;
};

// The step on the host: keys and values into the cache, then attention over all pages, and over the device's
// lists, which must be what the reference selects by the device's scores.
void require_step(Step& step, const std::vector<float>& q, const std::vector<float>& k,
                  const std::vector<float>& v) {
  std::vector<int32_t> length, pages, list(step.rows * k_pages);
  for (size_t r = 0; r < step.rows; ++r) {
    length.push_back(step.position[r] + 1), pages.push_back(pages_for(length[r]));
    for (int g = 0; g < kv_heads; ++g) {
      for (int d = 0; d < head_dim; ++d) {
        const size_t at = (r * kv_heads + size_t(g)) * head_dim + size_t(d);
        step.cache.host_cache().set_key(int(r), g, step.position[r], d, k[at]);
        step.cache.host_cache().set_value(int(r), g, step.position[r], d, v[at]);
      }
    }
  }
  const std::vector<float> score = step.score.read();
  kernels::select_pages::reference(
      {int(step.rows), k_pages, l_pages, 1e-7, score.data(), max_pages, pages.data(), list.data()});
  REQUIRE(step.list.read() == list);

  paged_attention::Call call(step.cache, group, paged_attention::iota(int(step.rows)), length, 1);
  call.scale = step.scale, call.q = q;
  const auto require_outputs = [&](Array<uint16_t>& out) {
    const std::vector<float> found = from_bits(Type::bf16, out.read()), expected = call.expected().out;
    for (size_t i = 0; i < found.size(); ++i) {
      CAPTURE(i, found[i], expected[i]);
      REQUIRE(std::abs(found[i] - expected[i]) <= paged_attention::output_tolerance(Type::bf16, expected[i]));
    }
  };
  require_outputs(step.out);
  std::vector<std::vector<int32_t>> lists;
  for (size_t r = 0; r < step.rows; ++r) {
    lists.emplace_back();
    if (pages[r] > k_pages)
      lists.back().assign(list.begin() + long(r * k_pages), list.begin() + long((r + 1) * k_pages));
  }
  call.set_lists(lists);
  require_outputs(step.sparse_out);
}

TEST_CASE("cuda step: a graph replayed at growing lengths computes each step") {
  NEEDS_DEVICE;
  for (const auto& [overlap, early] : {std::pair(false, false), {true, false}, {true, true}}) {
    CAPTURE(overlap, early);
    Step step({300, 0, 95, 638 - 20, 14});
    step.early = early;
    cudaStream_t stream;
    check(cudaStreamCreate(&stream), "cudaStreamCreate");
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    step.launch({stream, overlap});
    check(cudaStreamEndCapture(stream, &graph), "capture");
    check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
    for (unsigned t = 0; t < 20; ++t) {
      CAPTURE(t);
      const std::vector<float> q = rounded_normals(Type::bf16, step.q_size(), 100 + t),
                               k = rounded_normals(Type::bf16, step.rows * kv_heads * head_dim, 200 + t),
                               v = rounded_normals(Type::bf16, step.rows * kv_heads * head_dim, 300 + t);
      step.set(q, k, v);
      check(cudaGraphLaunch(exec, stream), "cudaGraphLaunch");
      check(cudaStreamSynchronize(stream), "the graph");
      require_step(step, q, k, v);
      for (int32_t& p : step.position) ++p;
    }
    check(cudaGraphExecDestroy(exec), "graph"), check(cudaGraphDestroy(graph), "graph");
    check(cudaStreamDestroy(stream), "stream");
  }
}

}  // namespace
}  // namespace deltacal::kernels::cuda
