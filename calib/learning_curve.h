// How many calibration samples, and how many of their steps, are enough: schedules chosen from less, by what
// they lose on the development samples.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "calib/bootstrap.h"
#include "calib/predicted_kl.h"

namespace deltacal::calib {

// The samples in a random order in which the first n are of as many problems as n samples can be: problems in
// random order, one sample of each, then a second one of those that have it, and so on. [n_samples] indices.
std::vector<int> mixed_order(std::span<const std::string> problem_of_sample, uint64_t seed);

// first, 2 first, 4 first, ... as far as they are below n.
std::vector<int> doubling_sizes(int first, int n);

// Predicted KL from n_steps of each sample's S recorded steps, spread evenly: those of index (2i+1) S / (2
// n_steps), rounded down, i = 0..n_steps-1; of all where there are not more. In the layout of predicted_kl(),
// which has all of them; from the steps' own changes of the loss, so as exact as half precision. bad_input as
// for predicted_kl() and for n_steps below 1.
std::vector<SampleKl> predicted_kl_of_steps(const trace::Reader&, const Grid&, int n_steps);

// One random choice of calibration samples, and what its schedule loses.
struct CurveDraw {
  std::string schedule;             // config::describe
  std::vector<double> nll_gap, kl;  // [n_samples of development] nats a token
};

struct MeasuredPoint {
  int n_samples = 0, n_steps = 0;  // calibrated on; steps a sample at most
  std::vector<CurveDraw> draws;    // those with a schedule
  int n_unsolved = 0;              // those without
};

struct CurveRow {
  int n_samples = 0, n_steps = 0;
  int n_draws = 0, n_unsolved = 0;
  int n_schedules = 0;  // different ones among the draws
  Estimate nll_gap, kl,
      vs_all;  // mean over the draws; vs_all: NLL gap minus that of the schedule of everything
  double least = 0, largest = 0;  // NLL gap of the best and the worst draw
};

// Sample by sample the mean over the draws, then as every figure; the interval is over the development
// problems and does not hold what another draw would change: least and largest show that. NaN and no interval
// without a draw. `all` [n_samples]: NLL gap of the schedule calibrated on everything.
CurveRow curve_row(const MeasuredPoint&, std::span<const double> all, const Resampler&);

}  // namespace deltacal::calib
