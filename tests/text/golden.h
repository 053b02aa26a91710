// Golden files: see golden/README.md.
#pragma once
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/chat.h"
#include "text/tokenizer.h"

namespace deltacal::text::golden {

inline nlohmann::json read(const std::string& name) {
  std::ifstream in(std::string(TEST_DATA) + "/golden/" + name + ".json");
  return nlohmann::json::parse(in);
}

// The reduced vocabulary of a golden file; ids that were left out have names that no text holds.
inline Vocabulary vocabulary(const nlohmann::json& file) {
  Vocabulary v;
  v.model = "gpt2";
  v.pre = file["pre"];
  const int n_vocab = file["n_vocab"];
  v.token_types.assign(n_vocab, 5);
  for (int i = 0; i < n_vocab; ++i) v.tokens.push_back("<unused " + std::to_string(i) + ">");
  for (const auto& [token, id] : file["tokens"].items()) {
    v.tokens[id.get<int>()] = token;
    v.token_types[id.get<int>()] = 1;
  }
  for (const int id : file["control"]) v.token_types[id] = 3;
  for (const int id : file["user_defined"]) v.token_types[id] = 4;
  v.merges = file["merges"].get<std::vector<std::string>>();
  v.bos_id = file["bos_id"];
  v.eos_id = file["eos_id"];
  v.add_bos = file["add_bos"];
  v.chat_template = file["chat_template"];
  return v;
}

inline std::vector<Message> messages(const nlohmann::json& list) {
  std::vector<Message> out;
  for (const auto& m : list) out.push_back({m["role"], m["content"]});
  return out;
}

using Ids = std::vector<int32_t>;

}  // namespace deltacal::text::golden
