// How `bench` times: one warm-up, then the median of counted repeats.
#pragma once
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <vector>

namespace deltacal::tools {

struct Timing {
  double median = 0, low = 0, high = 0;  // seconds; the fastest and the slowest
};

inline Timing timing_of(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front(), seconds.back()};
}

inline nlohmann::ordered_json to_json(const Timing& t) {
  return {{"median_s", t.median}, {"min_s", t.low}, {"max_s", t.high}};
}

// `before` is called ahead of each call of `work` and is not counted.
template <class Before, class Work>
Timing time_of(int repeats, Before before, Work work) {
  before();
  work();
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    before();
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return timing_of(std::move(seconds));
}

template <class Work>
Timing time_of(int repeats, Work work) {
  return time_of(
      repeats, [] {}, work);
}

}  // namespace deltacal::tools
