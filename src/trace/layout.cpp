#include "trace/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace deltacal::trace {
namespace {

int read_int(hid_t where, const std::string& name, int lowest) {
  const int64_t value = h5::read_integer(where, name);
  if (value < lowest || value > std::numeric_limits<int>::max())
    throw h5::Fault(fmt::format("attribute {} is {}, out of range", name, value));
  return static_cast<int>(value);
}

void write_int(hid_t where, const std::string& name, int value) {
  h5::write_attribute(where, name, int64_t{value});
}

}  // namespace

void write_head(hid_t file, const Provenance& made, const std::string& options) {
  h5::write_attribute(file, "format", std::string(format_name));
  write_int(file, "schema_version", schema_version);
  h5::write_attribute(file, "tool_version", std::string(tool_version));
  h5::write_attribute(file, "command", made.command);
  h5::write_attribute(file, "seed", made.seed);
  h5::write_attribute(file, "created", utc_now());
  h5::write_attribute(file, "options", options);
}

Provenance read_head(hid_t file, std::string& options) {
  if (!h5::has_attribute(file, "format"))
    throw h5::Fault("an HDF5 file of another kind: it has no attribute \"format\"");
  if (const std::string format = h5::read_text(file, "format"); format != format_name)
    throw h5::Fault(
        fmt::format("an HDF5 file of another kind: format \"{}\", expected \"{}\"", format, format_name));
  if (const int version = read_int(file, "schema_version", 0); version != schema_version)
    throw h5::Fault(fmt::format("schema_version {} is not supported, this version of deltacal ({}) reads {}",
                                version, tool_version, schema_version));
  if (h5::has_attribute(file, "options")) options = h5::read_text(file, "options");
  return {.command = h5::read_text(file, "command"), .seed = h5::read_unsigned(file, "seed")};
}

void write_model(hid_t file, const ModelInfo& model) {
  const h5::Id group = h5::create_group(file, "model");
  h5::write_attribute(group.get(), "name", model.name);
  h5::write_attribute(group.get(), "architecture", model.architecture);
  h5::write_attribute(group.get(), "sha256", model.sha256);
  write_int(group.get(), "n_layers", model.n_layers);
  write_int(group.get(), "n_heads", model.n_heads);
  write_int(group.get(), "n_kv_heads", model.n_kv_heads);
  write_int(group.get(), "head_dim", model.head_dim);
  write_int(group.get(), "page_size", model.page_size);
  write_int(group.get(), "max_context", model.max_context);
  h5::write_attribute(group.get(), "dtype", model.dtype);
  if (!model.device.empty()) h5::write_attribute(group.get(), "device", model.device);
}

ModelInfo read_model(hid_t file) {
  if (!h5::exists(file, "model")) throw h5::Fault("group model is missing");
  const h5::Id group = h5::open_group(file, "model");
  ModelInfo model;
  model.name = h5::read_text(group.get(), "name");
  model.architecture = h5::read_text(group.get(), "architecture");
  model.sha256 = h5::read_text(group.get(), "sha256");
  model.n_layers = read_int(group.get(), "n_layers", 1);
  model.n_heads = read_int(group.get(), "n_heads", 1);
  model.n_kv_heads = read_int(group.get(), "n_kv_heads", 1);
  model.head_dim = read_int(group.get(), "head_dim", 1);
  model.page_size = read_int(group.get(), "page_size", 1);
  model.max_context = read_int(group.get(), "max_context", 0);
  model.dtype = h5::read_text(group.get(), "dtype");
  if (h5::has_attribute(group.get(), "device")) model.device = h5::read_text(group.get(), "device");
  return model;
}

namespace {

std::vector<std::string> read_parts(hid_t sample) {
  if (!h5::has_attribute(sample, "parts")) return {};
  const auto parts = nlohmann::json::parse(h5::read_text(sample, "parts"), nullptr, false);
  const bool texts =
      parts.is_array() && std::ranges::all_of(parts, [](const auto& p) { return p.is_string(); });
  if (!texts) throw h5::Fault("attribute parts is not a JSON list of texts");
  return parts.get<std::vector<std::string>>();
}

}  // namespace

void write_info(hid_t sample, const SampleInfo& info) {
  h5::write_attribute(sample, "id", info.id);
  h5::write_attribute(sample, "task", info.task);
  h5::write_attribute(sample, "problem", info.problem);
  h5::write_attribute(sample, "sha256", info.sha256);
  h5::write_attribute(sample, "mode", info.mode);
  write_int(sample, "n_tokens", info.n_tokens);
  write_int(sample, "n_prompt_tokens", info.n_prompt_tokens);
  if (!info.parts.empty()) h5::write_attribute(sample, "parts", nlohmann::json(info.parts).dump());
}

SampleInfo read_info(hid_t sample) {
  SampleInfo info;
  info.id = h5::read_text(sample, "id");
  info.task = h5::read_text(sample, "task");
  info.problem = h5::read_text(sample, "problem");
  info.sha256 = h5::read_text(sample, "sha256");
  info.mode = h5::read_text(sample, "mode");
  info.n_tokens = read_int(sample, "n_tokens", 1);
  info.n_prompt_tokens = read_int(sample, "n_prompt_tokens", 0);
  info.parts = read_parts(sample);
  if (info.mode != "replay" && info.mode != "decode")
    throw h5::Fault(fmt::format("attribute mode is \"{}\", expected \"replay\" or \"decode\"", info.mode));
  if (info.n_prompt_tokens > info.n_tokens)
    throw h5::Fault(
        fmt::format("n_prompt_tokens {} is more than n_tokens {}", info.n_prompt_tokens, info.n_tokens));
  return info;
}

std::string sample_name(int index) {
  return fmt::format("{:06}", index);
}

std::string group_name(const Ranking& ranking) {
  std::string name = name_of(ranking);
  std::ranges::replace(name, ':', '-');
  return name;
}

Ranking ranking_of_group(const std::string& name) {
  std::string text = name;
  if (const size_t colon = text.find('-'); colon != std::string::npos) text[colon] = ':';
  try {
    if (const Ranking ranking = parse_ranking(text); group_name(ranking) == name) return ranking;
  } catch (const Error&) {
  }
  throw h5::Fault(fmt::format("rankings/{} is named after no ranking of pages", name));
}

std::string steps_fault(std::span<const int32_t> steps, std::span<const int32_t> burst,
                        const SampleInfo& info) {
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i] < info.n_prompt_tokens || steps[i] >= info.n_tokens)
      return fmt::format("dataset steps: {} at index {} is outside {}..{}, the positions after the prompt",
                         steps[i], i, info.n_prompt_tokens, info.n_tokens - 1);
    if (i == 0) continue;
    if (steps[i] <= steps[i - 1])
      return fmt::format("dataset steps: {} after {} at index {}: not ascending", steps[i], steps[i - 1], i);
    if (burst[i] < burst[i - 1] || (burst[i] == burst[i - 1] && steps[i] != steps[i - 1] + 1))
      return fmt::format("dataset burst: {} after {} at index {}: not a run of consecutive steps", burst[i],
                         burst[i - 1], i);
  }
  return "";
}

int steps_in_chunk(size_t bytes_per_step, int max_steps) {
  const size_t target = 512 << 10;
  const size_t steps = std::max<size_t>(1, target / std::max<size_t>(1, bytes_per_step));
  return static_cast<int>(std::clamp<size_t>(static_cast<size_t>(max_steps), 1, steps));
}

std::string model_difference(const ModelInfo& found, const ModelInfo& expected) {
  if (const std::string geometry = geometry_difference(found, expected); !geometry.empty()) return geometry;
  if (found.page_size != expected.page_size)
    return fmt::format("page_size {}, expected {}", found.page_size, expected.page_size);
  if (found.sha256 != expected.sha256)
    return fmt::format("model {} (sha256 {:.8}…), expected {} (sha256 {:.8}…)", found.name, found.sha256,
                       expected.name, expected.sha256);
  if (found.dtype != expected.dtype) return fmt::format("dtype {}, expected {}", found.dtype, expected.dtype);
  return "";
}

}  // namespace deltacal::trace
