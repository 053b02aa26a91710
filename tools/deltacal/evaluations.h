// What schedules really lose on development samples: teacher-forced runs against full attention, each kept in
// a file by schedule and sample, so that no run is made twice and a search that was stopped goes on where it
// was.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "config/schedule.h"
#include "decode/step_memory.h"
#include "model/model.h"
#include "text/data.h"

namespace deltacal::tools {

// Means over all steps of one sample, nats a token.
struct SampleLoss {
  double nll_gap = 0;  // NLL under the schedule - NLL under full attention
  double kl = 0;       // KL(full || schedule)
  double seconds = 0;  // the run's share of its batch, when it was made
  double attended_share = 0;  // of the positions of full attention; NaN: made before this was kept
};

class Evaluations {
 public:
  // `path`: JSON lines, made if it is not there; bad_input if it is of another model, dtype or kind of file.
  Evaluations(const model::Model&, std::vector<text::TokenizedSample>, std::string path);
  ~Evaluations();
  // [schedule][n] of the samples first..first+n-1. A batch of schedules goes through a sample together and
  // shares what their beginnings have in common; where threads or a device's memory allow, samples run side
  // by side.
  std::vector<std::vector<SampleLoss>> measure(std::span<const config::Schedule>, int first, int n);

  const std::vector<text::TokenizedSample>& samples() const { return samples_; }
  int n_run() const { return n_run_; }  // schedules times samples that were not in the file
  // What all runs asked for so far took when they were made, each counted once a request.
  double seconds_asked() const { return seconds_asked_; }

 private:
  struct File;
  using Key =
      std::tuple<std::string, std::string, int>;  // schedule, sha256 of the token ids, n_prompt_tokens
  Key key(const std::string& schedule, int sample) const {
    return {schedule, samples_[sample].sha256, samples_[sample].n_prompt_tokens};
  }
  decode::PrefillNeed need_of(int n_schedules) const;  // that go through a sample together
  int batch_size() const;
  void run(const std::vector<std::pair<int, std::vector<config::Schedule>>>& jobs);

  const model::Model& model_;
  std::vector<text::TokenizedSample> samples_;
  std::map<Key, SampleLoss> known_;  // before file_, which fills it
  std::unique_ptr<File> file_;
  int batch_size_;
  int n_run_ = 0;
  double seconds_asked_ = 0;
};

// A schedule as one line of text from which every layer can be told: "b1e-07 F D/4 s16 s8 ...", D
// with its L; with refresh "b1e-07 r4 F D16/4 ...", D with K and L.
std::string key_of(const config::Schedule&);

}  // namespace deltacal::tools
