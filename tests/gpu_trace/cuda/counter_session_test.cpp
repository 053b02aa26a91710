// Counters of a GPU. Where the driver keeps them from this user, only what is said of it is tested.
#include "gpu_trace/counter_session.h"

#include <memory>

#include "core/error.h"
#include "kernels/bandwidth/bandwidth.h"
#include "refusals.h"
#include "work.h"

namespace deltacal::gpu_trace {
namespace {

namespace cuda = kernels::cuda;

// A session, or null where there may be none; skips without a device.
std::unique_ptr<CounterSession> session() {
  if (cuda::device_count() == 0) SKIP("no CUDA device");
  try {
    return std::make_unique<CounterSession>();
  } catch (const Error& e) {
    const std::string text = e.what();
    if (text.find("administrators") == std::string::npos && text.find("gives none") == std::string::npos)
      throw;
    SKIP(text);
  }
  return nullptr;  // not reached
}

TEST_CASE("counters, session: without a device they are refused") {
  require_refused_without_device<CounterSession>();
}

TEST_CASE("counters, session: a kernel that reads a gigabyte is seen to read it, in its phase") {
  constexpr size_t bytes = size_t{1} << 30;
  const auto counting = session();
  void* array = nullptr;
  must(cudaMalloc(&array, bytes + 64));
  must(cudaMemset(array, 0, bytes + 64));
  Work work;
  {
    const Scope scope(counting.get(), 4, "attention");
    work.kernel();
    {
      const Scope inner(counting.get(), -1, "read");
      auto* never = reinterpret_cast<uint32_t*>(static_cast<char*>(array) + bytes);
      cuda::bandwidth::read(array, bytes, never, 8, {work.stream, false});
    }
    work.kernel();
  }
  work.kernel();
  const Counters counters = counting->finish();
  must(cudaFree(array));
  REQUIRE(counters.kernels.size() >= 4);  // a memset may count as a kernel
  REQUIRE(counters.n_dropped == 0);
  int n_attention = 0;
  for (const KernelCounters& k : counters.kernels) {
    CHECK(k.ns > 0);
    if (k.label < 0) continue;
    const Label& label = counters.labels[size_t(k.label)];
    if (label.phase == "attention") {
      ++n_attention;
      CHECK(label.layer == 4);
      CHECK(counters.names[size_t(k.name)].find("record_scores") != std::string::npos);
      CHECK(k.read_bytes < 1e7);
    } else {
      CHECK(counters.names[size_t(k.name)].find("bandwidth") != std::string::npos);
      CHECK(k.read_bytes > 0.9 * double(bytes));  // the rest may lie in the L2 cache
      CHECK(k.read_bytes < 1.1 * double(bytes));
      CHECK(k.written_bytes < 0.1 * double(bytes));
    }
  }
  CHECK(n_attention == 2);
  REQUIRE_THROWS_AS(counting->finish(), Error);
}

TEST_CASE("counters, session: more kernels than there is room for are counted all the same") {
  const auto counting = session();
  Work work;
  constexpr int n = 5000;
  for (int i = 0; i < n; ++i) {
    const Scope scope(counting.get(), i % 28, "attention");
    work.kernel();
  }
  const Counters counters = counting->finish();
  int n_labelled = 0;
  for (const KernelCounters& k : counters.kernels)
    n_labelled += k.label >= 0 && counters.labels[size_t(k.label)].phase == "attention";
  CHECK(n_labelled == n);
  CHECK(counters.n_dropped == 0);
}

TEST_CASE("counters, session: another profiler is named") {
  require_other_profiler_named<CounterSession>();
}

}  // namespace
}  // namespace deltacal::gpu_trace
