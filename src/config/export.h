// A schedule in other programs' own forms: the options that their own code reads, in a file that a shell can
// `source`. What a form cannot say is refused; what a program does in its own way whatever its options say is
// listed in the file as a difference.
//
//   delta    github.com/hoenza/DELTA, the authors' program of arXiv 2510.09883: README.md and tests/reason.py
//   at
//            commit 931d8982, DELTA/Engine/DELTA/{model.py at edc1dc71, page_selector_v2.py at edc1dc71}
//   kascade  github.com/microsoft/kascade, arXiv 2512.16391: README.md at 1f0a4a47, scripts/eval_script.py
//   and
//            src/strategies/PooledKascadeStrategy.py at 695b8c9c
#pragma once
#include <string>
#include <vector>

#include "config/config.h"

namespace deltacal::config {

// Names that can be asked for, those whose form is not known included.
const std::vector<std::string>& export_names();

struct Exported {
  std::string text;  // the file, ready to be sourced
  std::vector<std::string>
      differences;  // what the program does otherwise than the schedule says; also in `text`
};

// `file` is the config's name in messages. `context`, in positions: where a budget that is a share of the
// context shall equal the schedule's K (kascade); 0: not given. bad_input, naming the field and what to do,
// for what the form cannot say, and for a program of which no form is known.
Exported export_as(const std::string& name, const Config&, const std::string& file, int context);

}  // namespace deltacal::config
