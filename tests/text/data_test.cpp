#include "text/data.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>

#include "core/error.h"
#include "core/hash.h"
#include "support/scratch.h"
#include "text/byte_alphabet.h"

using namespace deltacal;
using namespace deltacal::text;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

// A file that goes with the test.
struct Jsonl {
  explicit Jsonl(const std::string& content) { std::ofstream(path, std::ios::binary) << content; }
  test::Scratch folder;
  std::string path = folder / "data.jsonl";
};

std::vector<Sample> read(const std::string& content) {
  return read_jsonl(Jsonl(content).path);
}
Sample read_one(const std::string& content) {
  const auto samples = read(content);
  REQUIRE(samples.size() == 1);
  return samples[0];
}

// The error has the status of bad input, names file and line, and says `message`.
void refuses(const std::string& content, int line, const std::string& message) {
  const Jsonl file(content);
  INFO(content.substr(0, 100));
  try {
    read_jsonl(file.path);
    FAIL("was read");
  } catch (const Error& error) {
    CHECK(error.status() == Status::bad_input);
    CHECK_THAT(error.what(), Catch::Matchers::StartsWith(file.path + " line " + std::to_string(line) + ": "));
    CHECK_THAT(error.what(), ContainsSubstring(message));
    CHECK(std::string(error.what()).size() < 600);
  }
}

Tokenizer bytes_only(bool add_bos = false) {
  Vocabulary v;
  v.model = "gpt2";
  v.pre = "llama-bpe";
  for (int b = 0; b < 256; ++b) v.tokens.emplace_back(letter_of(static_cast<unsigned char>(b)));
  v.tokens.emplace_back("<s>");
  v.token_types.assign(256, 1);
  v.token_types.push_back(3);
  v.bos_id = 256;
  v.add_bos = add_bos;
  return Tokenizer(v);
}

TokenizedData tokenized(const std::string& content, const TokenLimits& limits = {},
                        ChatPreset preset = ChatPreset::none) {
  const Jsonl file(content);
  const Tokenizer t = bytes_only();
  return tokenize(read_jsonl(file.path), file.path, &t, preset, limits);
}

}  // namespace

TEST_CASE("data: each form is read") {
  CHECK(read_one(R"({"text": "a b"})").text == "a b");
  CHECK(read_one(R"({"input_ids": [1, 2, 2147483647]})").input_ids == std::vector<int32_t>{1, 2, 2147483647});
  for (const std::string question : {"question", "prompt", "problem"})
    for (const std::string response : {"response", "completion", "solution"}) {
      const Sample s =
          read_one(R"({")" + question + R"(": "q?", ")" + response + R"(": "r.", "source": {"any": [1]}})");
      CHECK(s.form == Sample::Form::chat);
      REQUIRE(s.messages.size() == 2);
      CHECK((s.messages[0].role == "user" && s.messages[0].content == "q?"));
      CHECK((s.messages[1].role == "assistant" && s.messages[1].content == "r."));
    }
  const Sample m = read_one(
      R"({"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "q", "name": "n"}]})");
  REQUIRE(m.messages.size() == 2);
  CHECK((m.messages[0].role == "system" && m.messages[1].content == "q"));
}

TEST_CASE("data: id, task and answer are kept, numbers as they are spelled") {
  const Sample s = read_one(R"({"id": 7, "task": "t", "answer": 204, "text": "x", "problem": null})");
  CHECK((s.id == "7" && s.task == "t" && s.answer == "204"));
  const Jsonl file("\n{\"text\": \"x\"}\n");
  CHECK(read_jsonl(file.path)[0].id == "data.jsonl:2");
}

TEST_CASE("data: samples of one problem share its key, others do not") {
  const auto key = [](const std::string& line) { return read_one(line).problem; };
  CHECK(key(R"({"task": "aime24", "problem": 0, "question": "q", "response": "a"})") == "aime24/0");
  CHECK(key(R"({"task": "aime24", "problem": "0", "prompt": "other", "response": "b"})") == "aime24/0");
  CHECK(key(R"({"problem": 3, "text": "x"})") == "/3");
  CHECK(key(R"({"problem": "named", "messages": [{"role": "user", "content": "q"}]})") == "/named");
  // Without a number: the question, however it is spelled in the file.
  const std::string q = "question:" + sha256(std::string_view("q"));
  CHECK(key(R"({"question": "q", "response": "a"})") == q);
  CHECK(key(R"({"problem": "q", "solution": "b", "task": "t"})") == q);
  CHECK(key(R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},)"
            R"( {"role": "assistant", "content": "z"}]})") == q);
  CHECK(key(R"({"question": "Q", "response": "a"})") != q);
  CHECK(key(R"({"text": "x"})") == "sample:" + sha256(std::string_view("x")));
  CHECK(key(R"({"input_ids": [1]})") == "sample:" + sha256_of_tokens(std::vector<int32_t>{1}));
}

TEST_CASE("data: byte order mark, CRLF, blank lines and a missing last newline are taken, lines counted") {
  const auto samples =
      read("\xEF\xBB\xBF{\"text\": \"a\"}\r\n\r\n  \t\n{\"text\": \"b\\r\\n\"}\n\n{\"text\": \"c\"}");
  REQUIRE(samples.size() == 3);
  CHECK((samples[0].text == "a" && samples[1].text == "b\r\n" && samples[2].text == "c"));
  CHECK(samples[1].id.ends_with(":4"));
  refuses("\xEF\xBB\xBF\r\n\n{\"text\": 1}\r\n", 3, "'text' is a JSON number");
}

TEST_CASE("data: a bad line is refused with its number and the reason") {
  const std::string good = "{\"text\": \"a\"}\n";
  refuses(good + "{\"text\": \"a\"", 2, "not valid JSON at byte 13");
  refuses(good + "[1]\n", 2, "a JSON array, where an object is needed");
  refuses(good + good + "{\"text\": \"\xFF\"}\n", 3, "not valid JSON at byte 11 of the line");
  refuses("{\"text\": \"\xED\xA0\x80\"}\n", 1, "not valid JSON");
  refuses("{\"text\": \"\\ud800\"}\n", 1, "not valid JSON");
  refuses("{\"text\": \"" + std::string(1 << 20, 'x'), 1,
          "not valid JSON");  // a huge line, cut: a short message
  refuses(std::string(100000, '['), 1, "not valid JSON");
  refuses("\xFF\xFE{\0\"\0", 1, "not valid JSON");  // UTF-16
  refuses("{}", 1, "no form of sample");
  refuses(R"({"text": null})", 1, "no form of sample");
  refuses(R"({"question": "q"})", 1, "'question' is there without response");
  refuses(R"({"response": "r"})", 1, "'response' is there without a question");
  refuses(R"({"problem": 1, "response": "r"})", 1, "'response' is there without a question");
  refuses(R"({"text": "a", "text": "b"})", 1, "the field 'text' is there twice");
  refuses(R"({"text": "a", "input_ids": [1]})", 1, "more than one form of sample: text, input_ids");
  refuses(R"({"text": "a", "question": "q", "response": "r"})", 1,
          "more than one form of sample: text, question");
  refuses(R"({"messages": [{"role": "user", "content": "q"}], "problem": "p", "solution": "s"})", 1,
          "messages, problem");
  refuses(R"({"question": "q", "prompt": "p", "response": "r"})", 1, "both 'question' and 'prompt'");
  refuses(R"({"question": "q", "response": "r", "solution": "s"})", 1, "both 'response' and 'solution'");
  refuses(R"({"text": ""})", 1, "'text' is empty");
  refuses(R"({"question": "", "response": "r"})", 1, "'question' is empty");
  refuses(R"({"question": "q", "response": ""})", 1, "'response' is empty");
  refuses(R"({"question": ["q"], "response": "r"})", 1, "'question' is a JSON array");
  refuses(R"({"text": "a", "id": []})", 1, "'id' is a JSON array, where a string or a number is needed");
  refuses(R"({"text": "a", "problem": true})", 1, "'problem' is a JSON boolean");
  for (const std::string ids :
       {"[]", "1", "[1.5]", "[-1]", "[2147483648]", "[18446744073709551615]", "[\"1\"]", "[[1]]", "[null]"})
    refuses("{\"input_ids\": " + ids + "}", 1, "'input_ids'");
  refuses(R"({"messages": []})", 1, "at least one message");
  refuses(R"({"messages": ["q"]})", 1, "message 0");
  refuses(R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": [1]}]})", 1,
          "message 1");
  refuses(R"({"messages": [{"role": "tool", "content": "q"}]})", 1, "role 'tool'");
  refuses(R"({"messages": [{"role": "assistant", "content": "a"}]})", 1, "none before it");
  refuses(R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}]})", 1,
          "is empty");
}

TEST_CASE("data: two samples of one id are refused with both lines") {
  refuses(
      "{\"id\": \"a\", \"text\": \"x\"}\n\n{\"id\": \"b\", \"text\": \"x\"}\n{\"id\": \"a\", \"text\": "
      "\"y\"}\n",
      4, "the id 'a' is that of line 1 already");
}

TEST_CASE("data: a file without samples, or no file, is refused by name") {
  for (const std::string content : {"", "\n\n", "\xEF\xBB\xBF"}) {
    const Jsonl file(content);
    CHECK_THROWS_MATCHES(read_jsonl(file.path), Error,
                         MessageMatches(ContainsSubstring(file.path + " holds no samples")));
  }
  CHECK_THROWS_AS(read_jsonl("no/such/file.jsonl"), Error);
}

TEST_CASE("data: tokens, prompt length and hashes of each form") {
  const std::string content =
      "{\"text\": \"ab\"}\n{\"question\": \"q\", \"response\": \"rs\", \"answer\": 5, \"task\": "
      "\"t\"}\n{\"input_ids\": [9, 8]}\n";
  const auto data = tokenized(content);
  CHECK(data.sha256 == sha256(std::string_view(content)));
  REQUIRE(data.samples.size() == 3);
  CHECK(data.samples[0].ids == std::vector<int32_t>{'a', 'b'});
  CHECK(data.samples[0].n_prompt_tokens == 0);
  CHECK(data.samples[1].n_prompt_tokens == 3);  // "q", blank line
  CHECK(data.samples[1].ids.size() == 5);
  CHECK((data.samples[1].answer == "5" && data.samples[1].task == "t"));
  CHECK(data.samples[2].ids == std::vector<int32_t>{9, 8});
  CHECK(data.samples[2].sha256 == sha256_of_tokens(std::vector<int32_t>{9, 8}));
}

TEST_CASE("data: limits cut, leave out, count and stop") {
  const std::string content =
      "{\"input_ids\": [1]}\n{\"input_ids\": [1, 2, 3]}\n{\"input_ids\": [1, 2, 3, 4]}\n{\"input_ids\": [5, "
      "6, 7]}\n";
  const auto data = tokenized(content, {.max_tokens = 3, .min_tokens = 2, .limit = 2});
  CHECK(data.n_too_short == 1);
  REQUIRE(data.samples.size() == 2);
  CHECK(data.samples[1].ids == std::vector<int32_t>{1, 2, 3});
  CHECK(data.samples[1].sha256 == sha256_of_tokens(std::vector<int32_t>{1, 2, 3}));
}

TEST_CASE("data: samples that the model cannot take are refused by name") {
  const auto refused = [](const std::string& content, const TokenLimits& limits, const std::string& message) {
    CHECK_THROWS_MATCHES(tokenized(content, limits), Error, MessageMatches(ContainsSubstring(message)));
  };
  const std::string ids = "{\"id\": \"s1\", \"input_ids\": [1, 2, 300]}\n",
                    chat = "{\"id\": \"c1\", \"question\": \"qqq\", \"response\": \"r\"}\n";
  refused(ids, {.max_context = 2},
          "sample s1: its 3 tokens do not fit the model's context of 2: cut it with --max-tokens 2");
  refused(ids, {.n_vocab = 300}, "sample s1: token 2 is id 300, outside the model's vocabulary of 300");
  refused(chat, {.max_tokens = 5}, "sample c1: no token follows its prompt of 5 tokens: raise --max-tokens");
  refused(ids, {.min_tokens = 4}, "no sample has 4 tokens or more");
  refused("{\"id\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}", {},
          "sample m: the last message must be");
  CHECK(tokenized(ids, {.max_tokens = 2, .max_context = 2}).samples.size() == 1);  // the cut comes first
  CHECK(tokenized(chat, {.max_tokens = 6}).samples[0].ids.size() == 6);
  const Jsonl file("{\"text\": \"a\"}");
  CHECK_THROWS_AS(tokenize(read_jsonl(file.path), file.path, nullptr, ChatPreset::none, {}), Error);
}

TEST_CASE("data: text of which the vocabulary knows nothing is an empty trace") {
  Vocabulary v;
  v.model = "gpt2";
  v.pre = "smollm";
  v.tokens = {"a"};
  v.token_types = {1};
  const Tokenizer t(v);
  const Jsonl file("{\"id\": \"e\", \"text\": \"bc\"}");
  CHECK_THROWS_MATCHES(tokenize(read_jsonl(file.path), file.path, &t, ChatPreset::none, {}), Error,
                       MessageMatches(ContainsSubstring("sample e: it has no tokens")));
}

TEST_CASE("data: the prompt for decoding leaves out the last answer alone") {
  const Tokenizer t = bytes_only(true);
  const auto prompt = [&](const std::string& line) {
    return t.decode(prompt_ids(read_one(line), t, ChatPreset::none));
  };
  CHECK(prompt(R"({"question": "q", "response": "r"})") == "<s>q\n\n");
  CHECK(prompt(R"({"messages": [{"role": "user", "content": "q"}]})") == "<s>q\n\n");
  CHECK(prompt(R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},)"
               R"( {"role": "user", "content": "p"}]})") == "<s>q\n\na\n\np\n\n");
  CHECK(prompt(R"({"text": "abc"})") == "<s>abc");
  CHECK(prompt_ids(read_one(R"({"input_ids": [4, 5]})"), t, ChatPreset::none) == std::vector<int32_t>{4, 5});
}
