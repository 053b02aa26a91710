// Reading a JSON object field by field: every error names the file and the path of the field, and a field
// that nobody asked for is an error too.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace deltacal::config {

using Json = nlohmann::ordered_json;

// The known name with the fewest edits from `name`, at most a third of its length; empty if none is near.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

class Fields {
 public:
  // `path` is that of the object inside the file: "" or "layers[3]". bad_input if `json` is no object, or if
  // it has a field that is not among `known`.
  Fields(const Json& json, std::string file, std::string path, const std::vector<std::string>& known);

  bool has(const std::string& name) const { return json_.contains(name); }
  const Json& required(const std::string& name) const;
  int integer(const std::string& name, int least) const;  // required
  double number(const std::string& name) const;           // required, finite
  std::string text(const std::string& name) const;        // required
  std::string text_or(const std::string& name, const std::string& otherwise) const;
  const Json& array(const std::string& name) const;  // required

  // "layers[3].k_pages"
  std::string path_of(const std::string& name) const { return path_.empty() ? name : path_ + "." + name; }
  // "FILE: layers[3].k_pages is 0, expected 1 or more"
  Error wrong(const std::string& name, const std::string& expected) const;
  const std::string& file() const { return file_; }

 private:
  const Json& json_;
  std::string file_, path_;
};

}  // namespace deltacal::config
