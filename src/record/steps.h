// Which decoding steps of a sample are recorded.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace deltacal::record {

// `--steps 256|all|a:b`.
struct StepChoice {
  enum class Kind { number, all, range } kind = Kind::number;
  int number = 256;
  int first = 0, end = 0;  // range: positions first..end-1
};
StepChoice parse_steps(const std::string&);  // bad_input: what is accepted

struct RecordedSteps {
  std::vector<int32_t> steps;  // [S] positions, ascending
  std::vector<int32_t> burst;  // [S] number of the run of consecutive steps
};

// Steps of a sample are the positions n_prompt_tokens..n_tokens-1. A number n is recorded in bursts of 64 consecutive
// steps (n/64 bursts, at least one), each in the middle of its share of the sample; all steps where there are no more
// than n. A range is cut at the sample's ends; none left is bad_input that names `sample`.
RecordedSteps choose_steps(const StepChoice&, int n_prompt_tokens, int n_tokens, const std::string& sample);

}  // namespace deltacal::record
