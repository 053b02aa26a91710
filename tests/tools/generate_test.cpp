// Several prompts at once, from the command line: texts in order, traces as of one at a time.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/files.h"
#include "program.h"
#include "support/scratch.h"
#include "support/tiny_model.h"
#include "trace/trace.h"

using namespace deltacal;
using Json = nlohmann::json;
using test::run_program;

namespace {

struct Workplace {
  test::Scratch folder;
  std::string model = folder / "m.gguf", data = folder / "d.jsonl";
  Workplace() {
    test::write_tiny_model({}, model);
    std::ofstream out(data);
    out << Json{{"id", "a"}, {"question", "what is a page?"}, {"response", "never read"}}.dump() << "\n";
    out << Json{{"id", "b"}, {"task", "toy"}, {"text", std::string(150, 'x') + " once upon a time"}}.dump()
        << "\n";
    out << Json{{"id", "c"}, {"input_ids", {65}}}.dump() << "\n";
  }
  std::string operator/(const std::string& name) const { return folder / name; }
  std::string arguments() const { return " --device cpu --dtype f32 --chat none --model " + model; }
};

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("{")) lines.push_back(Json::parse(line));
  return lines;
}

}  // namespace

TEST_CASE("generate: several prompts give JSON lines in their order, the same for any batch") {
  const Workplace w;
  const std::string command =
      "generate" + w.arguments() +
      " --max-new-tokens 40 --temperature 2 --seed 5 --prompt hello --prompt 'tell me' --data " + w.data;
  const auto one = run_program(command + " --stats");
  CAPTURE(one.output);
  REQUIRE(one.status == 0);
  const auto expected = lines_of(one.output);
  REQUIRE(expected.size() == 5);
  CHECK(expected[0]["id"] == "prompt:1");
  CHECK(expected[0]["prompt"] == "hello");
  CHECK(expected[1]["id"] == "prompt:2");
  CHECK(expected[2]["id"] == "a");
  CHECK(expected[2]["prompt"] == "what is a page?");
  CHECK(expected[3]["task"] == "toy");
  CHECK(expected[4]["n_prompt_tokens"] == 1);
  long long n_new = 0;
  for (const Json& line : expected) {
    n_new += line["n_new_tokens"].get<long long>();
    CHECK((line["n_new_tokens"] == 40) != line["stopped"].get<bool>());
  }
  CHECK(one.output.find("; " + std::to_string(n_new) + " new tokens") != std::string::npos);
  for (const char* batch : {"2", "5", "64"}) {
    const auto many = run_program(command + " --batch " + batch + " --out " + (w / batch) + ".jsonl");
    CAPTURE(many.output);
    REQUIRE(many.status == 0);
    CHECK(many.output.find("5 sequences, " + std::to_string(std::min(5, std::stoi(batch))) + " at once") !=
          std::string::npos);
    CHECK(lines_of(read_file((w / batch) + ".jsonl")) == expected);
  }
  // What comes out is data again.
  CHECK(run_program("profile --device cpu --dtype f32 --model " + w.model + " --chat none --dry-run --data " +
                    (w / "2.jsonl") + " --out " + (w / "t.h5"))
            .status == 0);
  // The first alone is the text itself, as it comes.
  const auto text = run_program("generate" + w.arguments() +
                                " --max-new-tokens 40 --temperature 2 --seed 5 --prompt hello");
  CHECK(text.output.find(expected[0]["response"].get<std::string>()) != std::string::npos);
}

TEST_CASE("generate: what does not fit together is refused") {
  const Workplace w;
  const auto refused = [&](const std::string& arguments, const std::string& what) {
    const auto outcome = run_program("generate" + w.arguments() + arguments);
    CAPTURE(arguments, outcome.output);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.find(what) != std::string::npos);
  };
  refused("", "give a question, or --data");
  refused(" --prompt x --limit 2", "--data");
  refused(" --data " + w.data + " --system s", "--prompt");
  refused(" --prompt x --force", "--out");
  refused(" --data " + w.data + " --max-new-tokens 400", "b: a prompt of ");
  refused(" --data " + w.data + " --out " + w.model, "--force");
  refused(" --prompt x --batch -1", "--batch");
  const auto replay = run_program("profile --device cpu --model " + w.model + " --data " + w.data +
                                  " --batch 2 --out " + (w / "t.h5"));
  CHECK(replay.status == 2);
  CHECK(replay.output.find("needs --mode decode") != std::string::npos);
}

TEST_CASE("profile: continuations decoded at once have the trace of one at a time, resumed or not") {
  const Workplace w;
  const std::string command =
      "profile --device cpu --dtype f32 --mode decode --chat none --max-new-tokens 70 "
      "--steps all --maps heads --model " +
      w.model + " --data " + w.data;
  REQUIRE(run_program(command + " --out " + (w / "one.h5")).status == 0);
  const auto many = run_program(command + " --batch 2 --out " + (w / "two.h5"));
  CAPTURE(many.output);
  REQUIRE(many.status == 0);
  CHECK(many.output.find("3 sequences, 2 at once") != std::string::npos);
  const trace::Reader a(w / "one.h5"), b(w / "two.h5");
  REQUIRE(a.n_samples() == 3);
  REQUIRE(b.n_samples() == 3);
  for (int i = 0; i < 3; ++i) {
    CHECK(a.info(i).id == b.info(i).id);
    REQUIRE(a.token_ids(i) == b.token_ids(i));
    const int n = static_cast<int>(a.steps(i).size());
    REQUIRE(n > 0);
    const auto x = a.pages(i, 0, 4, 0, n), y = b.pages(i, 0, 4, 0, n);
    double worst = 0;
    for (size_t v = 0; v < x.score.size(); ++v)
      worst = std::max(worst, double(std::abs(x.score[v] - y.score[v])));
    CHECK(worst < 1e-4);
  }
}
