#include "record/record.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "calib/recall.h"
#include "core/files.h"
#include "support/reference_model.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using namespace std::string_literals;

namespace {

text::TokenizedSample sample_of(std::vector<int32_t> ids, int n_prompt) {
  text::TokenizedSample sample;
  sample.id = "s";
  sample.problem = "p";
  sample.ids = std::move(ids);
  sample.n_prompt_tokens = n_prompt;
  return sample;
}

std::vector<int32_t> letters(int n) {
  std::vector<int32_t> ids(n);
  for (int i = 0; i < n; ++i) ids[i] = 10 + (i * i + 7 * i) % 83;
  return ids;
}

trace::Writer new_trace(const std::string& path, const model::Model& model) {
  return {path, trace::Writer::Start::fresh, model.info(), {"test", 0}, nlohmann::json::object()};
}

void record_sample(const std::string& path, const model::Model& model, const text::TokenizedSample& sample,
                   const record::RecordOptions& options) {
  trace::Writer writer = new_trace(path, model);
  record::record_replay(model, sample, options, writer, 0, nullptr);
  writer.finish();
}

// Of one prompt; whether it was written.
bool record_continuation(const model::Model& model, const text::TokenizedSample& sample,
                         const record::RecordOptions& options, const record::DecodeOptions& decoding,
                         trace::Writer& writer) {
  const record::Prompt prompt[] = {{&sample, 0}};
  return record::record_decode(model, prompt, options, decoding, writer, nullptr)[0];
}

double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, double(std::abs(a[i] - b[i])));
  return worst;
}

// A trace's file without the time it was made at, "2026-01-31T12:00:00Z".
std::string bytes_but_time(const std::string& path) {
  std::string bytes = read_file(path);
  const size_t end = bytes.find("Z\0\0\0\0"s, bytes.find("deltacal-trace"));
  REQUIRE((end != bytes.npos && bytes[end - 9] == 'T'));
  return bytes.erase(end - 19, 20);
}

// Half precision keeps 11 bits of a mass of at most 1.
constexpr double half_tolerance = 1.0 / 2048;

// Scores, masses, NLL and recall of a trace against the double-precision transformer.
void check_against_reference(const std::string& gguf, const trace::Reader& trace, const test::ReferenceRun& expected,
                             double score_tolerance) {
  const auto steps = trace.steps(0);
  const int n_layers = trace.model().n_layers, n_pages = pages_for(trace.info(0).n_tokens);
  const trace::PageMaps maps = trace.pages(0, 0, n_layers, 0, int(steps.size()));
  double score_error = 0, mass_error = 0;
  for (int layer = 0; layer < n_layers; ++layer)
    for (size_t s = 0; s < steps.size(); ++s)
      for (int u = 0; u < n_pages; ++u) {
        score_error = std::max(score_error, std::abs(maps.score_at(layer, int(s))[u] - expected.score[layer](steps[s], u)));
        mass_error = std::max(mass_error, std::abs(maps.mass_at(layer, int(s))[u] - expected.mass[layer](steps[s], u)));
      }
  CAPTURE(gguf);
  CHECK(score_error < score_tolerance);
  CHECK(mass_error < half_tolerance + score_tolerance);

  const auto nll = trace.nll(0);
  REQUIRE(nll.size() == expected.nll.size());
  double sum = 0, expected_sum = 0;
  for (size_t i = 0; i < nll.size(); ++i) {
    sum += nll[i];
    expected_sum += expected.nll[i];
  }
  CHECK(std::abs(sum - expected_sum) / double(nll.size()) < 1e-3);

  // Recall, by the definition: mass of layer l on the pages that layer a ranks first.
  const calib::Grid grid{{4}, {1}};
  const auto recall = calib::recalls(trace, grid).at(0);
  double worst = 0;
  for (int l = 0; l < n_layers; ++l)
    for (int a = 0; a <= l; ++a) {
      double kept = 0;
      int n = 0;
      for (const int t : steps) {
        const int U = t / 16 + 1;
        if (U <= 4) continue;
        std::vector<std::pair<double, int>> ranked;  // all but the newest page
        for (int u = 0; u < U - 1; ++u) ranked.push_back({-(expected.score[a](t, u) - 1e-7 * u), u});
        std::sort(ranked.begin(), ranked.end());
        kept += expected.mass[l](t, U - 1);
        for (int j = 0; j < 3; ++j) kept += expected.mass[l](t, ranked[j].second);
        ++n;
      }
      worst = std::max(worst, std::abs(recall.mean_active[recall.at(0, l, a)] - kept / n));
    }
  CHECK(worst < 1e-3);
}

}  // namespace

TEST_CASE("recording: scores, masses, recall and NLL equal the double-precision attention (tiny model)") {
  for (const char* architecture : {"llama", "qwen2"}) {
    const test::Scratch scratch;
    test::TinyModel options;
    options.architecture = architecture;
    test::write_tiny_model(options, scratch / "m.gguf");
    const model::Model model = model::Model::load(scratch / "m.gguf", model::Dtype::f32);
    const auto sample = sample_of(letters(300), 20);
    record_sample(scratch / "t.h5", model, sample, {record::parse_steps("all"), true, 64});
    check_against_reference(scratch / "m.gguf", trace::Reader(scratch / "t.h5"),
                            test::reference_run(scratch / "m.gguf", sample.ids, {20, {}, true}), 2e-5);
  }
}

TEST_CASE("recording: scores, masses, recall and NLL equal the double-precision attention (SmolLM2, 512 tokens)") {
  const test::Scratch scratch;
  const model::Model model = model::Model::load(DEFAULT_MODEL, model::Dtype::f32);
  const std::string path = PROJECT_DATA "/reasoning_traces.jsonl";
  const auto data = text::tokenize(text::read_jsonl(path), path, &model.tokenizer(), text::choose_preset("auto", model.tokenizer().vocabulary()),
                                   {512, 512, 8192, model.description().n_vocab, 1});
  const auto& sample = data.samples.at(0);
  record_sample(scratch / "t.h5", model, sample, {record::parse_steps("256"), false, 512});
  check_against_reference(DEFAULT_MODEL, trace::Reader(scratch / "t.h5"),
                          test::reference_run(DEFAULT_MODEL, sample.ids, {sample.n_prompt_tokens, {}, true}), 1e-3);
}

TEST_CASE("recording: replay and decode write the same trace of the same tokens") {
  const test::Scratch scratch;
  test::write_tiny_model({}, scratch / "m.gguf");
  for (const auto dtype : {model::Dtype::f32, model::Dtype::bf16}) {
    const model::Model model = model::Model::load(scratch / "m.gguf", dtype);
    const double tolerance = dtype == model::Dtype::f32 ? 1e-4 : 6e-2;
    const std::string name = model::name_of(dtype);
    {
      trace::Writer writer = new_trace(scratch / (name + "d.h5"), model);
      record_continuation(model, sample_of(letters(40), 40), {record::parse_steps("50:120"), true, 512},
                          {100, {}}, writer);
      writer.finish();
    }
    const trace::Reader decoded(scratch / (name + "d.h5"));
    CHECK(decoded.info(0).mode == "decode");
    CHECK(decoded.info(0).n_prompt_tokens == 40);
    record_sample(scratch / (name + "r.h5"), model, sample_of(decoded.token_ids(0), 40), {record::parse_steps("50:120"), true, 64});
    const trace::Reader replayed(scratch / (name + "r.h5"));
    REQUIRE(replayed.steps(0) == decoded.steps(0));
    CHECK(replayed.burst(0) == decoded.burst(0));
    CHECK(replayed.info(0).sha256 == decoded.info(0).sha256);
    const int n = int(replayed.steps(0).size());
    const auto a = replayed.pages(0, 0, 4, 0, n), b = decoded.pages(0, 0, 4, 0, n);
    CHECK(worst_difference(a.score, b.score) < tolerance);
    CHECK(worst_difference(a.mass, b.mass) < tolerance + half_tolerance);
    CHECK(worst_difference(replayed.group_mass(0, 0, 4, 0, n), decoded.group_mass(0, 0, 4, 0, n)) < tolerance + half_tolerance);
    CHECK(worst_difference(replayed.nll(0), decoded.nll(0)) < 10 * tolerance);
  }
}

TEST_CASE("recording: decoding that ends early leaves a sound, shorter sample") {
  const test::Scratch scratch;
  test::write_tiny_model({}, scratch / "m.gguf");
  const model::Model model = model::Model::load(scratch / "m.gguf", model::Dtype::f32);
  trace::Writer writer = new_trace(scratch / "t.h5", model);
  // Sampling at a high temperature meets one of the 3 end tokens of 288 soon.
  record_continuation(model, sample_of(letters(30), 30), {record::parse_steps("all"), false, 512},
                      {400, {100.0f, 0, 1.0f, 11}}, writer);
  writer.finish();
  const trace::Reader trace(scratch / "t.h5");
  const int T = trace.info(0).n_tokens;
  REQUIRE(T < 430);
  CHECK(model.tokenizer().ends_generation(trace.token_ids(0).back()));
  CHECK(trace.steps(0).size() == size_t(T - 30));
  CHECK(trace.nll(0).size() == size_t(T - 1));
  const auto maps = trace.pages(0, 3, 1, T - 31, 1);
  double sum = 0;
  for (const float m : maps.mass) sum += m;
  CHECK(std::abs(sum - 1) < maps.n_pages * half_tolerance);
}

TEST_CASE("recording: many continuations at once write the traces of each by itself, to its place") {
  const test::Scratch scratch;
  test::write_tiny_model({}, scratch / "m.gguf");
  const model::Model model = model::Model::load(scratch / "m.gguf", model::Dtype::f32);
  std::vector<text::TokenizedSample> samples;
  for (const int n : {30, 1, 200, 64, 17, 90}) samples.push_back(sample_of(letters(n), n));
  std::vector<record::Prompt> prompts;
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].id = "s" + std::to_string(i);
    prompts.push_back({&samples[i], int(i)});
  }
  // At this temperature some end early: before the first step to record, or between bursts.
  record::RecordOptions options{record::parse_steps("64"), true, 512,
                                sensitivity::Options{{{2, 1}, {4, 2}}, {}}};
  std::vector<std::vector<bool>> written;
  for (const int n_rows : {1, 2, 4}) {
    trace::Writer writer = new_trace(scratch / (std::to_string(n_rows) + ".h5"), model);
    written.push_back(
        record::record_decode(model, prompts, options, {160, {60.0f, 0, 1.0f, 4}, n_rows}, writer, nullptr));
    writer.finish();
  }
  CHECK(written[0] == written[1]);
  CHECK(written[0] == written[2]);
  const auto n_written = std::ranges::count(written[0], true);
  REQUIRE((n_written >= 2 && n_written < int(samples.size())));
  const trace::Reader one(scratch / "1.h5");
  for (const char* name : {"2.h5", "4.h5"}) {
    const trace::Reader many(scratch / name);
    REQUIRE(many.n_samples() == one.n_samples());
    for (int i = 0; i < one.n_samples(); ++i) {
      CHECK(many.info(i).id == one.info(i).id);
      REQUIRE(many.token_ids(i) == one.token_ids(i));
      REQUIRE(many.steps(i) == one.steps(i));
      CHECK(many.burst(i) == one.burst(i));
      const int n = int(one.steps(i).size());
      const auto a = one.pages(i, 0, 4, 0, n), b = many.pages(i, 0, 4, 0, n);
      CHECK(worst_difference(a.score, b.score) < 1e-4);
      CHECK(worst_difference(a.mass, b.mass) < 1e-4 + half_tolerance);
      CHECK(worst_difference(one.group_mass(i, 0, 4, 0, n), many.group_mass(i, 0, 4, 0, n)) <
            1e-4 + half_tolerance);
      CHECK(worst_difference(one.nll(i), many.nll(i)) < 1e-3);
      CHECK(many.has_sensitivity(i));
    }
  }
}

TEST_CASE("recording: a thread that writes behind the decoding writes the bytes of one that keeps up") {
  const test::Scratch scratch;
  test::write_tiny_model({}, scratch / "m.gguf");
  const model::Model model = model::Model::load(scratch / "m.gguf", model::Dtype::f32);
  std::vector<text::TokenizedSample> samples;
  std::vector<record::Prompt> prompts;
  for (int i = 0; i < 12; ++i) {
    samples.push_back(sample_of(letters(20 + 7 * i), 20 + 7 * i));
    samples.back().id = "s" + std::to_string(i);
  }
  for (const text::TokenizedSample& sample : samples) prompts.push_back({&sample, int(prompts.size())});
  for (const bool sensitive : {false, true}) {
    record::RecordOptions options{record::parse_steps("all"), true, 512};
    if (sensitive) options.sensitivity = sensitivity::Options{{{2, 1}, {4, 2}}, {}};
    std::vector<std::string> traces;
    // Most end long before 400 tokens, for which the trace is planned.
    for (const bool beside : {false, true}) {
      const std::string path =
          scratch / ((sensitive ? "s" : "p") + std::string(beside ? "beside.h5" : "inline.h5"));
      trace::Writer writer = new_trace(path, model);
      const auto written = record::record_decode(model, prompts, options,
                                                 {400, {100.0f, 0, 1.0f, 4}, 4, beside}, writer, nullptr);
      writer.finish();
      CHECK(std::ranges::count(written, true) > 6);
      traces.push_back(bytes_but_time(path));
    }
    CHECK((traces[0] == traces[1]));
  }
}

TEST_CASE("recording: the mass of heads averages to the mass of the layer") {
  const test::Scratch scratch;
  test::write_tiny_model({}, scratch / "m.gguf");
  const model::Model model = model::Model::load(scratch / "m.gguf", model::Dtype::f32);
  record_sample(scratch / "t.h5", model, sample_of(letters(100), 0), {record::parse_steps("all"), true, 512});
  const trace::Reader trace(scratch / "t.h5");
  const auto maps = trace.pages(0, 0, 4, 0, 100);
  const auto groups = trace.group_mass(0, 0, 4, 0, 100);  // [4, 100, 2, U]
  const int U = maps.n_pages;
  double worst = 0;
  for (size_t row = 0; row < 400; ++row)
    for (int u = 0; u < U; ++u)
      worst = std::max(worst, std::abs(0.5 * (groups[(row * 2) * U + u] + groups[(row * 2 + 1) * U + u]) - maps.mass[row * U + u]));
  CHECK(worst < half_tolerance);
}

TEST_CASE("recording: sensitivities of a continuation equal those of its replay, and change nothing else") {
  const test::Scratch scratch;
  test::write_tiny_model({}, scratch / "m.gguf");
  const model::Model model = model::Model::load(scratch / "m.gguf", model::Dtype::f32);
  record::RecordOptions options{record::parse_steps("64"), false, 64, sensitivity::Options{{{2, 1}, {4, 2}}, {}}};
  {
    trace::Writer writer = new_trace(scratch / "d.h5", model);
    REQUIRE(
        record_continuation(model, sample_of(letters(40), 40), options, {120, {1.0f, 0, 1.0f, 3}}, writer));
    writer.finish();
  }
  const trace::Reader decoded(scratch / "d.h5");
  const auto sample = sample_of(decoded.token_ids(0), 40);
  const auto steps = decoded.steps(0);
  options.steps = {record::StepChoice::Kind::range, 0, steps.front(), steps.back() + 1};
  record_sample(scratch / "r.h5", model, sample, options);
  options.sensitivity.reset();
  record_sample(scratch / "plain.h5", model, sample, options);
  const trace::Reader replayed(scratch / "r.h5"), plain(scratch / "plain.h5");
  REQUIRE(replayed.steps(0) == steps);
  CHECK_FALSE(plain.has_sensitivity(0));
  CHECK(plain.nll(0) == replayed.nll(0));
  CHECK(plain.pages(0, 0, 4, 0, 10).score == replayed.pages(0, 0, 4, 0, 10).score);

  const auto a = decoded.sensitivity(0), b = replayed.sensitivity(0);
  REQUIRE(a.kl.size() == b.kl.size());
  double largest = 0;
  for (size_t i = 0; i < a.kl.size(); ++i) {
    CHECK(std::isnan(a.kl[i]) == std::isnan(b.kl[i]));
    if (!std::isnan(a.kl[i])) CHECK(std::abs(a.kl[i] - b.kl[i]) <= 1e-3 * a.kl[i] + 1e-9);
    if (a.kl[i] > largest) largest = a.kl[i];
  }
  CHECK(largest > 0);
  // edge_kl is half the mean square of edge_delta, to the half precision of the latter.
  for (const int edge : {1, 4, 8}) {
    double sum = 0;
    const auto delta = replayed.edge_delta(0, 0, 0, 1, edge, 1);
    for (const float d : delta) sum += double(d) * d;
    const int target = edge == 1 ? 1 : edge == 4 ? 2 : 3, source = edge - target * (target + 1) / 2;
    const double kl = b.kl[size_t(target * 4 + source)];
    CHECK(std::abs(0.5 * sum / double(delta.size()) - kl) <= 2e-3 * kl + 1e-9);
  }
}
