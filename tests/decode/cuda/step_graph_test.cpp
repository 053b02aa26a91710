// A step as a CUDA graph against the Decoder's on the same device: both in bf16, so they differ by what
// rounds where.
#include "decode/step_graph.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <random>

#include "decode/decoder.h"
#include "support/device.h"
#include "tiny.h"

namespace deltacal::decode {
namespace {

using config::Role;
using Part = StepGraph::Part;

// As in decoder_test.cpp: what roundings grow to through the layers. Another page, angle or mask moves
// log-probabilities by 0.5 and more; a page that nearly ties with another falls either way.
constexpr double tolerance = 0.06, list_tolerance = 4 * tolerance;

config::Schedule schedule() {
  config::Schedule s;
  s.layers.assign(n_layers, {Role::sparse, 5, 0});
  s.layers[0] = {Role::full, 0, 0};
  s.layers[1] = {Role::delta, 6, 2};
  s.layers[2].k_pages = 3;
  s.layers[3] = {Role::delta, 5, 1};
  return s;
}

// Rows of one step; the Decoder runs those that are not idle.
struct Step {
  std::vector<int32_t> token, position;
};

// The same sequences in two caches, one run by the Decoder and one by graphs.
class Side {
 public:
  Side(const model::Model& model, const Policy& policy, int n_rows)
      : model_(model),
        n_rows_(n_rows),
        cache_(model, n_rows, max_positions),
        decoder_(model, cache_, policy) {}
  KvCache& cache() { return cache_; }

  void prefill(int sequence, std::span<const int32_t> ids) {
    std::vector<int32_t> position, of(ids.size(), sequence);
    for (int t = 0; t < static_cast<int>(ids.size()); ++t) position.push_back(t);
    const std::vector<int32_t> all(size_t(n_rows_), max_positions);
    decoder_.forward({ids, position, of, all});
  }
  Logits decode(const Step& step) {
    std::vector<int32_t> token, position, sequence;
    for (int r = 0; r < n_rows_; ++r)
      if (step.position[r] >= 0)
        token.push_back(step.token[r]), position.push_back(step.position[r]), sequence.push_back(r);
    const std::vector<int32_t> none(size_t(n_rows_), 0);
    decoder_.forward({token, position, sequence, none});
    return decoder_.logits(0, static_cast<int>(token.size()));
  }

 private:
  const model::Model& model_;
  int n_rows_;
  KvCache cache_;
  Decoder decoder_;
};

std::vector<double> log_p(std::span<const float> logits) {
  double sum = 0;
  for (const float x : logits) sum += std::exp(double(x));
  std::vector<double> out;
  for (const float x : logits) out.push_back(double(x) - std::log(sum));
  return out;
}

// Root mean square over all rows that are not idle.
class Difference {
 public:
  void add(const Step& step, const Logits& of_decoder, const Logits& of_graph) {
    int at = 0;
    for (size_t r = 0; r < step.position.size(); ++r)
      if (step.position[r] >= 0) add(of_decoder.row(at++), of_graph.row(static_cast<int>(r)));
  }
  void add(std::span<const float> a, std::span<const float> b) {
    const std::vector<double> p = log_p(a), q = log_p(b);
    for (size_t v = 0; v < p.size(); ++v, ++n_) sum_ += std::pow(p[v] - q[v], 2);
  }
  double rms() const { return std::sqrt(sum_ / double(n_)); }

 private:
  double sum_ = 0;
  long n_ = 0;
};

class Ids {
 public:
  int32_t operator()() { return static_cast<int32_t>(random_() % 288); }
  std::vector<int32_t> operator()(int n) {
    std::vector<int32_t> ids;
    while (static_cast<int>(ids.size()) < n) ids.push_back((*this)());
    return ids;
  }

 private:
  std::mt19937_64 random_{11};
};

// 20 steps of sequences that begin at `lengths`.
double difference_of(const model::Model& model, const Policy& policy, const Policy& of_graph,
                     const std::vector<int>& lengths) {
  const int n_rows = static_cast<int>(lengths.size());
  Side by_decoder(model, policy, n_rows), by_graph(model, policy, n_rows);
  Ids ids;
  Step step;
  for (int r = 0; r < n_rows; ++r) {
    step.token.push_back(0), step.position.push_back(lengths[r]);
    const auto prompt = ids(lengths[r]);
    if (!prompt.empty()) by_decoder.prefill(r, prompt), by_graph.prefill(r, prompt);
  }
  StepGraph graph(model, by_graph.cache(), of_graph, n_rows);
  Difference difference;
  for (int t = 0; t < 20; ++t) {
    for (auto& token : step.token) token = ids();
    graph.run(step.token, step.position);
    difference.add(step, by_decoder.decode(step), graph.logits());
    for (auto& p : step.position) ++p;
  }
  return difference.rms();
}

TEST_CASE("step graph: its kernels launched one by one give the graph's logits, to the bit") {
  NEEDS_DEVICE;
  const model::Model model = tiny({});
  Side side(model, delta_policy(schedule()), 2);
  Ids ids;
  side.prefill(0, ids(200)), side.prefill(1, ids(90));
  StepGraph graph(model, side.cache(), delta_policy(schedule()), 2);
  graph.run(std::vector<int32_t>{5, 6}, std::vector<int32_t>{200, 90});
  const Logits by_graph = graph.logits();
  graph.launch_kernels(nullptr);
  graph.wait();
  const Logits by_kernels = graph.logits();
  for (int r = 0; r < 2; ++r) CHECK(std::ranges::equal(by_graph.row(r), by_kernels.row(r)));
}

TEST_CASE(
    "step graph: full attention is the Decoder's, llama and qwen2, one row and several of different length") {
  NEEDS_DEVICE;
  for (const char* architecture : {"llama", "qwen2"})
    for (const auto& [n_heads, n_kv_heads, head_dim] : {std::tuple{4, 2, 64}, {14, 2, 64}, {7, 1, 128}}) {
      CAPTURE(architecture, n_heads, head_dim);
      test::TinyModel options;
      options.architecture = architecture;
      options.n_heads = n_heads, options.n_kv_heads = n_kv_heads, options.head_dim = head_dim;
      options.tied_output = n_heads != 14;
      const model::Model model = tiny(options);
      const Policy full = full_policy(n_layers);
      CHECK(difference_of(model, full, full, {300}) < tolerance);
      CHECK(difference_of(model, full, full, {300, 0, 95, 14, 31, 470}) < tolerance);
    }
}

TEST_CASE("step graph: as many rows as each kind of linear layer takes, and a vocabulary of odd size") {
  NEEDS_DEVICE;
  test::TinyModel options;
  options.n_vocab = 291;
  const model::Model model = tiny(options);
  const Policy full = full_policy(n_layers);
  for (const int n_rows : {3, 12, 20}) {
    CAPTURE(n_rows);
    std::vector<int> lengths;
    for (int r = 0; r < n_rows; ++r) lengths.push_back(17 * r);
    CHECK(difference_of(model, full, full, lengths) < tolerance);
  }
}

TEST_CASE("step graph: a DELTA schedule is the Decoder's, and not full attention") {
  NEEDS_DEVICE;
  const model::Model model = tiny({});
  std::vector<config::Schedule> schedules(3, schedule());
  schedules[1].page_score = PageScore::max;
  schedules[2].layers[1].l_pages = 6;  // a list that needs no score
  for (size_t i = 0; i < schedules.size(); ++i) {
    CAPTURE(i);
    const Policy policy = delta_policy(schedules[i]);
    const std::vector<int> lengths{300, 0, 95, 14, 31, 470};
    const double same = difference_of(model, policy, policy, lengths),
                 full = difference_of(model, full_policy(n_layers), policy, lengths);
    CHECK(same < list_tolerance);
    CHECK(full > 2 * same);
  }
  // Lists that hold every page change nothing.
  config::Schedule all = schedule();
  for (auto& layer : all.layers)
    if (layer.role != Role::full) layer.k_pages = 64;
  CHECK(difference_of(model, full_policy(n_layers), delta_policy(all), {300, 0, 95, 14}) < tolerance);
}

TEST_CASE("step graph: rows join and leave, and their pages are used again") {
  NEEDS_DEVICE;
  const model::Model model = tiny({});
  const Policy policy = delta_policy(schedule());
  Side by_decoder(model, policy, 4), by_graph(model, policy, 4);
  StepGraph graph(model, by_graph.cache(), policy, 4);
  Ids ids;
  Step step{std::vector<int32_t>(4, 0), std::vector<int32_t>(4, -1)};
  const auto join = [&](int row, int length) {
    const auto prompt = ids(length);
    for (Side* side : {&by_decoder, &by_graph}) side->prefill(row, prompt);
    step.position[row] = length;
  };
  const auto leave = [&](int row) {
    for (Side* side : {&by_decoder, &by_graph}) side->cache().release(row);
    step.position[row] = -1;
  };
  join(0, 200), join(2, 77);
  Difference difference;
  for (int t = 0; t < 20; ++t) {
    if (t == 4) join(1, 130);
    if (t == 8) leave(0);
    if (t == 12) join(3, 333), leave(2);
    if (t == 16) join(0, 20);
    for (auto& token : step.token) token = ids();
    graph.run(step.token, step.position);
    difference.add(step, by_decoder.decode(step), graph.logits());
    for (auto& p : step.position) p += p >= 0;
  }
  CHECK(difference.rms() < list_tolerance);
}

TEST_CASE("step graph: two graphs on one cache take steps by turns, and a launch again changes nothing") {
  NEEDS_DEVICE;
  const model::Model model = tiny({});
  const Policy full = full_policy(n_layers), sparse = delta_policy(schedule());
  Side by_decoder(model, full, 2), by_graph(model, full, 2);
  StepGraph of_full(model, by_graph.cache(), full, 2), of_sparse(model, by_graph.cache(), sparse, 2);
  Decoder decoder(model, by_decoder.cache(), sparse);
  Ids ids;
  Step step{{0, 0}, {240, 60}};
  for (int r = 0; r < 2; ++r) {
    const auto prompt = ids(step.position[r]);
    by_decoder.prefill(r, prompt), by_graph.prefill(r, prompt);
  }
  Difference difference;
  const std::vector<int32_t> sequence{0, 1}, none{0, 0};
  for (int t = 0; t < 20; ++t) {
    for (auto& token : step.token) token = ids();
    StepGraph& graph = t % 2 ? of_sparse : of_full;
    graph.run(step.token, step.position);
    const Logits once = graph.logits();
    graph.wait();
    graph.launch();
    CHECK(graph.timed_launch() > 0);
    const Logits again = graph.logits();
    for (int r = 0; r < 2; ++r) CHECK(std::ranges::equal(once.row(r), again.row(r)));
    if (t % 2) {
      decoder.forward({step.token, step.position, sequence, none});
      difference.add(step, decoder.logits(0, 2), once);
    } else {
      difference.add(step, by_decoder.decode(step), once);
    }
    for (auto& p : step.position) ++p;
  }
  CHECK(difference.rms() < list_tolerance);
}

TEST_CASE("step graph: steps enqueued without a wait, and parts of a step, run") {
  NEEDS_DEVICE;
  const model::Model model = tiny({});
  const Policy policy = delta_policy(schedule());
  KvCache cache(model, 3, max_positions), same(model, 3, max_positions);
  StepGraph one(model, cache, policy, 3), other(model, same, policy, 3);
  Ids ids;
  for (int t = 0; t < 100; ++t) {
    const std::vector<int32_t> token = ids(3), position{t, 99 - t < 40 ? -1 : t, t};
    one.run(token, position);
    other.run(token, position);
    other.wait();
  }
  for (const int r : {0, 2}) CHECK(std::ranges::equal(one.logits().row(r), other.logits().row(r)));
  for (const Part part : {Part::attention, Part::without_attention}) {
    StepGraph of_part(model, cache, policy, 3, part);
    of_part.run(ids(3), std::vector<int32_t>{99, -1, 50});
    CHECK(of_part.timed_launch() > 0);
  }
}

TEST_CASE("step graph: what cannot be is refused") {
  NEEDS_DEVICE;
  using Catch::Matchers::ContainsSubstring;
  const model::Model model = tiny({});
  KvCache cache(model, 2, 64);
  CHECK_THROWS_WITH(StepGraph(model, cache, full_policy(n_layers), 3),
                    ContainsSubstring("the KV cache has 1 to 2"));
  CHECK_THROWS_WITH(StepGraph(model, cache, streaming_policy({0, 4, 4, 4, 4, 4}), 2),
                    ContainsSubstring("window"));
  StepGraph graph(model, cache, full_policy(n_layers), 2);
  const std::vector<int32_t> one{0}, two{0, 0}, far{0, 64}, unknown{0, 288};
  CHECK_THROWS_WITH(graph.run(one, one), ContainsSubstring("the graph has 2 rows"));
  CHECK_THROWS_WITH(graph.run(two, far), ContainsSubstring("beyond the 64 positions"));
  CHECK_THROWS_WITH(graph.run(unknown, two), ContainsSubstring("vocabulary"));
}

}  // namespace
}  // namespace deltacal::decode
