#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "config/export.h"
#include "core/error.h"
#include "options.h"

namespace deltacal::tools {

// One form becomes the file OUT; several, or an OUT that is a folder, become OUT/NAME.sh. All forms are made
// before any is written.
int export_config(const ExportOptions& o) {
  namespace fs = std::filesystem;
  const config::Config config = config::read(o.config);
  if (o.context > 0 && std::ranges::find(o.to, "kascade") == o.to.end())
    throw bad_input("--context belongs to --to kascade alone, whose budget is a share of the context");
  const bool folder = o.to.size() > 1 || fs::is_directory(o.out);
  std::vector<std::pair<std::string, config::Exported>> files;
  for (const std::string& name : o.to) {
    const std::string path = folder ? (fs::path(o.out) / (name + ".sh")).string() : o.out;
    if (std::ranges::find(files, path, [](const auto& file) { return file.first; }) != files.end())
      throw bad_input("--to: {} is there twice", name);
    files.emplace_back(path, config::export_as(name, config, o.config, o.context));
  }
  std::error_code error;
  if (folder && !fs::is_directory(o.out) && !fs::create_directory(o.out, error))
    throw bad_input("--out {}: cannot make this folder: {}", o.out,
                    error ? error.message() : "a file has its name");
  for (const auto& [path, form] : files) require_free_output(path, o.existing());
  for (const auto& [path, form] : files) {
    for (const std::string& difference : form.differences)
      fmt::print(stderr, "differs, {}: {}\n", path, difference);
    write_file_atomically(path, form.text, o.existing());
    fmt::print("written   {}\n", path);
  }
  return 0;
}

}  // namespace deltacal::tools
