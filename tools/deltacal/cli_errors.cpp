#include "cli_errors.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace deltacal::tools {
namespace {

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row.back();
}

}  // namespace

std::string unknown_argument(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen[0];
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options())
    for (const auto& name : option->get_lnames()) known.push_back("--" + name);
  if (chosen.empty())
    for (const CLI::App* sub : app.get_subcommands({})) known.push_back(sub->get_name());
  std::string argument = app.remaining(true).front();
  argument = argument.substr(0, argument.find('='));
  const auto nearest = std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
    return edit_distance(argument, a) < edit_distance(argument, b);
  });
  const std::string where = chosen.empty() ? "" : " " + command.get_name();
  const bool is_option = argument.starts_with("-");
  const std::string hint =
      is_option || chosen.empty() ? "nearest: " + *nearest : "what holds spaces needs quotes";
  return fmt::format("deltacal{}: unknown {} {} ({}; all: deltacal{} --help)", where,
                     is_option ? "option" : "argument", argument, hint, where);
}

}  // namespace deltacal::tools
