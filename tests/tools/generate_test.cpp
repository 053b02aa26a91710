// Several prompts at once, from the command line: texts in order, traces as of one at a time.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
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

TEST_CASE("generate: what it writes keeps the problem, the answer and the conversation of the data") {
  const Workplace w;
  const Json turns{{{"role", "system"}, {"content", "be brief"}},
                   {{"role", "user"}, {"content", "one?"}},
                   {{"role", "assistant"}, {"content", "two"}},
                   {{"role", "user"}, {"content", "three?"}}};
  std::ofstream(w.data) << Json{{"id", "a"},     {"task", "toy"},    {"problem", 7},
                                {"answer", "4"}, {"question", "x?"}, {"response", "unread"}}
                        << "\n"
                        << Json{{"id", "b"}, {"problem", "p"}, {"messages", turns}} << "\n";
  const std::string out = w / "o.jsonl", again = w / "again.jsonl";
  const std::string generate = "generate" + w.arguments() + " --max-new-tokens 5 ";
  REQUIRE(run_program(generate + "--system s --prompt hello --data " + w.data + " --out " + out).status == 0);
  const auto lines = lines_of(read_file(out));
  REQUIRE(lines.size() == 3);
  CHECK(lines[0]["messages"].size() == 3);
  CHECK(lines[0]["messages"][0] == Json{{"role", "system"}, {"content", "s"}});
  CHECK(lines[0]["messages"][1] == Json{{"role", "user"}, {"content", "hello"}});
  CHECK(lines[1]["prompt"] == "x?");
  CHECK(lines[1]["problem"] == "7");
  CHECK(lines[1]["answer"] == "4");
  CHECK(lines[2]["problem"] == "p");
  CHECK(!lines[2].contains("prompt"));
  Json conversation = lines[2]["messages"];
  CHECK(conversation.back()["role"] == "assistant");
  conversation.erase(conversation.size() - 1);
  CHECK(conversation == turns);
  // The prompts are the same when it is read again.
  REQUIRE(run_program(generate + "--data " + out + " --out " + again).status == 0);
  CHECK(lines_of(read_file(again)) == lines);
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
  refused(" --prompt x --batch -1", "--batch: -1: give 0 or more");
  refused(" --prompt what is a page", "unknown argument is");
  const auto replay = run_program("profile --device cpu --model " + w.model + " --data " + w.data +
                                  " --batch 2 --out " + (w / "t.h5"));
  CHECK(replay.status == 2);
  CHECK(replay.output.find("needs --mode decode") != std::string::npos);
}

TEST_CASE("profile: continuations, killed when one is finished, resume to the trace of a whole run") {
  const Workplace w;
  std::ofstream prompts(w.data);
  for (int i = 0; i < 12; ++i)
    prompts << Json{{"id", std::to_string(i)}, {"input_ids", {65, 66 + i}}} << "\n";
  prompts.close();
  const std::string profile =
      "profile --device cpu --dtype f32 --mode decode --chat none --max-new-tokens 300 --temperature 1 "
      "--steps "
      "all --model " +
      w.model + " --data " + w.data + " --out ";
  const std::string whole = w / "whole.h5", cut = w / "cut.h5";
  REQUIRE(run_program(profile + whole).status == 0);
  run_program(profile + cut + " & pid=$!; while kill -0 $pid 2>/dev/null && ! [ -e " + cut +
              ".partial/000000.h5 ]; do sleep 0.01; done; kill -9 $pid; wait $pid");
  REQUIRE(!std::filesystem::exists(cut));
  CHECK(run_program(profile + cut).output.find("--resume continues it") != std::string::npos);
  const auto resumed = run_program(profile + cut + " --resume");
  CAPTURE(resumed.output);
  REQUIRE(resumed.status == 0);
  const trace::Reader a(whole), b(cut);
  REQUIRE(a.n_samples() == b.n_samples());
  for (int i = 0; i < a.n_samples(); ++i) CHECK(a.token_ids(i) == b.token_ids(i));
}

TEST_CASE("profile: where no continuation reaches a step to record, nothing is left") {
  const Workplace w;
  std::ofstream(w.data) << Json{{"id", "a"}, {"input_ids", {65}}} << "\n";
  const std::string out = w / "t.h5",
                    profile =
                        "profile --device cpu --dtype f32 --mode decode --chat none --max-new-tokens 500 "
                        "--temperature 5 --seed 1 --steps 495:500 --model " +
                        w.model + " --data " + w.data + " --out " + out;
  for (int i = 0; i < 2; ++i) {  // the second run finds nothing of the first
    const auto outcome = run_program(profile);
    CAPTURE(outcome.output);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.find("no continuation reached a step to record") != std::string::npos);
    CHECK(!std::filesystem::exists(out + ".partial"));
  }
}

TEST_CASE("profile: a dry run of continuations tells what so many at once need") {
  const Workplace w;
  const auto plan = run_program(
      "profile --device cpu --dtype f32 --mode decode --chat none --max-new-tokens 300 "
      "--batch 2 --dry-run --model " +
      w.model + " --data " + w.data + " --out " + (w / "t.h5"));
  CAPTURE(plan.output);
  CHECK(plan.status == 0);
  CHECK(plan.output.find("3 sequences, 2 at once") != std::string::npos);
  CHECK(plan.output.find(" for 2 x ") != std::string::npos);
  CHECK(plan.output.find("several times that in steps of 2 tokens") != std::string::npos);
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
