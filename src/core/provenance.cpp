#include "core/provenance.h"

#include <ctime>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"

namespace deltacal {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

nlohmann::ordered_json artefact_head(const std::string& format, int schema_version, const Provenance& made) {
  return {{"format", format},        {"schema_version", schema_version}, {"tool_version", tool_version},
          {"command", made.command}, {"seed", made.seed},                {"created", utc_now()}};
}

nlohmann::ordered_json read_artefact(const std::string& path, const std::string& format, int schema_version) {
  nlohmann::ordered_json json;
  try {
    json = nlohmann::ordered_json::parse(read_file(path));
  } catch (const nlohmann::json::exception& e) {
    throw bad_input("{} is not valid JSON: {}", path, e.what());
  }
  if (!json.is_object() || !json.contains("format") || !json["format"].is_string())
    throw bad_input("{}: no field \"format\"; expected a file of format \"{}\"", path, format);
  if (json["format"] != format)
    throw bad_input("{} holds \"{}\", expected \"{}\"", path, json["format"].get<std::string>(), format);
  if (!json.contains("schema_version") || !json["schema_version"].is_number_integer() ||
      json["schema_version"] != schema_version)
    throw bad_input("{}: schema_version {} is not supported, this version reads {}", path,
                    json.value("schema_version", nlohmann::ordered_json()).dump(), schema_version);
  return json;
}

}  // namespace deltacal
