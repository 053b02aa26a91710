// What a person is told who gave a word that no command takes.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace deltacal::tools {

// "deltacal: unknown option --max-token (nearest: --max-tokens; ...)", of the first that was not understood.
std::string unknown_argument(const CLI::App&);

}  // namespace deltacal::tools
