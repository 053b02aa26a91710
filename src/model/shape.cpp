#include "model/shape.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "config/fields.h"
#include "core/error.h"
#include "core/files.h"
#include "model/shape_files.h"

namespace deltacal::model {
namespace {

using config::Fields;
using config::Json;

bool flag(const Fields& f, const std::string& name) {
  const Json& value = f.required(name);
  if (!value.is_boolean()) throw f.wrong(name, "true or false");
  return value.get<bool>();
}

int multiple_of_8(const Fields& f, const std::string& name) {
  const int n = f.integer(name, 8);
  if (n % 8 != 0) throw f.wrong(name, "a multiple of 8");
  return n;
}

Shape parse(const std::string& text, const std::string& file) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& e) {
    throw bad_input("{}: not JSON: {}", file, e.what());
  }
  const Fields f(json, file, "",
                 {"format", "schema_version", "name", "architecture", "source", "left_out", "n_layers",
                  "n_embd", "n_heads", "n_kv_heads", "head_dim", "n_ff", "n_vocab", "max_context", "rms_eps",
                  "rope_base", "rope_pairs", "qkv_bias", "tied_output"});
  if (f.text("format") != "deltacal-shape") throw f.wrong("format", "\"deltacal-shape\"");
  if (f.integer("schema_version", 1) != 1) throw f.wrong("schema_version", "1");
  Shape shape;
  shape.source = f.text("source");
  shape.left_out = f.text_or("left_out", "");
  Description& d = shape.description;
  d.info.name = f.text("name");
  d.info.architecture = f.text("architecture");
  d.info.n_layers = f.integer("n_layers", 1);
  d.info.n_heads = f.integer("n_heads", 1);
  d.info.n_kv_heads = f.integer("n_kv_heads", 1);
  if (d.info.n_heads % d.info.n_kv_heads != 0)
    throw f.wrong("n_heads", fmt::format("a multiple of n_kv_heads, which is {}", d.info.n_kv_heads));
  d.info.head_dim = f.integer("head_dim", 2);
  if (d.info.head_dim % 2 != 0) throw f.wrong("head_dim", "an even number");
  d.info.max_context = f.integer("max_context", 1);
  d.n_vocab = f.integer("n_vocab", 1);
  d.n_embd = multiple_of_8(f, "n_embd");
  d.n_ff = multiple_of_8(f, "n_ff");
  d.rms_eps = static_cast<float>(f.number("rms_eps"));
  if (!(d.rms_eps >= 0)) throw f.wrong("rms_eps", "0 or more");
  d.rope.base = f.number("rope_base");
  if (!(d.rope.base > 0)) throw f.wrong("rope_base", "more than 0");
  d.rope.dim = d.info.head_dim;
  const std::string pairs = f.text("rope_pairs");
  if (pairs != "neox" && pairs != "interleaved") throw f.wrong("rope_pairs", "\"neox\" or \"interleaved\"");
  d.rope.pairs = pairs == "neox" ? RotaryPairs::neox : RotaryPairs::interleaved;
  d.qkv_bias = flag(f, "qkv_bias");
  d.tied_output = flag(f, "tied_output");
  return shape;
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const ShapeFile& file : shape_files()) names.emplace_back(file.name);
  return names;
}

Shape read_shape(const std::string& name) {
  if (name.ends_with(".json")) return parse(read_file(name), name);
  const auto files = shape_files();
  const auto found = std::ranges::find_if(files, [&](const ShapeFile& file) { return name == file.name; });
  if (found == files.end())
    throw bad_input("shape {}: unknown; use {}, or a file of the form of data/shapes/*.json", name,
                    fmt::join(shape_names(), ", "));
  return parse(found->text, fmt::format("data/shapes/{}.json", name));
}

}  // namespace deltacal::model
