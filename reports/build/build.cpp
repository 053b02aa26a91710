#include <fmt/format.h>

#include "reports/build/parts.h"
#include "reports/report.h"

namespace deltacal::reports {
namespace {

Parts parse(const Inputs& in) {
  Parts parts;
  if (in.analysis) parts.analysis = parse_analysis(Field(*in.analysis, in.analysis_file));
  if (in.config) parts.config = parse_config(Field(*in.config, in.config_file));
  if (in.validation) parts.validation = parse_validation(Field(*in.validation, in.validation_file));
  if (in.comparison) parts.comparison = parse_comparison(Field(*in.comparison, in.comparison_file));
  if (in.bench) parts.bench = &*in.bench;
  parts.bench_file = in.bench_file;
  parts.config_sha256 = in.config_sha256;
  return parts;
}

}  // namespace

const Model* model_of(const Parts& parts) {
  if (parts.config) return &parts.config->model;
  if (parts.analysis) return &parts.analysis->model;
  if (parts.validation) return &parts.validation->model;
  return parts.comparison ? &parts.comparison->model : nullptr;
}

Report build(const Inputs& in) {
  require_one_model(in);
  const Parts parts = parse(in);
  const Config* config = parts.config ? &*parts.config : nullptr;
  Report report;
  if (const Model* model = model_of(parts)) {
    report.title = fmt::format("DELTA calibration of {}", model->name);
    report.subtitle =
        fmt::format("{}: {} layers, {} query heads, {} key/value heads, head dimension {}",
                    model->architecture, model->n_layers, model->n_heads, model->n_kv_heads, model->head_dim);
  } else {
    report.title = "DELTA bench";
  }
  report.sections.push_back(summary_section(parts));
  if (config) report.sections.push_back(schedule_section(*config));
  if (parts.validation) report.sections.push_back(validation_section(*parts.validation));
  if (parts.comparison) report.sections.push_back(comparison_section(*parts.comparison));
  report.sections.push_back(recall_section(parts));
  if (parts.analysis) {
    report.sections.push_back(correlation_section(*parts.analysis, config));
    report.sections.push_back(drift_section(*parts.analysis, config));
  }
  if (parts.bench) report.sections.push_back(bench_section(Field(*parts.bench, parts.bench_file)));
  report.sections.push_back(making_section(parts));
  std::erase_if(report.sections, [](const Section& section) { return section.figures.empty(); });
  number_figures(report);
  return report;
}

}  // namespace deltacal::reports
