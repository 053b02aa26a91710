#include "bench_common.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <random>

#include "calib/recall.h"
#include "core/error.h"
#include "decode/decoder.h"
#include "decode/device_info.h"
#include "inputs.h"
#include "record/record.h"
#include "text/data.h"

namespace deltacal::tools {

using Json = nlohmann::ordered_json;

namespace {

std::string csv_of(const Json& json) {
  std::string out =
      "what,rows,context,median_s,min_s,max_s,read_gb,share_of_read_bandwidth,over_full,over_floor\n";
  const auto number = [](const Json& from, const char* name) {
    return from.contains(name) ? fmt::format("{}", from[name].get<double>()) : std::string();
  };
  const auto line = [&](const std::string& what, const Json& rows, const Json& context, const Json& time,
                        const Json& item) {
    // Of a step the share that it takes of full attention's time, of a layer the same; of a recorded step, of
    // the plain one's.
    std::string over_full = number(item, "over_full_attention");
    if (item.contains("speedup_over_full"))
      over_full = fmt::format("{}", 1 / item["speedup_over_full"].get<double>());
    if (item.contains("over_plain")) over_full = number(item, "over_plain");
    out += fmt::format("\"{}\",{},{},{},{},{},{},{},{},{}\n", what, rows.get<int>(), context.get<int>(),
                       number(time, "median_s"), number(time, "min_s"), number(time, "max_s"),
                       number(item, "read_gb"), number(item, "share_of_read_bandwidth"), over_full,
                       number(item, "over_floor"));
  };
  const Json& prefill = json["prefill"];
  for (const char* kind : {"plain", "recorded", "sensitivity"})
    if (prefill.contains(kind))
      line(fmt::format("prefill, {}", kind), 1, prefill["tokens"], prefill[kind], Json::object());
  for (const Json& d : json["decode"])
    line(fmt::format("decode, {}", d["policy"].get<std::string>()), d.value("rows", 1), d["context"],
         d["step"], d);
  if (json.contains("recording"))
    for (const Json& r : json["recording"])
      line(fmt::format("decode, full, every {}th step recorded", r["every"].get<int>()), r["rows"],
           r["context"], r["step"], r);
  if (json.contains("layers"))
    for (const Json& k : json["layers"])
      line(k["what"].get<std::string>(), k["rows"], k["context"], k["call"], k);
  return out;
}

sensitivity::Options sensitivity_of(const BenchOptions& o) {
  return {calib::Grid{}.pairs(), {/*draws=*/2, o.made.seed}};
}

// Removed with what it holds, also where a run fails.
struct TemporaryFolder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("deltacal-bench-{}", ::getpid());
  TemporaryFolder() { std::filesystem::create_directory(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

void Printed::add(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
  text_ += text;
}

std::vector<int32_t> tokens_for(const BenchOptions& o, const model::Model& model, int n) {
  if (o.data.empty()) {
    std::mt19937_64 random(o.made.seed);
    std::vector<int32_t> ids(n);
    for (auto& id : ids) id = static_cast<int32_t>(random() % model.description().n_vocab);
    return ids;
  }
  const auto samples = text::read_jsonl(o.data);
  const auto data = text::tokenize(samples, o.data, &model.tokenizer(), text::ChatPreset::none,
                                   {n, n, model.info().max_context, model.description().n_vocab, 1});
  if (data.samples.empty()) throw bad_input("{}: no sample has {} tokens", o.data, n);
  return data.samples[0].ids;
}

PrefillFigures bench_prefill(const BenchOptions& o, const model::Model& model,
                             const std::vector<int32_t>& ids, int repeats) {
  PrefillFigures out;
  out.plain = time_of(repeats, [&] {
    decode::KvCache cache(model, 1, static_cast<int>(ids.size()));
    decode::Decoder decoder(model, cache, decode::full_policy(model.info().n_layers));
    decode::replay(decoder, ids, 0, [&](int first, int n) {
      decoder.nll(0, std::span(ids).subspan(first + 1, std::min<size_t>(n, ids.size() - 1 - first)));
    });
    if (model.device() == model::Device::cuda) decode::wait_for_device();
  });
  const text::TokenizedSample sample{"bench", "", "bench", "", ids, 0, ""};
  out.n_recorded = static_cast<int>(
      record::choose_steps(record::RecordOptions{}.steps, 0, static_cast<int>(ids.size()), sample.id)
          .steps.size());
  const TemporaryFolder folder;
  const std::string path = (folder.path / "trace.h5").string();
  const auto record = [&](const record::RecordOptions& options) {
    trace::Writer writer(path, trace::Writer::Start::replace, model.info(), o.made, {});
    record::record_replay(model, sample, options, writer, 0, nullptr);
    writer.finish();
  };
  out.recorded = time_of(repeats, [&] { record({}); });
  if (o.sensitivity) {
    record::RecordOptions with_pass;
    with_pass.sensitivity = sensitivity_of(o);
    out.sensitivity = time_of(std::min(repeats, 3), [&] { record(with_pass); });
  }
  return out;
}

decode::PrefillNeed need_of_prefill(const BenchOptions& o, const model::Description& d) {
  record::RecordOptions options;
  if (o.sensitivity) options.sensitivity = sensitivity_of(o);
  return record::device_need(d, o.prefill_tokens, options);
}

void print(const PrefillFigures& prefill, int n_tokens, Printed& page) {
  const auto rate = [&](const Timing& t) {
    return fmt::format("{:.0f} tokens/s ({:.2f} to {:.2f} s)", n_tokens / t.median, t.low, t.high);
  };
  page.print("| prefill of {} tokens | {} | |\n", n_tokens, rate(prefill.plain));
  page.print("| the same, {} step{} recorded to a trace | {} | {:.2f} times the plain prefill's time |\n",
             prefill.n_recorded, prefill.n_recorded == 1 ? "" : "s", rate(prefill.recorded),
             prefill.recorded.median / prefill.plain.median);
  if (prefill.sensitivity)
    page.print(
        "| the same with the sensitivity pass, 2 draws | {} | {:.2f} times the plain prefill's time |\n",
        rate(*prefill.sensitivity), prefill.sensitivity->median / prefill.plain.median);
}

Json to_json(const PrefillFigures& prefill, int n_tokens) {
  Json json{{"tokens", n_tokens},
            {"plain", to_json(prefill.plain)},
            {"recorded", to_json(prefill.recorded)},
            {"recorded_over_plain", prefill.recorded.median / prefill.plain.median}};
  if (prefill.sensitivity) {
    json["sensitivity"] = to_json(*prefill.sensitivity);
    json["sensitivity_over_plain"] = prefill.sensitivity->median / prefill.plain.median;
  }
  return json;
}

Json bench_head(const BenchOptions& o, const model::Model& model) {
  Json json = artefact_head("deltacal-bench", 1, o.made);
  json["model"] = {
      {"name", model.info().name}, {"sha256", model.info().sha256}, {"dtype", model.info().dtype}};
  json["device"] = device_name(model.device());
  return json;
}

void write_bench(const BenchOptions& o, const Json& json, const Printed& page) {
  if (!o.out.empty()) write_file_atomically(o.out, json.dump(1) + "\n", o.existing());
  if (!o.csv.empty()) write_file_atomically(o.csv, csv_of(json), o.existing());
  if (!o.markdown.empty()) write_file_atomically(o.markdown, page.text(), o.existing());
}

int write_cost_table(const BenchOptions& o, const calib::CostTable& table) {
  calib::write_cost_table(table, o.cost_table, o.existing(), o.made);
  Printed page;
  page.print("{}{}; medians of {}, in microseconds: one layer's attention, and the rest of the step\n\n",
             table.device, table.batch > 1 ? fmt::format(", {} rows", table.batch) : "", o.repeats);
  page.print("| context | full | delta | sparse {} pages | other |\n|---|---|---|---|---|\n",
             fmt::join(table.k_pages, ", "));
  const auto us = [](double ms) {
    return ms < 0.1 ? fmt::format("{:.1f}", 1e3 * ms) : fmt::format("{:.0f}", 1e3 * ms);
  };
  for (size_t c = 0; c < table.contexts.size(); ++c) {
    std::vector<std::string> sparse;
    for (const double ms : table.sparse_ms[c]) sparse.push_back(us(ms));
    page.print("| {} | {} | {} | {} | {} |\n", table.contexts[c], us(table.full_ms[c]), us(table.delta_ms[c]),
               fmt::join(sparse, ", "), us(table.other_ms[c]));
  }
  if (!o.markdown.empty()) write_file_atomically(o.markdown, page.text(), o.existing());
  fmt::print("\ncost table {}\n", o.cost_table);
  return 0;
}

}  // namespace deltacal::tools
