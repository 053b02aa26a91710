#include "decode/decoder.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <map>
#include <random>

#include "support/reference_model.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using config::Role;

namespace {

std::vector<int32_t> random_ids(int n, int n_vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> ids(n);
  for (auto& id : ids) id = static_cast<int32_t>(random() % n_vocab);
  return ids;
}

// [T, V], all rows of a teacher-forced pass.
std::vector<std::vector<float>> all_logits(const model::Model& model, const decode::Policy& policy,
                                           std::span<const int32_t> ids, int n_prompt, int chunk,
                                           std::vector<decode::Observer*> observers = {}) {
  decode::KvCache cache(model, 1, static_cast<int>(ids.size()));
  decode::Decoder decoder(model, cache, policy, std::move(observers));
  std::vector<std::vector<float>> rows;
  decode::replay(
      decoder, ids, n_prompt,
      [&](int, int n) {
        const decode::Logits logits = decoder.logits(0, n);
        for (int i = 0; i < n; ++i) rows.emplace_back(logits.row(i).begin(), logits.row(i).end());
      },
      chunk);
  return rows;
}

// Largest difference of log-probabilities.
double difference(const std::vector<std::vector<float>>& rows, const test::Matrix& log_probability) {
  double worst = 0;
  for (size_t t = 0; t < rows.size(); ++t) {
    double sum = 0;
    for (const float x : rows[t]) sum += std::exp(double(x));
    for (size_t v = 0; v < rows[t].size(); ++v)
      worst = std::max(worst, std::abs(rows[t][v] - std::log(sum) - log_probability(long(t), long(v))));
  }
  return worst;
}

double difference(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  double worst = 0;
  for (size_t t = 0; t < a.size(); ++t)
    for (size_t v = 0; v < a[t].size(); ++v) worst = std::max(worst, double(std::abs(a[t][v] - b[t][v])));
  return worst;
}

// Observed rounding of f32 through four layers is about 1e-5; a wrong angle, mask or page is 1e-1 or more.
constexpr double f32_tolerance = 2e-4;

config::Schedule small_schedule(int n_layers, int k, int l) {
  config::Schedule schedule;
  schedule.layers.assign(n_layers, {Role::sparse, k, 0});
  schedule.layers[0] = {Role::full, 0, 0};
  schedule.layers[1] = {Role::delta, k, l};
  return schedule;
}

struct Tiny {
  test::Scratch scratch;
  std::string path = scratch / "tiny.gguf";
  explicit Tiny(const test::TinyModel& options) { test::write_tiny_model(options, path); }
};

}  // namespace

TEST_CASE("decoder: full attention equals the double-precision transformer, llama and qwen2, any group size") {
  for (const char* architecture : {"llama", "qwen2"})
    for (const int n_kv_heads : {1, 2, 4}) {
      test::TinyModel options;
      options.architecture = architecture;
      options.n_kv_heads = n_kv_heads;
      options.tied_output = n_kv_heads != 2;
      const Tiny tiny(options);
      const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
      const auto ids = random_ids(100, options.n_vocab, 3);
      const auto expected = test::reference_run(tiny.path, ids, {0, {}, false});
      CAPTURE(architecture, n_kv_heads);
      CHECK(difference(all_logits(model, decode::full_policy(options.n_layers), ids, 0, 512), expected.log_probability) < f32_tolerance);
    }
}

TEST_CASE("decoder: a DELTA schedule with k per layer equals the double-precision transformer under it") {
  test::TinyModel options;
  options.n_layers = 6;
  const Tiny tiny(options);
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(250, options.n_vocab, 4);
  config::Schedule schedule = small_schedule(6, 5, 2);
  schedule.layers[2].k_pages = 3;
  schedule.layers[4] = {Role::delta, 4, 1};
  schedule.layers[5].k_pages = 4;
  for (const int n_prompt : {0, 77}) {
    const auto expected = test::reference_run(tiny.path, ids, {n_prompt, schedule, false});
    CHECK(difference(all_logits(model, decode::delta_policy(schedule), ids, n_prompt, 64), expected.log_probability) < f32_tolerance);
    // and it is not the full model in disguise
    const auto full = test::reference_run(tiny.path, ids, {n_prompt, {}, false});
    CHECK((full.log_probability - expected.log_probability).cwiseAbs().maxCoeff() > 10 * f32_tolerance);
  }
}

namespace {

// Two Δ-layers with different lists, on 6 layers.
config::Schedule refreshed_schedule(int interval, std::optional<config::AdaptiveRefresh> adaptive = {}) {
  config::Schedule schedule = small_schedule(6, 5, 2);
  schedule.layers[2].k_pages = 3;
  schedule.layers[4] = {Role::delta, 4, 1};
  schedule.layers[5].k_pages = 4;
  schedule.refresh_interval = interval;
  schedule.refresh = adaptive;
  return schedule;
}

test::TinyModel six_layers() {
  test::TinyModel options;
  options.n_layers = 6;
  return options;
}

// Lists that each layer attends to, by position: what replay in chunks and decoding must agree on.
struct ListRecorder : decode::Observer {
  std::map<std::pair<int, int>, std::vector<int32_t>> lists;  // (layer, position)
  void layer(const decode::LayerView& view) override {
    for (int r = 0; r < view.n_rows && view.list(); ++r) {
      if (view.list_length[r] < 0) continue;
      const int32_t* list = view.list() + size_t(r) * view.list_stride;
      lists[{view.layer, view.position[r]}].assign(list, list + view.list_length[r]);
    }
  }
};

}  // namespace

TEST_CASE("decoder: with lists that serve several steps it equals the double-precision transformer") {
  const Tiny tiny(six_layers());
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(250, 288, 4);
  for (const int interval : {2, 5, 16, 40})
    for (const int n_prompt : {0, 77}) {
      CAPTURE(interval, n_prompt);
      auto schedule = refreshed_schedule(interval);
      if (interval == 5) schedule.page_score = PageScore::max;
      const auto expected = test::reference_run(tiny.path, ids, {n_prompt, schedule, false});
      CHECK(difference(all_logits(model, decode::delta_policy(schedule), ids, n_prompt, 64), expected.log_probability) <
            f32_tolerance);
      const auto anew = test::reference_run(tiny.path, ids, {n_prompt, refreshed_schedule(1), false});
      CHECK((anew.log_probability - expected.log_probability).cwiseAbs().maxCoeff() > 10 * f32_tolerance);
    }
}

TEST_CASE("decoder: adaptive refresh makes its lists where the double-precision transformer does") {
  const Tiny tiny(six_layers());
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(250, 288, 14);
  const int n_prompt = 30;
  // 1: at every step; -1: by max_interval alone; between them both happen.
  for (const auto& adaptive : {config::AdaptiveRefresh{1, 50}, config::AdaptiveRefresh{-1, 7}, config::AdaptiveRefresh{0.1, 12}}) {
    CAPTURE(adaptive.threshold);
    const auto schedule = refreshed_schedule(1, adaptive);
    const auto expected = test::reference_run(tiny.path, ids, {n_prompt, schedule, false});
    decode::KvCache cache(model, 1, 250);
    decode::Decoder decoder(model, cache, decode::delta_policy(schedule));
    std::vector<std::vector<float>> rows;
    decode::replay(
        decoder, ids, n_prompt,
        [&](int, int n) {
          const decode::Logits logits = decoder.logits(0, n);
          for (int i = 0; i < n; ++i) rows.emplace_back(logits.row(i).begin(), logits.row(i).end());
        },
        64);
    CHECK(difference(rows, expected.log_probability) < f32_tolerance);
    for (const int layer : {1, 4}) {
      const auto lists = decoder.reads()[size_t(layer)].lists;
      CHECK(lists == expected.n_lists[size_t(layer)]);
      if (adaptive.threshold == 1) CHECK(lists == 220);
      if (adaptive.threshold == -1) CHECK(lists == (220 + 6) / 7);
      if (adaptive.threshold == 0.1) CHECK((lists > 220 / 12 + 5 && lists < 200));
    }
  }
}

TEST_CASE("decoder: replay in any chunks and decoding use the same lists, kept over the border of a chunk") {
  const Tiny tiny(six_layers());
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(200, 288, 15);
  for (const auto& schedule : {refreshed_schedule(7), refreshed_schedule(1, config::AdaptiveRefresh{0.1, 20})}) {
    const auto policy = decode::delta_policy(schedule);
    ListRecorder whole, chunks, steps;
    all_logits(model, policy, ids, 20, 512, {&whole});
    all_logits(model, policy, ids, 20, 37, {&chunks});
    all_logits(model, policy, ids, 20, 1, {&steps});
    CHECK(!whole.lists.empty());
    CHECK(chunks.lists == whole.lists);
    CHECK(steps.lists == whole.lists);
  }
}

TEST_CASE("decoder: each sequence of a batch keeps lists of its own, from its own first step") {
  const Tiny tiny(six_layers());
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto a = random_ids(120, 288, 16), b = random_ids(120, 288, 17);
  for (const auto& schedule : {refreshed_schedule(6), refreshed_schedule(1, config::AdaptiveRefresh{0.1, 20})}) {
    const auto policy = decode::delta_policy(schedule);
    const auto alone_a = all_logits(model, policy, a, 0, 512), alone_b = all_logits(model, policy, b, 33, 512);
    decode::KvCache cache(model, 2, 120);
    decode::Decoder decoder(model, cache, policy);
    const int32_t prefilled_to[] = {0, 33};
    for (int round = 0; round < 2; ++round) {  // in the second round nothing of the first may be left
      double worst = 0;
      for (int t = 0; t < 120; ++t) {
        const int32_t token[] = {b[t], a[t]}, position[] = {t, t}, sequence[] = {1, 0};
        decoder.forward({token, position, sequence, prefilled_to});
        const decode::Logits logits = decoder.logits(0, 2);
        for (size_t v = 0; v < logits.row(0).size(); ++v)
          worst = std::max({worst, double(std::abs(logits.row(0)[v] - alone_b[t][v])),
                            double(std::abs(logits.row(1)[v] - alone_a[t][v]))});
      }
      CHECK(worst < f32_tolerance);
      cache.release(1);
      cache.release(0);
    }
  }
}

TEST_CASE("decoder: a step that makes no list scores no page, and what is read is counted") {
  const Tiny tiny(six_layers());
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(150, 288, 18);
  const auto schedule = refreshed_schedule(10);
  decode::KvCache cache(model, 1, 150);
  decode::Decoder decoder(model, cache, decode::delta_policy(schedule));
  decode::replay(decoder, ids, 25, [](int, int) {}, 32);
  long long attended = 0, ranked = 0;
  int lists = 0;
  for (int t = 25; t < 150; ++t) {
    attended += config::attended_positions(schedule, t, 25);
    if (t == 25 || t % 10 == 0) ranked += t + 1, ++lists;
  }
  long long read = 0;
  for (const auto& layer : decoder.reads()) read += layer.attended;
  CHECK(read == attended);
  for (const size_t layer : {1, 4}) {
    CHECK(decoder.reads()[layer].lists == lists);
    CHECK(decoder.reads()[layer].ranked == ranked);
  }
  CHECK(decoder.reads()[2].lists == 0);
}

TEST_CASE("decoder: under the page score max it equals the double-precision transformer") {
  test::TinyModel options;
  options.n_layers = 7;
  const Tiny tiny(options);
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(250, options.n_vocab, 14);
  config::Schedule schedule;
  schedule.layers.assign(7, {Role::sparse, 3, 0});
  schedule.layers[0] = {Role::full, 0, 0};
  schedule.layers[1] = {Role::delta, 3, 1};
  schedule.layers[3] = {Role::delta, 3, 3};  // a window: it reads no score
  schedule.layers[5] = {Role::delta, 3, 1};
  const test::Matrix plain = test::reference_run(tiny.path, ids, {40, schedule, false}).log_probability;
  schedule.page_score = PageScore::max;
  const auto policy = decode::delta_policy(schedule);
  const auto expected = test::reference_run(tiny.path, ids, {40, schedule, false});
  const auto found = all_logits(model, policy, ids, 40, 64);
  CHECK(difference(found, expected.log_probability) < f32_tolerance);
  CHECK((plain - expected.log_probability).cwiseAbs().maxCoeff() > 10 * f32_tolerance);
  CHECK(difference(all_logits(model, policy, ids, 40, 1), found) < f32_tolerance);
}

TEST_CASE("decoder: k of at least all pages equals full attention bit for bit") {
  const Tiny tiny({});
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(200, 288, 5);
  const auto full = all_logits(model, decode::full_policy(4), ids, 0, 64);
  CHECK(all_logits(model, decode::delta_policy(small_schedule(4, 13, 1)), ids, 0, 64) == full);
  config::Schedule refreshed = small_schedule(4, 13, 1);
  refreshed.refresh_interval = 50;
  CHECK(all_logits(model, decode::delta_policy(refreshed), ids, 0, 64) == full);
  CHECK(all_logits(model, decode::streaming_policy({0, 0, 13, 13}), ids, 0, 64) == full);
  CHECK(all_logits(model, decode::delta_policy(small_schedule(4, 12, 1)), ids, 0, 64) != full);
}

TEST_CASE("decoder: L = K is a sliding window of the newest pages") {
  const Tiny tiny({});
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(200, 288, 6);
  const config::Schedule schedule = small_schedule(4, 3, 3);
  const auto expected = test::reference_run(tiny.path, ids, {0, schedule, false});
  CHECK(difference(all_logits(model, decode::delta_policy(schedule), ids, 0, 512), expected.log_probability) < f32_tolerance);
}

TEST_CASE("decoder: token by token equals chunk by chunk, full and sparse") {
  const Tiny tiny({});
  const auto ids = random_ids(130, 288, 7);
  for (const auto dtype : {model::Dtype::f32, model::Dtype::bf16}) {
    const model::Model model = model::Model::load(tiny.path, dtype);
    const double tolerance = dtype == model::Dtype::f32 ? f32_tolerance : 0.25;  // bf16 keeps 8 bits
    for (const auto& policy : {decode::full_policy(4), decode::delta_policy(small_schedule(4, 4, 1))}) {
      const auto chunks = all_logits(model, policy, ids, 0, 512);
      CHECK(difference(all_logits(model, policy, ids, 0, 1), chunks) < tolerance);
      CHECK(difference(all_logits(model, policy, ids, 0, 37), chunks) < tolerance);
    }
  }
}

TEST_CASE("decoder: an observer changes no bit of the logits and sees every row of every layer") {
  struct Counter : decode::Observer {
    std::vector<int> rows = std::vector<int>(4);
    void layer(const decode::LayerView& view) override { rows[view.layer] += view.n_rows; }
  } counter;
  const Tiny tiny({});
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(90, 288, 8);
  const auto policy = decode::delta_policy(small_schedule(4, 4, 1));
  const auto alone = all_logits(model, policy, ids, 0, 32);
  CHECK(all_logits(model, policy, ids, 0, 32, {&counter}) == alone);
  CHECK(counter.rows == std::vector<int>{90, 90, 90, 90});
}

TEST_CASE("decoder: the NLL of some rows is that of their logits, in one call and in parts") {
  const Tiny tiny({});
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(90, 288, 8);
  decode::KvCache cache(model, 1, 90);
  decode::Decoder decoder(model, cache, decode::full_policy(4));
  decode::replay(
      decoder, ids, 0,
      [&](int first, int n) {
        const int with_next = std::min(n, 89 - first);
        const auto target = std::span(ids).subspan(first + 1, with_next);
        const auto nll = decoder.nll(0, target);
        CHECK(nll == decode::nll_of(decoder.logits(0, with_next), target));
        for (int i = 0; i < with_next; i += 11) {
          double sum = 0;
          const decode::Logits logits = decoder.logits(i, 1);
          for (const float x : logits.row(0)) sum += std::exp(double(x));
          CHECK(std::abs(nll[i] - (std::log(sum) - logits.row(0)[target[i]])) < 1e-5);
          CHECK(std::abs(decoder.nll(i, target.subspan(i, 1))[0] - nll[i]) < 1e-5);
        }
        CHECK(decoder.nll(0, {}).empty());
      },
      64);
}

TEST_CASE("decoder: sequences of one batch do not touch each other, whatever pages they hold") {
  const Tiny tiny({});
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto policy = decode::delta_policy(small_schedule(4, 3, 1));
  const auto a = random_ids(100, 288, 9), b = random_ids(100, 288, 10);
  const auto alone_a = all_logits(model, policy, a, 0, 512), alone_b = all_logits(model, policy, b, 0, 512);

  decode::KvCache cache(model, 3, 100);
  decode::Decoder decoder(model, cache, policy);
  const int32_t prefilled_to[] = {0, 0, 0};
  for (int round = 0; round < 2; ++round) {  // in the second round the sequences hold other pages
    double worst = 0;
    for (int t = 0; t < 100; ++t) {
      const int32_t token[] = {b[t], a[t]}, position[] = {t, t}, sequence[] = {2, 0};
      decoder.forward({token, position, sequence, prefilled_to});
      const decode::Logits logits = decoder.logits(0, 2);
      for (size_t v = 0; v < logits.row(0).size(); ++v)
        worst = std::max({worst, double(std::abs(logits.row(0)[v] - alone_b[t][v])), double(std::abs(logits.row(1)[v] - alone_a[t][v]))});
    }
    CHECK(worst < f32_tolerance);
    cache.release(2);
    cache.release(0);
    cache.reserve(1, 20);  // takes pages in between
    cache.release(1);
    cache.reserve(0, 40);
    cache.release(0);
  }
}

TEST_CASE("decoder: bad input is refused with what is wrong") {
  const Tiny tiny({});
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  decode::KvCache cache(model, 1, 20);
  CHECK(test::error_of([&] {
          decode::Decoder(model, cache, decode::full_policy(3));
        }).starts_with("2: the schedule has 3 layers"));
  decode::Decoder decoder(model, cache, decode::full_policy(4));
  const int32_t zero[] = {0}, outside[] = {288}, far[] = {32};
  CHECK(test::error_of([&] { decoder.forward({outside, zero, zero, zero}); }).find("288 is outside the model's vocabulary") != std::string::npos);
  CHECK(test::error_of([&] { decoder.forward({zero, far, zero, zero}); }).find("beyond the 20 positions") != std::string::npos);
}

TEST_CASE("decoder: random weights of a shape give the same finite logits from the same seed") {
  using namespace deltacal::decode;
  model::Description d;
  d.info.name = "random", d.info.n_layers = 3, d.info.n_heads = 4, d.info.n_kv_heads = 2,
  d.info.head_dim = 32, d.info.max_context = 64;
  d.n_vocab = 300, d.n_embd = 64, d.n_ff = 96, d.rms_eps = 1e-6f, d.qkv_bias = true;
  d.rope.dim = 32;
  const int32_t token[] = {5, 7, 9}, position[] = {0, 1, 2}, sequence[] = {0, 0, 0}, prefilled_to[] = {0};
  const auto run = [&](uint64_t seed) {
    const model::Model model = model::Model::random(d, model::Dtype::f32, model::Device::cpu, seed);
    KvCache cache(model, 1, 64);
    Decoder decoder(model, cache, full_policy(3));
    decoder.forward({token, position, sequence, prefilled_to});
    const Logits logits = decoder.logits(2, 1);
    return std::vector<float>(logits.row(0).begin(), logits.row(0).end());
  };
  const std::vector<float> logits = run(1);
  double squares = 0;
  for (const float x : logits) squares += double(x) * x / 300;
  CHECK(squares > 0.1);
  CHECK(squares < 10);
  CHECK(run(1) == logits);
  CHECK(run(2) != logits);
}

TEST_CASE(
    "replay: no pass of a device has few rows but of a short sequence, and none of the CPU more than fit") {
  using decode::replay_rows, decode::rows_of_prefill, model::Device;
  CHECK(replay_rows(Device::cpu, 512) == 512);
  CHECK(replay_rows(Device::cpu, 520) == 512);
  CHECK(replay_rows(Device::cuda, 40) == 40);
  CHECK(replay_rows(Device::cuda, 8192) == 8192);
  CHECK(replay_rows(Device::cuda, 8193) == 7168);
  CHECK(replay_rows(Device::cuda, 8192 + rows_of_prefill - 1) == 7168);
  CHECK(replay_rows(Device::cuda, 8192 + rows_of_prefill) == 8192);
  CHECK(replay_rows(Device::cuda, 30000) == 8192);
}
