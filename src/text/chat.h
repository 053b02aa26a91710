// Chat templates as presets; the file's own Jinja template only decides which preset it is.
#pragma once
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace deltacal::text {

enum class ChatPreset { none, chatml, llama3, deepseek_r1 };

struct Message {
  std::string role, content;
};

// `name`: "auto" (chosen from the vocabulary's template; none where it has no template), "none", or a preset's name.
// bad_input for an unknown name, for a template that is none of the presets, and for a preset whose special tokens the
// vocabulary lacks.
ChatPreset choose_preset(const std::string& name, const Vocabulary&);
std::string name_of(ChatPreset);

// Token ids of a conversation up to and including the header of the assistant's turn (what the model continues).
// Special tokens come from the template alone: those spelled in a message's content stay text.
std::vector<int32_t> render_prompt(const Tokenizer&, ChatPreset, const std::vector<Message>&);

// As render_prompt for everything before the last message, which must be the assistant's, then its content and the
// end-of-turn token. n_prompt_tokens is the length of the prompt part.
struct Rendered {
  std::vector<int32_t> ids;
  int n_prompt_tokens = 0;
};
Rendered render_conversation(const Tokenizer&, ChatPreset, const std::vector<Message>&);

}  // namespace deltacal::text
