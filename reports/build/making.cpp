// How the numbers were made: files, commands, hashes, seeds, definitions; and a bench file as it is.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "reports/build/parts.h"
#include "reports/format.h"

namespace deltacal::reports {
namespace {

bool is_head(const std::string& name) {
  return name == "format" || name == "schema_version" || name == "tool_version" || name == "command" ||
         name == "seed" || name == "created";
}

bool is_scalar(const Json& value) {
  return value.is_primitive() && !value.is_null();
}
bool is_estimate(const Json& value) {
  return value.is_object() && value.contains("mean");
}

Cell bench_cell(const Field& field) {
  if (field.value().is_number() || is_estimate(field.value())) return field.estimate();
  return field.any_text();
}

// A row a record; the columns are the names in order of appearance. Nested objects become "outer.inner".
void flatten(const Field& field, const std::string& prefix, std::vector<std::pair<std::string, Cell>>& out) {
  for (const auto& [name, value] : field.members()) {
    if (is_scalar(value.value()) || is_estimate(value.value()))
      out.emplace_back(prefix + name, bench_cell(value));
    else if (value.is_object())
      flatten(value, prefix + name + ".", out);
    else if (!value.is_null())
      out.emplace_back(prefix + name, value.any_text());
  }
}

// Decimals for a column whose unit is not known: none for whole numbers, else four digits of the largest.
int decimals_for(const Table& table, size_t column) {
  double largest = 0;
  bool whole_numbers = true;
  for (const auto& row : table.rows) {
    const auto* e = std::get_if<Estimate>(&row[column]);
    if (!e || !e->has_value()) continue;
    largest = std::max(largest, std::abs(e->value));
    whole_numbers = whole_numbers && e->value == std::floor(e->value);
  }
  if (whole_numbers) return 0;
  return largest >= 100 ? 1 : largest >= 10 ? 2 : largest >= 1 ? 3 : 4;
}

Table records(const Field& array) {
  Table table;
  std::vector<std::vector<std::pair<std::string, Cell>>> rows;
  for (const Field& item : array.items()) {
    flatten(item, "", rows.emplace_back());
    for (const auto& [name, value] : rows.back()) {
      bool known = false;
      for (const auto& column : table.columns) known = known || column.name == name;
      if (!known) table.columns.push_back({name, "", 4});
    }
  }
  for (const auto& row : rows) {
    auto& cells = table.rows.emplace_back(table.columns.size(), Cell{std::string()});
    for (const auto& [name, value] : row)
      for (size_t c = 0; c < cells.size(); ++c)
        if (table.columns[c].name == name) cells[c] = value;
  }
  for (size_t c = 0; c < table.columns.size(); ++c) table.columns[c].decimals = decimals_for(table, c);
  return table;
}

std::string source_text(const Source& source) {
  return source.sha256.empty() ? source.path : fmt::format("{} (sha256 {})", source.path, source.sha256);
}

// One table a file: what it says of its own making.
Figure made(const char* id, const Head& head, const std::vector<std::pair<std::string, std::string>>& more) {
  Table table{{quantity::text("Fact"), quantity::text("Value")}, {}};
  const auto add = [&](const std::string& name, const std::string& value) {
    if (!value.empty()) table.rows.push_back({name, value});
  };
  add("format", head.format);
  add("command", head.command);
  add("seed", head.seed);
  add("tool version", head.tool_version);
  add("created", head.created);
  add("device", head.device);
  for (const auto& [name, value] : more) add(name, value);
  return {.id = id, .title = head.file, .width = Width::half, .body = std::move(table)};
}

std::vector<Figure> files(const Parts& parts) {
  std::vector<Figure> figures;
  if (const auto& a = parts.analysis)
    figures.push_back(made("file-analysis", a->head,
                           {{"made from the trace", source_text(a->trace)}, {"n", counts_text(a->counts)}}));
  if (const auto& c = parts.config)
    figures.push_back(made("file-config", c->head,
                           {{"sha256 of this file", parts.config_sha256},
                            {"made from the trace", source_text(c->trace)},
                            {"method", c->method},
                            {"objective", c->objective},
                            {"budget", c->budget},
                            {"n", c->counts.samples > 0 ? counts_text(c->counts) : ""}}));
  if (const auto& v = parts.validation)
    figures.push_back(made("file-validation", v->head,
                           {{"config", source_text(v->config)},
                            {"data", source_text(v->data)},
                            {"n", v->policies.empty() ? "" : counts_text(counts_of(v->policies.front()))}}));
  if (const auto& c = parts.comparison)
    figures.push_back(made("file-comparison", c->head,
                           {{"made from the trace", source_text(c->trace)},
                            {"data", source_text(c->data)},
                            {"objective", c->objective},
                            {"budget", c->budget},
                            {"n", counts_text(c->counts)}}));
  if (parts.bench) {
    const Field bench(*parts.bench, parts.bench_file);
    const auto model = bench.find("model");
    const auto name = model ? model->find("name") : std::nullopt;
    figures.push_back(made("file-bench", parse_head(bench), {{"model", name ? name->any_text() : ""}}));
  }
  return figures;
}

Figure identity(const Model& model) {
  Table table{{quantity::text("Model"), quantity::text("Value")}, {}};
  table.rows = {{std::string("name"), model.name},
                {std::string("architecture"), model.architecture},
                {std::string("sha256 of the file"), model.sha256},
                {std::string("layers"), whole(model.n_layers)},
                {std::string("query heads"), whole(model.n_heads)},
                {std::string("key/value heads"), whole(model.n_kv_heads)},
                {std::string("head dimension"), whole(model.head_dim)}};
  table.columns[1].decimals = 0;
  return {.id = "model", .title = "Model", .width = Width::half, .body = std::move(table)};
}

Figure definitions() {
  Table table{{quantity::text("Quantity"), quantity::text("Definition"), quantity::text("Unit")}, {}};
  const auto add = [&](const char* name, const char* definition, const char* unit) {
    table.rows.push_back({std::string(name), std::string(definition), std::string(unit)});
  };
  add("Page", "16 consecutive positions of the key/value cache.", "page");
  add("Page score",
      "Sum over the positions of a page of the largest attention probability of any head; DELTA ranks the "
      "pages by it.",
      "probability");
  add("Page mass",
      "Mean over the heads of the attention probability that falls on a page; sums to 1 over the pages.",
      "fraction of mass");
  add("K, k, L",
      "K: length of a \u0394-layer's list; k: the pages of it that a sparse layer reads; L: the newest "
      "pages, "
      "always in the list.",
      "pages");
  add("Recall",
      "Page mass of a layer on the first k pages of the list made by a layer at or below it, at active "
      "steps.",
      "fraction of mass");
  add("Oracle recall", "The largest page mass that any k pages of the layer hold.", "fraction of mass");
  add("Attended-token ratio",
      "Tokens that full attention would read over tokens read, summed over layers and steps.",
      "x, at least 1");
  add("NLL gap",
      "Mean negative log-likelihood of the given next token under the policy minus under full attention.",
      "nats/token");
  add("KL",
      "Kullback-Leibler divergence of the policy's next-token distribution from that of full attention.",
      "nats/token");
  add("Top-1 agreement",
      "Share of steps at which the policy and full attention name the same most likely token.", "fraction");
  add("Layer drift, step drift",
      "1 minus the cosine of page scores: of neighbouring layers at a step, of neighbouring steps in "
      "a layer.",
      "1 - cosine");
  add("Stale recall",
      "Page mass kept by a list made some steps earlier, together with the newest L pages of now.",
      "fraction of mass");
  add("Active step", "A step that sees more pages than the smallest k of the config.", "step");
  add("Interval",
      "Resampled over problems with all their samples, never over steps; none where there are too few "
      "problems.",
      "of the quantity");
  return {.id = "definitions", .title = "Definitions", .body = std::move(table)};
}

std::vector<std::string> what_is_missing(const Parts& parts) {
  std::vector<std::string> notes;
  if (!parts.analysis)
    notes.push_back(
        "Recall of all pairs of layers, correlation, drift, stale recall and half-life: pass the "
        "analysis.json "
        "that \"deltacal analyze trace.h5 --out analysis.json\" writes.");
  if (!parts.config)
    notes.push_back(
        "The schedule, its lists and its alternatives: pass the delta_config.json that \"deltacal "
        "calibrate\" "
        "writes.");
  if (!parts.validation)
    notes.push_back(
        "The verdict, NLL gap, KL and agreement on held-out samples: pass the validation.json that "
        "\"deltacal "
        "validate\" writes.");
  if (!parts.comparison)
    notes.push_back(
        "Methods at equal cost on the same samples: pass the compare.json that \"deltacal calibrate "
        "--compare\" writes.");
  if (!parts.bench)
    notes.push_back("Times of decoding: pass the file that \"deltacal bench --out bench.json\" writes.");
  return notes;
}

}  // namespace

Section bench_section(const Field& root) {
  Section section{"bench", "Bench", "As the bench file gives them, in its own names and units.", {}};
  Table scalars{{quantity::text("Field"), {"Value", "", 3}}, {}};
  int n = 0;
  for (const auto& [name, value] : root.members()) {
    if (is_head(name) || name == "model" || name == "device") continue;  // said under "How it was made"
    const bool array_of_objects =
        value.value().is_array() && !value.value().empty() && value.value().front().is_object();
    if (array_of_objects) {
      section.figures.push_back({.id = fmt::format("bench-{}", ++n), .title = name, .body = records(value)});
    } else if (value.is_object() && !is_estimate(value.value())) {
      std::vector<std::pair<std::string, Cell>> entries;
      flatten(value, name + ".", entries);
      for (auto& [key, entry] : entries) scalars.rows.push_back({key, std::move(entry)});
    } else if (!value.is_null()) {
      scalars.rows.push_back({name, bench_cell(value)});
    }
  }
  if (!scalars.rows.empty())
    section.figures.insert(section.figures.begin(),
                           {.id = "bench-fields", .title = "Setting and totals", .body = std::move(scalars)});
  return section;
}

Section making_section(const Parts& parts) {
  Section section{"making", "How it was made", "", {}};
  section.figures = files(parts);
  if (const Model* model = model_of(parts)) section.figures.push_back(identity(*model));
  section.figures.push_back(definitions());
  if (const auto notes = what_is_missing(parts); !notes.empty())
    section.figures.push_back({.id = "left-out", .title = "Not in this report", .body = Text{notes}});
  return section;
}

}  // namespace deltacal::reports
