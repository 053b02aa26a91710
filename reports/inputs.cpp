#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "reports/artefacts.h"
#include "reports/report.h"

namespace deltacal::reports {
namespace {

constexpr int schema_version = 1;

// Brackets open at once, outside strings. Values are walked recursively later: a bound keeps that safe.
int nesting(const std::string& content) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < content.size(); ++i) {
    const char c = content[i];
    if (in_string && c == '\\') ++i;
    if (c == '"') in_string = !in_string;
    if (in_string) continue;
    if (c == '[' || c == '{') deepest = std::max(deepest, ++depth);
    if (c == ']' || c == '}') --depth;
  }
  return deepest;
}

Json parse(const std::string& file, const std::string& content) {
  constexpr int deepest = 32;  // the artefacts need 7
  if (nesting(content) > deepest)
    throw bad_input("{}: values nested more than {} deep; no artefact is", file, deepest);
  try {
    return Json::parse(content);
  } catch (const Json::exception& e) {
    throw bad_input("{} is not valid JSON: {}", file, e.what());
  }
}

std::string format_of(const Json& document, const std::string& file) {
  if (!document.is_object() || !document.contains("format") || !document["format"].is_string())
    throw bad_input(
        "{}: no field format. A report is made from analysis, config, validation, compare and bench files.",
        file);
  const Field version = Field(document, file).at("schema_version");
  if (version.count() != schema_version)
    throw bad_input("{}: schema_version {} is not supported, this version reads {}", file, version.count(),
                    schema_version);
  return document["format"].get<std::string>();
}

struct Slot {
  const char* format;
  std::optional<Json> Inputs::*document;
  std::string Inputs::*file;
};

constexpr std::array<Slot, 5> slots{{{"deltacal-analysis", &Inputs::analysis, &Inputs::analysis_file},
                                     {"deltacal-config", &Inputs::config, &Inputs::config_file},
                                     {"deltacal-validation", &Inputs::validation, &Inputs::validation_file},
                                     {"deltacal-compare", &Inputs::comparison, &Inputs::comparison_file},
                                     {"deltacal-bench", &Inputs::bench, &Inputs::bench_file}}};

// What tells one model from another. A bench gives no geometry, and no hash for a shape with random weights.
struct Identity {
  std::string file, name, sha256;
  int n_layers = 0;  // 0: not told
};

std::optional<Identity> identity(const Field& root, bool is_bench) {
  if (!is_bench) {
    const Model model = parse_model(root);
    return Identity{root.file(), model.name, model.sha256, model.n_layers};
  }
  const auto model = root.find("model");
  const auto sha256 = model && model->is_object() ? model->find("sha256") : std::nullopt;
  if (!sha256 || sha256->text().empty()) return std::nullopt;
  const auto name = model->find("name");
  return Identity{root.file(), name ? name->any_text() : "", sha256->text(), 0};
}

}  // namespace

void require_one_model(const Inputs& in) {
  std::optional<Identity> first;
  for (const Slot& slot : slots) {
    const auto& document = in.*slot.document;
    if (!document) continue;
    const auto found = identity(Field(*document, in.*slot.file), slot.document == &Inputs::bench);
    if (!found) continue;
    if (!first) {
      first = found;
      continue;
    }
    if (found->sha256 != first->sha256)
      throw bad_input("{} is of the model {} (sha256 {}), {} of {} (sha256 {}). Pass files of one model.",
                      first->file, first->name, first->sha256, found->file, found->name, found->sha256);
    if (found->n_layers != 0 && found->n_layers != first->n_layers)
      throw bad_input("{} has {} layers, {} has {}, of the same model. Make one of them again.", first->file,
                      first->n_layers, found->file, found->n_layers);
  }
}

Inputs read_inputs(const std::vector<std::string>& files) {
  if (files.empty())
    throw bad_input("no file given: pass an analysis, config, validation, compare or bench file");
  Inputs in;
  for (const std::string& file : files) {
    const std::string content = read_file(file);
    Json document = parse(file, content);
    const std::string format = format_of(document, file);
    bool known = false;
    for (const Slot& slot : slots) {
      if (format != slot.format) continue;
      known = true;
      if (in.*slot.document)
        throw bad_input("{} and {} both hold \"{}\": pass one of them", in.*slot.file, file, format);
      in.*slot.document = std::move(document);
      in.*slot.file = file;
    }
    if (!known)
      throw bad_input(
          "{} holds \"{}\". A report is made from deltacal-analysis, -config, -validation, -compare and "
          "-bench.",
          file, format);
    if (format == "deltacal-config") in.config_sha256 = sha256(content);
  }
  require_one_model(in);
  return in;
}

}  // namespace deltacal::reports
