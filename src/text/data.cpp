#include "text/data.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "text/pack.h"

namespace deltacal::text {
namespace {

using nlohmann::json;

// Where a line comes from, for messages.
struct Place {
  const std::string& path;
  int line;

  template <class... Args>
  Error bad(fmt::format_string<Args...> format, Args&&... args) const {
    return bad_input("{} line {}: {}", path, line, fmt::format(format, std::forward<Args>(args)...));
  }
};

constexpr std::string_view forms =
    "text; question with response; messages; input_ids (question may be called prompt or problem, response "
    "may be "
    "called completion or solution)";

// What nlohmann-json says of an error, without its own line number (always 1) and without the text it read so
// far.
std::string reason(const json::parse_error& error) {
  std::string text = error.what();
  if (const size_t column = text.find("column "); column != std::string::npos)
    if (const size_t colon = text.find(": ", column); colon != std::string::npos) text.erase(0, colon + 2);
  if (const size_t read = text.find("; last read"); read != std::string::npos) text.erase(read);
  return text.substr(0, 200);
}

json parse_object(std::string_view line, const Place& place) {
  std::set<std::string> keys;
  const auto check_keys = [&](int depth, json::parse_event_t event, json& value) {
    if (depth == 1 && event == json::parse_event_t::key && !keys.insert(value.get<std::string>()).second)
      throw place.bad("the field '{}' is there twice", value.get<std::string>());
    return true;
  };
  try {
    json object = json::parse(line, check_keys);
    if (!object.is_object()) throw place.bad("a JSON {}, where an object is needed", object.type_name());
    return object;
  } catch (const json::parse_error& error) {
    throw place.bad("not valid JSON at byte {} of the line: {}", error.byte, reason(error));
  }
}

// A field that is there and not null.
const json* field(const json& object, const std::string& name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string nonempty_string(const json& value, const std::string& name, const Place& place) {
  if (!value.is_string())
    throw place.bad("'{}' is a JSON {}, where a string is needed", name, value.type_name());
  auto text = value.get<std::string>();
  if (text.empty()) throw place.bad("'{}' is empty", name);
  return text;
}

// An optional string or number, as a string; "" if it is not there.
std::string label(const json& object, const std::string& name, const Place& place) {
  const json* value = field(object, name);
  if (value == nullptr) return "";
  if (value->is_string()) return value->get<std::string>();
  if (value->is_number()) return value->dump();
  throw place.bad("'{}' is a JSON {}, where a string or a number is needed", name, value->type_name());
}

// The one of `names` that is there; "" if none is.
std::string one_of(const json& object, std::initializer_list<const char*> names, const Place& place) {
  std::string found;
  for (const char* name : names) {
    if (field(object, name) == nullptr) continue;
    if (!found.empty()) throw place.bad("both '{}' and '{}' are there: keep one", found, name);
    found = name;
  }
  return found;
}

std::vector<Message> messages_of(const json& value, const Place& place) {
  if (!value.is_array() || value.empty())
    throw place.bad("'messages' must be a list with at least one message");
  std::vector<Message> messages;
  for (size_t i = 0; i < value.size(); ++i) {
    const json& m = value[i];
    const json* role = m.is_object() ? field(m, "role") : nullptr;
    const json* content = m.is_object() ? field(m, "content") : nullptr;
    if (role == nullptr || content == nullptr || !role->is_string() || !content->is_string())
      throw place.bad("message {} must be an object with the strings 'role' and 'content'", i);
    messages.push_back({role->get<std::string>(), content->get<std::string>()});
    const std::string& r = messages.back().role;
    if (r != "system" && r != "user" && r != "assistant")
      throw place.bad("message {} has the role '{}' (supported: system, user, assistant)", i, r);
  }
  if (messages.back().role == "assistant") {
    if (messages.size() == 1) throw place.bad("the assistant's message has none before it");
    if (messages.back().content.empty()) throw place.bad("the assistant's last message is empty");
  }
  return messages;
}

std::vector<int32_t> ids_of(const json& value, const Place& place) {
  if (!value.is_array() || value.empty())
    throw place.bad("'input_ids' must be a list with at least one token id");
  std::vector<int32_t> ids;
  ids.reserve(value.size());
  for (size_t i = 0; i < value.size(); ++i) {
    const bool fits = value[i].is_number_integer() && value[i] >= 0 && value[i] <= INT32_MAX;
    if (!fits)
      throw place.bad("'input_ids' entry {} is {}, which is no token id", i, value[i].dump().substr(0, 40));
    ids.push_back(value[i].get<int32_t>());
  }
  return ids;
}

// Name of the field with the question; "" if there is none. `problem` counts where it is a string, no other
// question is there, and a response goes with it (otherwise it only names the problem).
std::string question_field(const json& object, const std::string& response, const Place& place) {
  const std::string name = one_of(object, {"question", "prompt"}, place);
  const json* problem = field(object, "problem");
  const bool is_question = name.empty() && problem != nullptr && problem->is_string() && !response.empty();
  return is_question ? "problem" : name;
}

// Fills in form and content; returns whether `problem` is the question itself.
bool read_form(const json& object, const Place& place, Sample& sample) {
  const std::string response = one_of(object, {"response", "completion", "solution"}, place);
  const std::string question = question_field(object, response, place);
  std::vector<std::string> found;
  for (const char* name : {"text", "messages", "input_ids"})
    if (field(object, name) != nullptr) found.emplace_back(name);
  if (!question.empty()) found.push_back(question);
  if (found.size() > 1)
    throw place.bad("more than one form of sample: {}. Keep one of: {}", fmt::join(found, ", "), forms);
  if (found.empty()) {
    if (!response.empty()) throw place.bad("'{}' is there without a question", response);
    throw place.bad("no form of sample. One is needed: {}", forms);
  }
  if (found[0] == "text") {
    sample.text = nonempty_string(object["text"], "text", place);
  } else if (found[0] == "input_ids") {
    sample.form = Sample::Form::input_ids;
    sample.input_ids = ids_of(object["input_ids"], place);
  } else {
    sample.form = Sample::Form::chat;
    if (found[0] == "messages") {
      sample.messages = messages_of(object["messages"], place);
    } else {
      if (response.empty())
        throw place.bad("'{}' is there without response, completion or solution", question);
      sample.messages = {{"user", nonempty_string(object[question], question, place)},
                         {"assistant", nonempty_string(object[response], response, place)}};
    }
  }
  return question == "problem";
}

// Messages without a last one of the assistant's.
std::vector<Message> before_answer(const Sample& sample) {
  auto messages = sample.messages;
  if (!messages.empty() && messages.back().role == "assistant") messages.pop_back();
  return messages;
}

std::string problem_key(const Sample& sample, const std::string& problem) {
  if (!problem.empty()) return fmt::format("{}/{}", sample.task, problem);
  if (sample.form == Sample::Form::text) return "sample:" + sha256(std::string_view(sample.text));
  if (sample.form == Sample::Form::input_ids) return "sample:" + sha256_of_tokens(sample.input_ids);
  std::string asked;
  for (const Message& m : before_answer(sample))
    if (m.role == "user") asked += (asked.empty() ? "" : "\n") + m.content;
  return "question:" + sha256(std::string_view(asked));
}

Sample read_sample(std::string_view line, const Place& place) {
  const json object = parse_object(line, place);
  Sample sample;
  sample.id = label(object, "id", place);
  sample.task = label(object, "task", place);
  sample.answer = label(object, "answer", place);
  const bool problem_is_question = read_form(object, place, sample);
  sample.problem = problem_key(sample, problem_is_question ? "" : label(object, "problem", place));
  if (sample.id.empty())
    sample.id = fmt::format("{}:{}", std::filesystem::path(place.path).filename().string(), place.line);
  return sample;
}

Rendered rendered(const Sample& sample, const Tokenizer* tokenizer, ChatPreset preset) {
  if (sample.form == Sample::Form::input_ids) return {sample.input_ids, 0};
  if (tokenizer == nullptr) throw bad_input("it is text, and there is no tokenizer");
  if (sample.form == Sample::Form::text) return {tokenizer->encode_document(sample.text), 0};
  return render_conversation(*tokenizer, preset, sample.messages);
}

// Without its hash: the tokens may still be joined with others and cut.
TokenizedSample tokenized(const Sample& sample, const Tokenizer* tokenizer, ChatPreset preset) {
  Rendered r = rendered(sample, tokenizer, preset);
  return {sample.id, sample.task, sample.problem, sample.answer, std::move(r.ids), r.n_prompt_tokens, ""};
}

void check(const TokenizedSample& r, size_t length_before_cut, const TokenLimits& limits) {
  if (r.ids.empty()) throw bad_input("it has no tokens");
  if (r.n_prompt_tokens >= static_cast<int>(r.ids.size()))
    throw bad_input("no token follows its prompt of {} tokens{}", r.n_prompt_tokens,
                    length_before_cut > r.ids.size() ? ": raise --max-tokens" : "");
  if (limits.max_context > 0 && r.ids.size() > static_cast<size_t>(limits.max_context))
    throw bad_input("its {} tokens do not fit the model's context of {}: cut it with --max-tokens {}",
                    r.ids.size(), limits.max_context, limits.max_context);
  for (size_t i = 0; limits.n_vocab > 0 && i < r.ids.size(); ++i)
    if (r.ids[i] < 0 || r.ids[i] >= limits.n_vocab)
      throw bad_input("token {} is id {}, outside the model's vocabulary of {}", i, r.ids[i], limits.n_vocab);
}

}  // namespace

std::vector<Sample> read_jsonl(const std::string& path) {
  const std::string content = read_file(path);
  std::string_view rest = content;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);

  std::vector<Sample> samples;
  std::unordered_map<std::string, int> line_of_id;
  for (int number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Place place{path, number};
    Sample sample = read_sample(line, place);
    const auto [first, is_new] = line_of_id.emplace(sample.id, number);
    if (!is_new) throw place.bad("the id '{}' is that of line {} already", sample.id, first->second);
    samples.push_back(std::move(sample));
  }
  if (samples.empty()) throw bad_input("{} holds no samples", path);
  return samples;
}

TokenizedData tokenize(const std::vector<Sample>& samples, const std::string& path,
                       const Tokenizer* tokenizer, ChatPreset preset, const TokenLimits& limits) {
  TokenizedData out;
  out.sha256 = sha256_of_file(path);
  Packer packer(limits.pack);
  std::string id;  // of the line or sample that an error is about
  const auto keep = [&](TokenizedSample sample) {
    const size_t length = sample.ids.size();
    if (length < static_cast<size_t>(std::max(limits.min_tokens, 0))) {
      ++out.n_too_short;
      return;
    }
    if (limits.max_tokens > 0 && length > static_cast<size_t>(limits.max_tokens))
      sample.ids.resize(limits.max_tokens);
    check(sample, length, limits);
    sample.sha256 = sha256_of_tokens(sample.ids);
    out.samples.push_back(std::move(sample));
  };
  for (const Sample& sample : samples) {
    if (limits.limit > 0 && out.samples.size() == static_cast<size_t>(limits.limit)) break;
    try {
      id = sample.id;
      if (auto whole = packer.add(tokenized(sample, tokenizer, preset))) {
        id = whole->id;
        keep(std::move(*whole));
      }
    } catch (const Error& error) {
      throw Error(error.status(), fmt::format("{}: sample {}: {}", path, id, error.what()));
    }
  }
  out.n_left_over = packer.n_open();
  if (out.samples.empty() && out.n_too_short == 0 && out.n_left_over > 0)
    throw bad_input("{}: no task has lines of {} tokens together: lower --pack", path, limits.pack);
  if (out.samples.empty())
    throw bad_input("{}: no sample has {} tokens or more (--min-tokens)", path, limits.min_tokens);
  if (limits.pack > 0) name_problems(out.samples);
  return out;
}

std::vector<int32_t> prompt_ids(const Sample& sample, const Tokenizer& tokenizer, ChatPreset preset) {
  if (sample.form == Sample::Form::input_ids) return sample.input_ids;
  if (sample.form == Sample::Form::text) return tokenizer.encode_document(sample.text);
  return render_prompt(tokenizer, preset, before_answer(sample));
}

}  // namespace deltacal::text
