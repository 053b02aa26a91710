// The model and the development samples on which `calibrate` measures what schedules really lose.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "calib/rerank.h"
#include "calib/search.h"
#include "evaluations.h"
#include "inputs.h"
#include "methods.h"
#include "options.h"
#include "trace/trace.h"

namespace deltacal::tools {

// bad_input where the file of finished runs cannot be one: before anything is read or solved.
void check_evaluations(const CalibrateOptions&);

class Development {
 public:
  // --model and --data are given; of the data's samples --rerank-samples are used, problem by problem.
  // bad_input for another model than the trace's, for samples that share a problem or tokens with the
  // trace's, and for an --evaluations file of something else. Loads the model last.
  Development(const CalibrateOptions&, const trace::Reader&);

  const std::vector<text::TokenizedSample>& samples() const { return evaluations_->samples(); }
  std::vector<std::string> problems() const;  // [n_samples]
  const Inputs& inputs() const { return inputs_; }
  // The trace's model, with the device and dtype that schedules run with here.
  ModelInfo measured_model(const trace::Reader&) const;
  Evaluations& evaluations() { return *evaluations_; }
  nlohmann::ordered_json provenance(const CalibrateOptions&) const;  // file and samples, for a config

  calib::EvaluateSamples gaps();  // for re-ranking
  // greedy-nll on the first 4 samples (of different problems where there are 4), to as many Δ-layers as
  // `like` has, at least 2.
  calib::Greedy search_greedily(const Problem&, const config::Schedule& like);

 private:
  Inputs inputs_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<Evaluations> evaluations_;
};

}  // namespace deltacal::tools
