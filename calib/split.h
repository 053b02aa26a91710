// Samples by problem: no problem on both sides of a split, and none shared by calibration and validation.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace deltacal::calib {

struct SplitSample {
  std::string task;
  std::string problem;  // key of the problem, task included where it names one (text/data.h)
  std::string sha256;   // of the token ids
  // Keys of the problems that were packed into the sample (text/pack.h), which `problem` then only stands for; empty
  // where it holds one.
  std::vector<std::string> parts{};
};

struct Split {
  std::vector<int> calibration, validation;  // indices of samples, ascending
};

// About `validation_share` of the samples to validation, within each task as far as its problems allow.
// Samples that share a problem (parts included), or of equal tokens, stay together; each side gets at least
// one problem. The same seed and samples give the same split. bad_input for fewer than 2 problems, or a share outside ]0, 1[.
Split split_by_problem(std::span<const SplitSample>, double validation_share, uint64_t seed);

// Indices of `most` samples at most, so that any first few of them are of as many problems as can be: the
// first of each problem in the order of the samples, then the second of each, and so on.
std::vector<int> round_robin_by_problem(std::span<const SplitSample>, int most);

// Two samples that share what they must not.
struct Overlap {
  int ours = 0, theirs = 0;  // indices
  bool same_tokens = false, same_problem = false;
};
// Every sample of `ours` with the first of `theirs` that it overlaps with. Empty hashes and problems match
// nothing.
std::vector<Overlap> overlaps(std::span<const SplitSample> ours, std::span<const SplitSample> theirs);

}  // namespace deltacal::calib
