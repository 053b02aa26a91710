// Data in: JSON lines, one sample a line (exactly one form each; see README "Data").
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "text/chat.h"
#include "text/tokenizer.h"

namespace deltacal::text {

struct Sample {
  std::string id;       // `id`, else "FILE:LINE"
  std::string task;     // `task`, else ""
  std::string problem;  // key of the problem: (task, problem), else a hash of the question, else of the sample
  std::string answer;   // `answer`, else ""
  enum class Form { text, chat, input_ids } form = Form::text;
  std::string text;                // Form::text
  std::vector<Message> messages;   // Form::chat: question and response become user and assistant
  std::vector<int32_t> input_ids;  // Form::input_ids
};

// Reads all lines before anything else happens; a bad line is bad_input with file, line number and reason.
std::vector<Sample> read_jsonl(const std::string& path);

struct TokenizedSample {
  std::string id, task, problem, answer;
  std::vector<int32_t> ids;  // [T]
  int n_prompt_tokens = 0;   // positions below are prefilled in full: they are not steps
  std::string sha256;        // of ids
};

struct TokenLimits {
  int max_tokens = 0;   // keep the first so many tokens; 0: all
  int min_tokens = 0;   // leave out samples that are shorter (before the cut)
  int max_context = 0;  // a longer sample (after the cut) is bad_input
  int n_vocab = 0;      // an id outside is bad_input
  int limit = 0;        // so many samples at most; 0: all
};
struct TokenizedData {
  std::vector<TokenizedSample> samples;
  int n_too_short = 0;  // left out for min_tokens
  std::string sha256;   // of the file
};
// Tokenizer may be null only if every sample is input_ids.
TokenizedData tokenize(const std::vector<Sample>&, const std::string& path, const Tokenizer*, ChatPreset, const TokenLimits&);

// The prompt alone, for decoding: messages before the last assistant message, or the whole text.
std::vector<int32_t> prompt_ids(const Sample&, const Tokenizer&, ChatPreset);

}  // namespace deltacal::text
