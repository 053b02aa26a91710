#include "outputs.h"

#include <filesystem>
#include <set>

#include "core/error.h"

namespace deltacal::tools {

namespace fs = std::filesystem;

void require_different_outputs(const std::vector<std::string>& paths) {
  std::set<fs::path> seen;
  for (const std::string& path : paths)
    if (!path.empty() && !seen.insert(fs::weakly_canonical(fs::absolute(path))).second)
      throw bad_input("{} is named for two outputs: give each a name of its own", path);
}

void require_free_outputs(const std::vector<std::string>& paths, Existing existing) {
  require_different_outputs(paths);
  for (const std::string& path : paths)
    if (!path.empty()) require_free_output(path, existing);
}

}  // namespace deltacal::tools
