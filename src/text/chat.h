// Chat templates as presets. The file's own Jinja template decides which preset it is and what differs
// between files of one preset: the system message that ChatML adds where there is none, Llama 3.1's dates,
// DeepSeek-R1's "<think>".
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace deltacal::text {

enum class ChatPreset { none, chatml, llama3, deepseek_r1 };

struct Message {
  std::string role, content;  // role: "system", "user" or "assistant"
};

// `name`: "auto" (chosen from the vocabulary's template; none where it has no template), "none", or a
// preset's name: "chatml", "llama3", "deepseek-r1". bad_input for an unknown name, for a template that is
// none of the presets, and for a preset whose special tokens the vocabulary lacks.
ChatPreset choose_preset(const std::string& name, const Vocabulary&);
std::string name_of(ChatPreset);

// The system message that a ChatML template puts first where the conversation has none; nothing if it adds
// none.
std::optional<std::string> default_system_message(const std::string& chat_template);

// Token ids of a conversation up to and including the header of the assistant's turn (what the model
// continues). Special tokens come from the template alone: those spelled in a message's content stay text.
// ChatPreset::none: contents with a blank line after each (and bos where the tokenizer adds it).
// DeepSeek-R1: of several system messages the last counts, thoughts of earlier assistant turns are left out,
// and the header ends with "<think>" and a newline where the file's template has it there. bad_input: no
// message, or a role other than the three.
std::vector<int32_t> render_prompt(const Tokenizer&, ChatPreset, const std::vector<Message>&);

// As render_prompt for everything before the last message, which must be the assistant's, then its content,
// as it is, and the end-of-turn token (none for ChatPreset::none). n_prompt_tokens is the length of the
// prompt part. A content that begins with the "<think>" the header ends with is not given it twice.
struct Rendered {
  std::vector<int32_t> ids;
  int n_prompt_tokens = 0;
};
Rendered render_conversation(const Tokenizer&, ChatPreset, const std::vector<Message>&);

}  // namespace deltacal::text
