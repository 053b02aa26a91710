// The tables and JSON of what sessions on a CUDA device found, from plain data.
#include "device_tables.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "core/error.h"

using namespace deltacal;
using Json = nlohmann::ordered_json;

namespace {

// Two kernels of 3 and 1 ms in two phases, one of which overlaps nothing, and a copy outside any.
gpu_trace::Trace trace_of_three() {
  gpu_trace::Trace trace;
  trace.names = {"attend", "rank", "copy"};
  trace.labels = {{0, "attention"}, {1, "scores"}};
  trace.events = {
      {.name = 0, .label = 0, .start_ns = 0, .end_ns = 3'000'000},
      {.name = 1, .label = 1, .start_ns = 3'000'000, .end_ns = 4'000'000},
      {.kind = gpu_trace::Kind::memcpy, .name = 2, .label = -1, .start_ns = 7'000'000, .end_ns = 8'000'000}};
  trace.n_dropped = 2;
  return trace;
}

}  // namespace

TEST_CASE("device tables: time by phase, with its share and what was lost") {
  const std::string table = tools::phase_table(trace_of_three());
  CAPTURE(table);
  CHECK(table.find("\n| attention | 1 | 3.000 | 60.0% |\n") != std::string::npos);
  CHECK(table.find("\n| (none) | 1 | 1.000 | 20.0% |\n") != std::string::npos);
  CHECK(table.find("\n| all | 3 | 5.000 | of 8.000 ms from") != std::string::npos);
  CHECK(table.find("2 records were lost") != std::string::npos);
  const Json json = tools::phases_json(trace_of_three());
  REQUIRE(json.size() == 3);
  CHECK(json[0]["phase"] == "attention");
  CHECK(json[0]["events"] == 1);
  CHECK(json[0]["busy_s"] == 3e-3);
}

TEST_CASE("device tables: bytes by kernel, as shares of the read bandwidth") {
  gpu_trace::Counters counters;
  counters.names = {"void attend<1>(int)"};
  counters.labels = {{0, "attention"}};
  counters.kernels = {{0, 0, 1e6, 1e9, 2e6}, {0, 0, 1e6, 1e9, 0}};  // 1 ms, 1 GB each
  const std::string table = tools::counter_table(counters, 2000);
  CAPTURE(table);
  CHECK(table.find("\n| attention | attend | 2 | 2.000 | 2000.0 | 2.0 | 1000 | 50.0% |\n") !=
        std::string::npos);
  CHECK(table.find("\n| all |  | 2 | 2.000 | 2000.0 | 2.0 | 1000 | 50.0% |\n") != std::string::npos);
  const Json json = tools::counters_json(counters, 2000);
  REQUIRE(json.size() == 1);
  CHECK(json[0] == Json{{"phase", "attention"},
                        {"kernel", "attend"},
                        {"calls", 2},
                        {"seconds", 1e-9 * 2e6},
                        {"read_bytes", 2e9},
                        {"written_bytes", 2e6},
                        {"share_of_read_bandwidth", 0.5}});
}

TEST_CASE("counters: required on the CPU are refused, wanted are left out") {
  CHECK(tools::settle_counters("", model::Device::cpu).empty());
  CHECK(tools::settle_counters("auto", model::Device::cpu).empty());
  CHECK_THROWS_AS(tools::settle_counters("required", model::Device::cpu), Error);
}

TEST_CASE("counters: an error of the work itself is not taken for counters that cannot be had") {
  std::string wanted;
  bool asked = false;
  CHECK_FALSE(tools::count(wanted, [&](gpu_trace::Session*) { asked = true; }).has_value());
  CHECK_FALSE(asked);
  // Without a device the session is what fails: a line, once.
  wanted = "auto";
  bool worked = false;
  try {
    if (!tools::count(wanted, [&](gpu_trace::Session*) {
          worked = true;
          throw failure("a kernel failed");
        }))
      CHECK(wanted.empty());
  } catch (const Error& e) {
    CHECK(worked);
    CHECK(std::string(e.what()) == "a kernel failed");
  }
}
