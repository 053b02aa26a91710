#include "bench_memory.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

namespace deltacal::tools {
namespace {

constexpr size_t n_words = size_t{64} << 20;  // 512 MB of 8 bytes
constexpr size_t block = 1 << 16;

template <class Work>
double median_seconds(int repeats, Work work) {
  std::vector<double> seconds;
  work();
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return seconds[repeats / 2];
}

// Eight sums in flight, so that the loads and not the additions bound it.
uint64_t sum_of(const uint64_t* words, size_t n) {
  uint64_t sum[8] = {};
  for (size_t i = 0; i < n; i += 8)
    for (int j = 0; j < 8; ++j) sum[j] += words[i + j];
  uint64_t total = 0;
  for (const uint64_t s : sum) total += s;
  return total;
}

}  // namespace

MemoryBandwidth measure_memory(int repeats) {
  std::vector<uint64_t> from(n_words, 1), to(n_words);
  constexpr double bytes = 8.0 * n_words;
  uint64_t total = 0;
  const double read = median_seconds(repeats, [&] {
#pragma omp parallel for reduction(+ : total)
    for (size_t i = 0; i < n_words / block; ++i) total += sum_of(&from[i * block], block);
  });
  const double copy = median_seconds(repeats, [&] {
#pragma omp parallel for
    for (size_t i = 0; i < n_words / block; ++i) std::memcpy(&to[i * block], &from[i * block], 8 * block);
  });
  volatile uint64_t keep = total + to[n_words / 2];  // the work must be done
  (void)keep;
  return {1e-9 * bytes / read, 2e-9 * bytes / copy};
}

}  // namespace deltacal::tools
