// Data in: JSON lines, one sample a line, each in exactly one form:
//   {"text": ...}
//   {"question" | "prompt" | "problem" (a string, where neither other is there): ..., "response" |
//   "completion" |
//    "solution": ...}
//   {"messages": [{"role": ..., "content": ...}, ...]}
//   {"input_ids": [...]}
// with, optionally, "id", "task", "problem" (string or number, beside the form) and "answer". Other fields
// are ignored.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "text/chat.h"
#include "text/tokenizer.h"

namespace deltacal::text {

struct Sample {
  std::string id;    // `id`, else "FILE:LINE"
  std::string task;  // `task`, else ""
  // Key of the problem, equal for two samples of one problem: "TASK/PROBLEM" of the two fields (the task may
  // be empty), else "question:HASH" of what the user says before the last answer, else "sample:HASH" of text
  // or ids.
  std::string problem;
  std::string answer;  // `answer`, else ""
  enum class Form { text, chat, input_ids } form = Form::text;
  std::string text;                // Form::text
  std::vector<Message> messages;   // Form::chat: question and response become user and assistant
  std::vector<int32_t> input_ids;  // Form::input_ids
};

// Reads all lines before anything else happens; a bad line is bad_input with file, line number and reason,
// and so are two samples of one id and a file without samples. A byte order mark, CRLF and blank lines are
// taken.
std::vector<Sample> read_jsonl(const std::string& path);

// A line of the file within a packed sample.
struct Part {
  std::string id, problem;
};

struct TokenizedSample {
  std::string id, task, problem, answer;
  std::vector<int32_t> ids;   // [T]
  int n_prompt_tokens = 0;    // positions below are prefilled in full: they are not steps
  std::string sha256;         // of ids
  std::vector<Part> parts{};  // lines that were packed into it (text/pack.h); empty where `problem` says all
};

struct TokenLimits {
  int max_tokens = 0;   // keep the first so many tokens; 0: all
  int min_tokens = 0;   // leave out samples that are shorter (before the cut)
  int max_context = 0;  // a longer sample (after the cut) is bad_input
  int n_vocab = 0;      // an id outside is bad_input
  int limit = 0;        // so many samples at most; 0: all
  int pack = 0;         // join lines of a task to samples of at least so many tokens (text/pack.h); 0: do not
};
struct TokenizedData {
  std::vector<TokenizedSample> samples;
  int n_too_short = 0;  // left out for min_tokens
  int n_left_over = 0;  // lines left out by `pack`: all of their task's together make no sample
  std::string sha256;   // of the file
};
// Tokenizer may be null only if every sample is input_ids. bad_input, naming file and sample: one without a
// token, or without one after its prompt (also because of max_tokens); longer than max_context; an id outside
// the vocabulary; messages that do not end with the assistant's; no sample left by min_tokens or pack. The other
// limits are of the packed samples.
TokenizedData tokenize(const std::vector<Sample>&, const std::string& path, const Tokenizer*, ChatPreset,
                       const TokenLimits&);

// The prompt alone, for decoding: messages before a last one that is the assistant's, or the whole text or
// input_ids.
std::vector<int32_t> prompt_ids(const Sample&, const Tokenizer&, ChatPreset);

}  // namespace deltacal::text
