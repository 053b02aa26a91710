// What every artefact says of its own making.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace deltacal {

inline constexpr const char* tool_version = DELTACAL_VERSION;

struct Provenance {
  std::string command;  // the command line, arguments quoted where a shell needs it
  uint64_t seed = 0;
};

// "2026-11-22T17:24:19Z"
std::string utc_now();

// The head shared by all JSON artefacts: format, schema_version, tool_version, command, seed, created.
nlohmann::ordered_json artefact_head(const std::string& format, int schema_version, const Provenance&);

// Parses `path` and checks `format` and `schema_version`; bad_input names the file and what it holds instead.
nlohmann::ordered_json read_artefact(const std::string& path, const std::string& format, int schema_version);

}  // namespace deltacal
