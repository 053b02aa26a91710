#include "text/chat.h"

#include <algorithm>
#include <array>
#include <span>

#include "core/error.h"

namespace deltacal::text {
namespace {

struct Preset {
  ChatPreset preset;
  std::string_view name;
  std::string_view mark;  // in a template of this kind and in no other
  std::array<std::string_view, 4> tokens;
};

constexpr std::array<Preset, 3> presets{{
    {ChatPreset::chatml, "chatml", "<|im_start|>", {"<|im_start|>", "<|im_end|>", "", ""}},
    {ChatPreset::llama3,
     "llama3",
     "<|start_header_id|>",
     {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
    {ChatPreset::deepseek_r1,
     "deepseek-r1",
     "<｜Assistant｜>",
     {"<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"}},
}};

constexpr std::string_view names = "auto, none, chatml, llama3, deepseek-r1";

ChatPreset preset_of_template(const std::string& chat_template) {
  if (chat_template.empty()) return ChatPreset::none;
  for (const Preset& p : presets)
    if (chat_template.find(p.mark) != std::string::npos) return p.preset;
  throw bad_input("the model's chat template is none of those known. Choose one with --chat ({})", names);
}

void require_tokens(const Preset& p, const Vocabulary& v) {
  for (const auto token : p.tokens) {
    if (token.empty()) continue;
    bool found = false;
    for (const std::string& t : v.tokens) found = found || t == token;
    if (!found)
      throw bad_input(
          "chat template '{}' needs the token {}, which the model's vocabulary lacks. Use --chat none, or "
          "another of {}",
          p.name, token, names);
  }
}

// A string literal's content as Jinja reads it.
std::string unescaped(std::string_view literal) {
  std::string out;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      out += literal[i];
      continue;
    }
    const char c = literal[++i];
    out += c == 'n' ? '\n' : c == 't' ? '\t' : c;
  }
  return out;
}

bool starts_with_newline(std::string_view& text) {
  const size_t n = text.starts_with("\n") ? 1 : text.starts_with("\\n") ? 2 : 0;
  text.remove_prefix(n);
  return n > 0;
}

// Whether `text`, taken from inside a template, is fixed text: inside a string literal it does not leave it,
// outside it holds no expression.
bool is_fixed(std::string_view text, char before) {
  if (before != '\'' && before != '"') return text.find('{') == std::string_view::npos;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == before) return false;
    if (text[i] == '\\') ++i;
  }
  return true;
}

std::string trimmed(std::string_view text) {
  constexpr std::string_view spaces = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(spaces);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(spaces) + 1 - begin));
}

// Text and special tokens of a rendering. Text is encoded in stretches as long as they come, because BPE
// merges across the seam of header and content.
class Renderer {
 public:
  explicit Renderer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void text(std::string_view part) { pending_ += part; }
  void special(std::string_view token) {
    flush();
    const int32_t id = tokenizer_.id_of(token);
    if (id < 0) throw bad_input("the model's vocabulary lacks the token {} of this chat template", token);
    ids_.push_back(id);
  }
  void id(int32_t id) {
    flush();
    ids_.push_back(id);
  }
  std::vector<int32_t> take() {
    flush();
    return std::move(ids_);
  }

 private:
  void flush() {
    const auto ids = tokenizer_.encode(pending_, Special::as_text);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    pending_.clear();
  }
  const Tokenizer& tokenizer_;
  std::string pending_;
  std::vector<int32_t> ids_;
};

using Messages = std::span<const Message>;

constexpr std::string_view think = "<think>\n";

// Whether the template's header of the assistant's turn ends with "<think>" and a newline (DeepSeek-R1, QwQ).
bool opens_thought(ChatPreset preset, const std::string& chat_template) {
  const auto has = [&](std::string_view text) { return chat_template.find(text) != std::string::npos; };
  if (preset == ChatPreset::deepseek_r1) return has("<｜Assistant｜><think>");
  return preset == ChatPreset::chatml &&
         (has("<|im_start|>assistant\\n<think>") || has("<|im_start|>assistant\n<think>"));
}

// An earlier answer without its thought, as `content.split('</think>')[-1]` in a template does it.
std::string_view without_thought(std::string_view content) {
  constexpr std::string_view end_of_thought = "</think>";
  const size_t end = content.rfind(end_of_thought);
  return end == std::string_view::npos ? content : content.substr(end + end_of_thought.size());
}

void chatml(Renderer& out, const Vocabulary& v, Messages messages) {
  const auto turn = [&](std::string_view role, std::string_view content) {
    out.special("<|im_start|>");
    out.text(role);
    out.text("\n");
    out.text(content);
    out.special("<|im_end|>");
    out.text("\n");
  };
  if (messages.front().role != "system")
    if (const auto system = default_system_message(v.chat_template)) turn("system", *system);
  const std::string_view drops_thoughts = "split('</think>')[-1].lstrip('\\n')";  // QwQ's template
  const bool drop = v.chat_template.find(drops_thoughts) != std::string::npos;
  for (const Message& m : messages) {
    std::string_view content = m.content;
    if (drop && m.role == "assistant") {
      content = without_thought(content);
      content.remove_prefix(std::min(content.find_first_not_of('\n'), content.size()));
    }
    turn(m.role, content);
  }
  out.special("<|im_start|>");
  out.text("assistant\n");
  if (opens_thought(ChatPreset::chatml, v.chat_template)) out.text(think);
}

// Llama 3.1's and 3.2's templates open with a system turn that tells dates; "today" is the fixed date they
// name, so that the same input gives the same tokens every day.
std::string llama31_dates(const std::string& chat_template) {
  constexpr std::string_view cutoff = "Cutting Knowledge Date: December 2023", today = "date_string = \"";
  if (chat_template.find(cutoff) == std::string::npos) return "";
  const size_t at = chat_template.find(today);
  const size_t begin = at + today.size(), end = chat_template.find('"', begin);
  if (at == std::string::npos || end == std::string::npos)
    throw bad_input("the model's chat template tells a date that is not fixed in it. Use --chat none");
  return fmt::format("{}\nToday Date: {}\n\n", cutoff, chat_template.substr(begin, end - begin));
}

void llama3(Renderer& out, const Vocabulary& v, Messages messages) {
  const auto header = [&](std::string_view role) {
    out.special("<|start_header_id|>");
    out.text(role);
    out.special("<|end_header_id|>");
    out.text("\n\n");
  };
  const auto turn = [&](std::string_view role, const std::string& content) {
    header(role);
    out.text(content);
    out.special("<|eot_id|>");
  };
  out.special("<|begin_of_text|>");
  if (const std::string dates = llama31_dates(v.chat_template); !dates.empty()) {
    const bool has_system = messages.front().role == "system";
    turn("system", dates + (has_system ? trimmed(messages.front().content) : ""));
    messages = messages.subspan(has_system ? 1 : 0);
  }
  for (const Message& m : messages) turn(m.role, trimmed(m.content));
  header("assistant");
}

void deepseek_r1(Renderer& out, const Vocabulary& v, Messages messages) {
  out.special("<｜begin▁of▁sentence｜>");
  std::string_view system;
  for (const Message& m : messages)
    if (m.role == "system") system = m.content;
  out.text(system);
  for (const Message& m : messages) {
    if (m.role == "user") {
      out.special("<｜User｜>");
      out.text(m.content);
    } else if (m.role == "assistant") {
      out.special("<｜Assistant｜>");
      out.text(without_thought(m.content));
      out.special("<｜end▁of▁sentence｜>");
    }
  }
  out.special("<｜Assistant｜>");
  if (opens_thought(ChatPreset::deepseek_r1, v.chat_template)) out.text(think);
}

void plain(Renderer& out, const Vocabulary& v, Messages messages) {
  if (v.add_bos) out.id(v.bos_id);
  for (const Message& m : messages) {
    out.text(m.content);
    out.text("\n\n");
  }
}

std::string_view end_of_turn(ChatPreset preset) {
  switch (preset) {
    case ChatPreset::chatml:
      return "<|im_end|>";
    case ChatPreset::llama3:
      return "<|eot_id|>";
    case ChatPreset::deepseek_r1:
      return "<｜end▁of▁sentence｜>";
    case ChatPreset::none:
      break;
  }
  return "";
}

std::vector<int32_t> prompt(const Tokenizer& tokenizer, ChatPreset preset, Messages messages) {
  if (messages.empty()) throw bad_input("a conversation needs a message before the assistant's");
  for (const Message& m : messages)
    if (m.role != "system" && m.role != "user" && m.role != "assistant")
      throw bad_input("messages of role '{}' are not supported (supported: system, user, assistant)", m.role);
  Renderer out(tokenizer);
  const Vocabulary& v = tokenizer.vocabulary();
  switch (preset) {
    case ChatPreset::chatml:
      chatml(out, v, messages);
      break;
    case ChatPreset::llama3:
      llama3(out, v, messages);
      break;
    case ChatPreset::deepseek_r1:
      deepseek_r1(out, v, messages);
      break;
    case ChatPreset::none:
      plain(out, v, messages);
      break;
  }
  return out.take();
}

}  // namespace

ChatPreset choose_preset(const std::string& name, const Vocabulary& vocabulary) {
  if (name == "none") return ChatPreset::none;
  const bool automatic = name == "auto";
  const ChatPreset wanted = automatic ? preset_of_template(vocabulary.chat_template) : ChatPreset::none;
  for (const Preset& p : presets) {
    if (automatic ? p.preset != wanted : p.name != name) continue;
    require_tokens(p, vocabulary);
    return p.preset;
  }
  if (automatic) return ChatPreset::none;
  throw bad_input("there is no chat template '{}' (--chat: one of {})", name, names);
}

std::string name_of(ChatPreset preset) {
  for (const Preset& p : presets)
    if (p.preset == preset) return std::string(p.name);
  return "none";
}

std::optional<std::string> default_system_message(const std::string& chat_template) {
  constexpr std::string_view header = "<|im_start|>system", end = "<|im_end|>";
  for (size_t at = chat_template.find(header); at != std::string::npos;
       at = chat_template.find(header, at + 1)) {
    std::string_view text = std::string_view(chat_template).substr(at + header.size());
    const size_t length = text.find(end);
    if (length == std::string_view::npos) break;
    text = text.substr(0, length);
    const char before = at > 0 ? chat_template[at - 1] : '\0';
    if (!starts_with_newline(text) || !is_fixed(text, before)) continue;
    return before == '\'' || before == '"' ? unescaped(text) : std::string(text);
  }
  return std::nullopt;
}

std::vector<int32_t> render_prompt(const Tokenizer& tokenizer, ChatPreset preset,
                                   const std::vector<Message>& messages) {
  return prompt(tokenizer, preset, messages);
}

Rendered render_conversation(const Tokenizer& tokenizer, ChatPreset preset,
                             const std::vector<Message>& messages) {
  if (messages.empty() || messages.back().role != "assistant")
    throw bad_input("the last message must be the assistant's: it is the text to be measured");
  Rendered out;
  out.ids = prompt(tokenizer, preset, Messages(messages).first(messages.size() - 1));
  out.n_prompt_tokens = static_cast<int>(out.ids.size());

  std::string_view content = messages.back().content;
  const bool thinking = opens_thought(preset, tokenizer.vocabulary().chat_template);
  if (thinking && content.starts_with(think)) content.remove_prefix(think.size());
  const auto answer = tokenizer.encode(content, Special::as_text);
  out.ids.insert(out.ids.end(), answer.begin(), answer.end());
  if (const auto end = end_of_turn(preset); !end.empty()) out.ids.push_back(tokenizer.id_of(end));
  return out;
}

}  // namespace deltacal::text
