// Whole commands on a CUDA device whose memory something else holds.
#include <filesystem>

#include "support/device.h"
#include "support/device_memory.h"
#include "tools/device_workplace.h"

namespace deltacal::test {
namespace {

TEST_CASE("device memory, CUDA: every command that has too little is refused before it makes anything",
          "[all of the device]") {
  NEEDS_DEVICE;
  const DeviceWorkplace w;
  const std::string seen = " --data " + (w / "seen.jsonl"), held_out = " --data " + (w / "held_out.jsonl"),
                    model = " --device cuda --model " + w.model, trace = w / "t.h5", config = w / "c.json",
                    never = w / "never";
  const std::string run =
      "run" + model + seen + " --budget attended=1.5 --validation-share 0.5 --out-dir " + never;
  must_run("profile" + model + seen + " --out " + trace);
  must_run("calibrate " + trace +
           " --k-pages 4,8,16 --l-pages 1,2 --objective recall --budget attended=1.8 --out " + config);

  // Less than the margin beside all that is reckoned; enough for a process to begin.
  const OtherMemory other(1200 * mib);
  if (!other.fits()) SKIP("too little device memory");
  const std::string profile = "profile" + model + seen + " --out " + never,
                    validate = "validate" + model + held_out + " --config " + config + " --out " + never;
  for (const std::string& command :
       {profile, profile + " --sensitivity",
        "profile --mode decode --max-new-tokens 8" + model + seen + " --out " + never, validate, run,
        "calibrate " + trace +
            " --k-pages 4,8,16 --l-pages 1,2 --objective recall --budget attended=1.8 --rerank 2" + model +
            held_out + " --out " + never,
        "bench" + model + " --batch 1x64 --prefill-tokens 64 --out " + never,
        "generate --prompt hello --max-new-tokens 4" + model}) {
    const auto outcome = run_program(command);
    CAPTURE(command, outcome.output);
    CHECK(outcome.status == 2);
    for (const char* part : {" GB of device memory (weights ", " GB are free: "})
      CHECK(outcome.output.find(part) != std::string::npos);
    CHECK(!std::filesystem::exists(never));
  }
  for (const std::string& command : {profile, validate, run}) {
    const auto outcome = run_program(command + " --dry-run");
    CAPTURE(command, outcome.output);
    CHECK(outcome.status == 0);
    CHECK(outcome.output.find("device memory") != std::string::npos);
    CHECK(outcome.output.find(" GB are free\n") != std::string::npos);
  }
}

}  // namespace
}  // namespace deltacal::test
