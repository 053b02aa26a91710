#include "gpu_trace/counters.h"

#include <catch2/catch_test_macros.hpp>

namespace deltacal::gpu_trace {
namespace {

TEST_CASE("counters: a short name is the function's alone") {
  const std::pair<const char*, const char*> cases[] = {
      {"void at::native::fill_kernel<4, at::native::Fill<float>, std::array<char*, 1ul> >(int, float)",
       "at::native::fill_kernel"},
      {"void deltacal::kernels::cuda::append_kv::(anonymous namespace)::rotate<true>(Params)",
       "deltacal::kernels::cuda::append_kv::rotate"},
      {"deltacal::kernels::merge(float const*, int)", "deltacal::kernels::merge"},
      {"std::enable_if<!(1 > 2), void>::type internal::gemv<int, 4>(cublasParams<int>)", "internal::gemv"},
      {"nvjet_tst_64x8_64x16_4x1_v_bz_TNT", "nvjet_tst_64x8_64x16_4x1_v_bz_TNT"},
      {"", ""}};
  for (const auto& [name, expected] : cases) CHECK(short_name(name) == expected);
}

TEST_CASE("counters: launches of one kernel in one phase are one sum, whatever the layer") {
  Counters counters;
  counters.names = {"void attend<1>(int)", "void attend<2>(int)", "merge(int)"};
  counters.labels = {{0, "attention"}, {1, "attention"}, {1, "sparse attention"}};
  counters.kernels = {{0, 0, 100, 4000, 10},
                      {1, 1, 300, 8000, 30},
                      {2, 1, 50, 0, 5},
                      {0, 2, 200, 1000, 0},
                      {2, -1, 7, 70, 700}};
  const auto sums = counters_by_kernel(counters);
  REQUIRE(sums.size() == 4);
  CHECK((sums[0].phase == "attention" && sums[0].kernel == "attend"));
  CHECK((sums[0].n_calls == 2 && sums[0].ns == 400 && sums[0].read_bytes == 12000 &&
         sums[0].written_bytes == 40));
  CHECK(sums[0].read_gb_s() == 30);
  CHECK((sums[1].phase == "sparse attention" && sums[1].n_calls == 1));
  CHECK((sums[2].phase == "attention" && sums[2].kernel == "merge"));
  CHECK((sums[3].phase.empty() && sums[3].written_bytes == 700));
  const CounterSum all = total(sums);
  CHECK((all.n_calls == 5 && all.ns == 657 && all.read_bytes == 13070 && all.written_bytes == 745));
  CHECK(total({}).read_gb_s() == 0);
}

TEST_CASE("gpu trace: events of several sessions in one file, phases named after what they were part of") {
  Trace first, second;
  first.names = {"a"}, first.labels = {{0, "attention"}};
  first.events = {{.name = 0, .label = 0, .start_ns = 50, .end_ns = 60}};
  second.names = {"b", "c"}, second.labels = {{3, "norm"}};
  second.events = {{.name = 1, .label = 0, .start_ns = 10, .end_ns = 20},
                   {.name = 0, .label = -1, .start_ns = 70, .end_ns = 80}};
  second.n_dropped = 2;
  Trace all;
  append(all, first, "full");
  append(all, second, "config");
  REQUIRE(all.events.size() == 3);
  std::vector<std::string> names, phases;
  for (const Event& e : all.events) {
    names.push_back(all.names[size_t(e.name)]);
    phases.push_back(e.label < 0 ? "" : all.labels[size_t(e.label)].phase);
  }
  CHECK(names == std::vector<std::string>{"c", "a", "b"});
  CHECK(phases == std::vector<std::string>{"config: norm", "full: attention", ""});
  CHECK(all.labels[1].layer == 3);
  CHECK(all.n_dropped == 2);
}

}  // namespace
}  // namespace deltacal::gpu_trace
