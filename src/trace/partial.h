// NAME.partial/: the samples of a trace that is being recorded, each a closed file, and plan.json, which says
// of what.
//
//   plan.json        format, schema_version, tool_version, command, seed, created, model, options,
//   replaces_output 000000.h5 ...    finished samples: each a whole trace.h5 of one sample
//   *.tmp            being written; of no value to anybody else
//
// plan.json is the first file made and the first removed: a folder without one holds nothing worth keeping.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/files.h"
#include "trace/trace.h"

namespace deltacal::trace {

// JSON text; bytes that are no UTF-8, which a file name on the command line may have, become U+FFFD.
std::string dump(const nlohmann::ordered_json&, int indent = -1);

// A lock on a folder, held until the process ends at the latest.
class FolderLock {
 public:
  FolderLock() = default;
  FolderLock(const FolderLock&) = delete;
  ~FolderLock();
  void acquire(const std::string& folder);  // bad_input if another process has it

 private:
  int descriptor_ = -1;
};

class Partial {
 public:
  // Locks the folder against a second run, then does what Start says (trace.h). bad_input where the output or
  // the folder exists and may not be replaced, or was made from something else: then with every difference.
  Partial(const std::string& output, Writer::Start, const ModelInfo&, const Provenance&,
          const nlohmann::json& options);

  std::string sample_path(int index) const;     // NAME.partial/000003.h5
  std::string temporary_path(int index) const;  // the same while it is written
  std::string joined_path() const;              // where the samples are joined before the rename
  std::vector<std::string> finished() const;    // by index
  // Moves the joined file to the output's name and removes the folder. A run killed in between can be
  // resumed.
  void publish();
  void discard();  // removes what was recorded, and the folder

 private:
  void write_plan(bool replaces_output);
  void resume(const ModelInfo&);
  void remove_files();
  std::string output_, folder_;
  nlohmann::ordered_json plan_;
  Existing existing_ = Existing::refuse;
  FolderLock lock_;
};

}  // namespace deltacal::trace
