// Packing: which lines make which sample, and how its problems are known.
#include "text/pack.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "support/scratch.h"
#include "text/byte_alphabet.h"

using namespace deltacal;
using namespace deltacal::text;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using Ids = std::vector<int32_t>;

namespace {

// A vocabulary of bytes; with ChatPreset::none a question takes its bytes and two newlines.
TokenizedData packed(const std::string& content, const TokenLimits& limits) {
  Vocabulary v;
  v.model = "gpt2";
  v.pre = "llama-bpe";
  for (int b = 0; b < 256; ++b) v.tokens.emplace_back(letter_of(static_cast<unsigned char>(b)));
  v.token_types.assign(256, 1);
  const test::Scratch folder;
  const std::string path = folder / "d.jsonl";
  write_file_atomically(path, content, Existing::replace);
  const Tokenizer t(v);
  return tokenize(read_jsonl(path), path, &t, ChatPreset::none, limits);
}

std::string chat(const std::string& task, int problem, const std::string& response) {
  return R"({"id": ")" + task + std::to_string(problem) + response.substr(0, 1) + R"(", "task": ")" + task +
         R"(", "problem": )" + std::to_string(problem) + R"(, "question": "q", "response": ")" + response +
         "\"}\n";
}

}  // namespace

TEST_CASE(
    "pack: lines of a task are joined in order; tasks are kept apart, what is long enough stays alone") {
  // Each chat line is "q\n\n" and its response: 6 tokens with "abc".
  const std::string content = chat("s", 1, "abc") + chat("t", 1, "def") + chat("s", 2, "ghijklmnop") +
                              chat("s", 3, "abc") + chat("t", 2, "def") + chat("s", 4, "abc") +
                              chat("s", 5, "abc");
  const auto data = packed(content, {.pack = 12});
  REQUIRE(data.samples.size() == 4);
  const auto &alone = data.samples[0], &first = data.samples[1], &second = data.samples[2];
  CHECK((alone.id == "s2g" && alone.problem == "s/2" && alone.parts.empty() && alone.ids.size() == 13));
  CHECK((first.id == "s1a+1" && first.task == "s" && first.n_prompt_tokens == 3 && first.answer.empty()));
  CHECK(first.ids == Ids{'q', '\n', '\n', 'a', 'b', 'c', 'q', '\n', '\n', 'a', 'b', 'c'});
  CHECK(first.sha256 == sha256_of_tokens(first.ids));
  REQUIRE(first.parts.size() == 2);
  CHECK((first.parts[0].id == "s1a" && first.parts[0].problem == "s/1"));
  CHECK((first.parts[1].id == "s3a" && first.parts[1].problem == "s/3"));
  CHECK(first.problem == "packed:" + sha256(std::string_view("s/1\ns/3")));
  CHECK((second.task == "t" && second.parts[1].problem == "t/2"));
  CHECK(data.samples[3].id == "s4a+1");
  CHECK(data.n_left_over == 0);
}

TEST_CASE("pack: text and input_ids are joined as they are, limits are of the packed samples") {
  const std::string ids = "{\"input_ids\": [1, 2]}\n{\"text\": \"abc\"}\n{\"input_ids\": [3]}\n";
  const auto data = packed(ids + ids + ids, {.pack = 5});
  REQUIRE(data.samples.size() == 3);
  CHECK(data.samples[0].ids == Ids{1, 2, 'a', 'b', 'c'});
  CHECK(data.samples[0].n_prompt_tokens == 0);
  CHECK(data.samples[1].ids == Ids{3, 1, 2, 'a', 'b', 'c'});
  CHECK(data.n_left_over == 1);
  CHECK(packed(ids + ids + ids, {.limit = 1, .pack = 5}).samples.size() == 1);
  const auto cut = packed(ids + ids + ids, {.max_tokens = 5, .min_tokens = 6, .pack = 5});
  CHECK(cut.n_too_short == 1);
  REQUIRE(cut.samples.size() == 2);
  CHECK(cut.samples[0].ids == Ids{3, 1, 2, 'a', 'b'});
}

TEST_CASE(
    "pack: samples that share a problem are one problem to the statistics, the only one keeps its name") {
  const std::string a = chat("s", 1, "abc") + chat("s", 2, "abc") + chat("s", 3, "abc") + chat("s", 4, "abc");
  // Problem 2 again, long enough to stay alone; problem 5 alone, twice in one pack.
  const std::string b = chat("s", 2, "lmnopqrstuvw") + chat("s", 5, "abc") + chat("s", 5, "xyz");
  const auto data = packed(a + b, {.pack = 12});
  REQUIRE(data.samples.size() == 4);
  const std::string shared = "packed:" + sha256(std::string_view("s/1\ns/2"));
  CHECK(data.samples[0].problem == shared);
  CHECK(data.samples[1].problem == "packed:" + sha256(std::string_view("s/3\ns/4")));
  CHECK(data.samples[2].problem == shared);
  REQUIRE(data.samples[2].parts.size() == 1);
  CHECK((data.samples[2].parts[0].id == "s2l" && data.samples[2].parts[0].problem == "s/2"));
  CHECK(data.samples[3].problem == "s/5");
  CHECK(data.samples[3].parts.size() == 2);
}

TEST_CASE("pack: what cannot be packed or does not fit is refused by name") {
  const auto refused = [](const std::string& content, const TokenLimits& limits, const std::string& message) {
    CHECK_THROWS_MATCHES(packed(content, limits), Error, MessageMatches(ContainsSubstring(message)));
  };
  const std::string two = chat("s", 1, "abc") + chat("s", 2, "abc");
  refused(two, {.pack = 13}, "no task has lines of 13 tokens together: lower --pack");
  refused(two, {.max_context = 11, .pack = 12},
          "sample s1a+1: its 12 tokens do not fit the model's context of 11");
  refused(two + "{\"id\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}", {.pack = 12},
          "sample m: the last message must be");
}
