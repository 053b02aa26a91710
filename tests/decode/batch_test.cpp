// A batch whose rows join and leave against each sequence by itself.
#include "decode/batch.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <map>

#include "decode/choices.h"
#include "decode/scored_rows.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

namespace deltacal::decode {
namespace {

using config::Role;

model::Model tiny(test::TinyModel options = {}) {
  test::Scratch scratch;
  test::write_tiny_model(options, scratch / "m.gguf");
  return model::Model::load(scratch / "m.gguf", model::Dtype::f32);
}

std::vector<int32_t> prompt_of(int n, int seed) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) ids[size_t(i)] = (i * i * 31 + i * (17 + seed) + seed * 7) % 250;
  return ids;
}

// What is decoded of a sequence, and the maps of its recorded steps by (layer, position).
struct Decoded {
  std::vector<int32_t> tokens;
  std::vector<float> nll;
  std::map<std::pair<int, int>, std::vector<float>> score, mass, group_mass;
  std::vector<LayerReads> reads;
};

bool is_recorded(int position) {
  return position % 5 == 2;
}

struct Recorder : Observer {
  explicit Recorder(Decoded& to) : decoded(to) {}
  void layer(const LayerView& view) override {
    if (view.n_rows > 1 || !is_recorded(view.position[0])) return;
    const int row[] = {0};
    ScoredRows scored;
    score_rows(view, row, true, scored);
    const std::pair at{view.layer, int(view.position[0])};
    decoded.score[at] = scored.score, decoded.mass[at] = scored.mass,
    decoded.group_mass[at] = scored.group_mass;
  }
  Decoded& decoded;
};

// One sequence by the Decoder alone.
Decoded alone(const model::Model& model, const Policy& policy, const BatchSequence& sequence,
              const BatchOptions& options) {
  Decoded out;
  Recorder recorder(out);
  const int n_prompt = static_cast<int>(sequence.prompt.size());
  KvCache cache(model, 1, n_prompt + sequence.max_new_tokens);
  Decoder decoder(model, cache, policy, {&recorder});
  Sampler sampler(sequence.sampling);
  std::vector<int32_t> position(sequence.prompt.size()), zero(sequence.prompt.size(), 0);
  for (int i = 0; i < n_prompt; ++i) position[size_t(i)] = i;
  const int32_t prefilled_to[] = {n_prompt};
  recorder.decoded = {};
  decoder.forward({sequence.prompt, position, zero, prefilled_to});
  out = {};
  Logits logits = decoder.logits(n_prompt - 1, 1);
  while (static_cast<int>(out.tokens.size()) < sequence.max_new_tokens) {
    const int32_t token[] = {sampler.next(logits.row(0))},
                  at[] = {n_prompt + static_cast<int>(out.tokens.size())};
    out.tokens.push_back(token[0]);
    out.nll.push_back(nll_of(logits, token)[0]);
    decoder.forward({token, at, {zero.data(), 1}, prefilled_to});
    logits = decoder.logits(0, 1);
    if (options.stops && options.stops(token[0])) break;
  }
  out.reads.assign(decoder.reads().begin(), decoder.reads().end());
  return out;
}

std::vector<Decoded> together(const model::Model& model, const Policy& policy,
                              std::span<const BatchSequence> sequences, const BatchOptions& options) {
  std::vector<Decoded> out(sequences.size());
  std::vector<int> n_finished(sequences.size(), 0);
  BatchCallbacks on;
  on.token = [&](int s, int32_t token, float nll) {
    CHECK(n_finished[size_t(s)] == 0);
    out[size_t(s)].tokens.push_back(token);
    out[size_t(s)].nll.push_back(nll);
  };
  on.records = [](int, int position) { return is_recorded(position); };
  on.maps = [&](std::span<const RecordedRow> rows, const StepMaps& maps) {
    for (const auto& [row, sequence, position] : rows) {
      CHECK(n_finished[size_t(sequence)] == 0);
      Decoded& to = out[size_t(sequence)];
      const auto first = [&](std::span<const float> pages) {
        return std::vector<float>(pages.begin(), pages.begin() + pages_seen(position));
      };
      for (int layer = 0; layer < maps.n_layers; ++layer) {
        const std::pair at{layer, position};
        CHECK(to.score.count(at) == 0);
        to.score[at] = first(maps.score_of(layer, row)), to.mass[at] = first(maps.mass_of(layer, row));
        for (int g = 0; maps.group_mass && g < maps.n_kv_heads; ++g) {
          const auto pages = first(maps.group_mass_of(layer, row, g));
          to.group_mass[at].insert(to.group_mass[at].end(), pages.begin(), pages.end());
        }
      }
    }
  };
  on.finished = [&](int s) { ++n_finished[size_t(s)]; };
  const BatchResult result = decode_batch(model, policy, sequences, options, on);
  for (size_t s = 0; s < sequences.size(); ++s) {
    CHECK(n_finished[s] == 1);
    CHECK(result.tokens[s] == out[s].tokens);
  }
  out[0].reads = result.reads;  // of all
  return out;
}

using Maps = std::map<std::pair<int, int>, std::vector<float>>;
double difference(const Maps& a, const Maps& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (const auto& [at, values] : a) {
    const std::vector<float>& others = b.at(at);
    REQUIRE(values.size() == others.size());
    for (size_t i = 0; i < values.size(); ++i)
      worst = std::max(worst, double(std::abs(values[i] - others[i])));
  }
  return worst;
}

// Products of matrices of other sizes round differently: about 1e-6 in f32. A key of another sequence, or an
// old one of the same row, moves a probability by 1e-2 and more.
constexpr double tolerance = 2e-4;

void check_same(const Decoded& a, const Decoded& b) {
  CHECK(a.tokens == b.tokens);
  REQUIRE(a.nll.size() == b.nll.size());
  for (size_t i = 0; i < a.nll.size(); ++i) CHECK(std::abs(a.nll[i] - b.nll[i]) < tolerance);
  CHECK(difference(a.score, b.score) < tolerance);
  CHECK(difference(a.mass, b.mass) < tolerance);
  CHECK(difference(a.group_mass, b.group_mass) < tolerance);
}

// Prompts of very different lengths, one of one token; each ends elsewhere.
struct Queue {
  std::vector<std::vector<int32_t>> prompts;
  std::vector<BatchSequence> sequences;
  explicit Queue(SamplingOptions sampling = {}) {
    for (const int n : {40, 1, 300, 16, 77, 33, 2}) prompts.push_back(prompt_of(n, int(prompts.size())));
    const int n_new[] = {30, 55, 20, 1, 41, 64, 12};
    for (size_t i = 0; i < prompts.size(); ++i) {
      sequences.push_back({prompts[i], n_new[i], sampling});
      sequences.back().sampling.seed += i;
    }
  }
};

std::vector<Policy> policies() {
  config::Schedule schedule;
  schedule.layers.assign(4, {Role::sparse, 3, 0});
  schedule.layers[0] = {Role::full, 0, 0};
  schedule.layers[1] = {Role::delta, 4, 1};
  std::vector<Policy> out{full_policy(4), delta_policy(schedule)};
  schedule.refresh_interval = 7;
  out.push_back(delta_policy(schedule));
  schedule.refresh_interval = 1;
  schedule.refresh = config::AdaptiveRefresh{0.3, 9};
  out.push_back(delta_policy(schedule));
  return out;
}

TEST_CASE("batch: each sequence is decoded and recorded as by itself, for any number of rows") {
  const model::Model model = tiny();
  const Queue queue;
  BatchOptions options;
  options.group_mass = true;
  const auto all = policies();
  for (size_t p = 0; p < all.size(); ++p) {
    std::vector<Decoded> expected;
    for (const BatchSequence& s : queue.sequences) expected.push_back(alone(model, all[p], s, options));
    REQUIRE(expected[3].tokens.size() == 1);
    for (const int n_rows : {1, 2, 3, 7, 9}) {
      CAPTURE(p, n_rows);
      options.n_rows = n_rows;
      const auto decoded = together(model, all[p], queue.sequences, options);
      for (size_t s = 0; s < expected.size(); ++s) {
        CAPTURE(s);
        check_same(expected[s], decoded[s]);
      }
      for (size_t layer = 0; layer < 4; ++layer) {
        long long attended = 0, lists = 0;
        for (const Decoded& one : expected)
          attended += one.reads[layer].attended, lists += one.reads[layer].lists;
        CHECK(decoded[0].reads[layer].attended == attended);
        CHECK(decoded[0].reads[layer].lists == lists);
      }
    }
  }
}

TEST_CASE("batch: one row at a time is the Decoder to the last bit") {
  const model::Model model = tiny();
  const Queue queue({0.8f, 0, 0.9f, 3});
  const auto decoded = together(model, full_policy(4), queue.sequences, {});
  for (size_t s = 0; s < decoded.size(); ++s) {
    const Decoded expected = alone(model, full_policy(4), queue.sequences[s], {});
    CHECK(decoded[s].tokens == expected.tokens);
    CHECK(decoded[s].nll == expected.nll);
    CHECK(decoded[s].score == expected.score);
  }
}

TEST_CASE("batch: a sequence ends after its stop token, its row goes on, samplers do not mix") {
  const model::Model model = tiny();
  const Queue queue({5.0f, 0, 1, 11});
  BatchOptions options;
  options.stops = [](int32_t token) { return token % 16 == 3; };
  options.group_mass = true;
  std::vector<Decoded> expected;
  size_t n_stopped = 0;
  for (const BatchSequence& s : queue.sequences) {
    expected.push_back(alone(model, full_policy(4), s, options));
    n_stopped += static_cast<int>(expected.back().tokens.size()) < s.max_new_tokens;
  }
  REQUIRE(n_stopped >= 3);
  for (const int n_rows : {1, 2, 4}) {
    options.n_rows = n_rows;
    const auto decoded = together(model, full_policy(4), queue.sequences, options);
    for (size_t s = 0; s < expected.size(); ++s) check_same(expected[s], decoded[s]);
  }
  // In another order, beside others.
  std::vector<BatchSequence> turned(queue.sequences.rbegin(), queue.sequences.rend());
  options.n_rows = 3;
  const auto decoded = together(model, full_policy(4), turned, options);
  for (size_t s = 0; s < expected.size(); ++s) check_same(expected[s], decoded[expected.size() - 1 - s]);
}

TEST_CASE("batch: the NLL of a prompt's tokens comes in order, chunk by chunk, and is the Decoder's") {
  const model::Model model = tiny({.max_context = 1024});
  const auto prompt = prompt_of(700, 1);  // two chunks
  std::vector<BatchSequence> sequences(2, {prompt, 2, {}});
  BatchOptions options;
  options.n_rows = 2;
  std::map<int, int> seen;
  BatchCallbacks on;
  std::map<int, std::vector<float>> nll;
  on.prompt_nll = [&](int s, int n, std::span<const float> part) {
    seen[s] += n;
    nll[s].insert(nll[s].end(), part.begin(), part.end());
  };
  const BatchResult result = decode_batch(model, full_policy(4), sequences, options, on);
  CHECK(seen == std::map<int, int>{{0, 700}, {1, 700}});
  CHECK(result.n_steps == 2);
  CHECK(result.tokens[0] == result.tokens[1]);

  KvCache cache(model, 1, 1024);
  Decoder decoder(model, cache, full_policy(4));
  std::vector<float> expected;
  replay(decoder, prompt, 700, [&](int first, int n) {
    const auto next = std::span(prompt).subspan(size_t(first) + 1, size_t(std::min(n, 699 - first)));
    const std::vector<float> part = nll_of(decoder.logits(0, int(next.size())), next);
    expected.insert(expected.end(), part.begin(), part.end());
  });
  REQUIRE(expected.size() == 699);
  CHECK(nll[0] == expected);
  CHECK(nll[1] == expected);
}

TEST_CASE("batch: what cannot be decoded is refused") {
  const model::Model model = tiny();
  const std::vector<int32_t> none, unknown{5, 400};
  const auto refused = [&](std::span<const int32_t> prompt, int n_rows) {
    const std::vector<BatchSequence> sequences{{prompt, 4, {}}};
    BatchOptions options;
    options.n_rows = n_rows;
    return test::error_of([&] { decode_batch(model, full_policy(4), sequences, options, {}); });
  };
  CHECK(refused(none, 1).find("the prompt has no tokens") != std::string::npos);
  CHECK(refused(unknown, 1).find("vocabulary") != std::string::npos);
  CHECK(refused(unknown, 0).find("at least 1") != std::string::npos);
}

TEST_CASE("batch: the most likely token and its NLL are found, the lowest of equals") {
  check_most_likely(model::Device::cpu);
}

TEST_CASE("batch: a draw on the logits' device is the sampler's, of equals too") {
  check_draws(model::Device::cpu);
}

}  // namespace
}  // namespace deltacal::decode
