// The whole vocabulary of the default model, from its file.
#include <catch2/catch_test_macros.hpp>

#include "golden.h"
#include "model/gguf.h"
#include "model/vocabulary.h"

using namespace deltacal;
using namespace deltacal::text;
using golden::Ids;

TEST_CASE("tokenizer: the default model's own vocabulary gives the golden ids, chats included") {
  const auto file = golden::read("smollm");
  const Tokenizer t(model::vocabulary_from(model::Gguf(DEFAULT_MODEL)));
  REQUIRE(t.n_vocab() == 49152);
  for (const auto& c : file["cases"]) {
    const std::string text = c["text"];
    INFO(text);
    CHECK(t.encode(text, Special::parse) == c["ids"].get<Ids>());
    CHECK(t.encode(text, Special::as_text) == (c.contains("as_text") ? c["as_text"] : c["ids"]).get<Ids>());
  }
  const ChatPreset preset = choose_preset("auto", t.vocabulary());
  for (const auto& c : file["chats"])
    CHECK(render_prompt(t, preset, golden::messages(c["messages"])) == c["prompt_ids"].get<Ids>());
  CHECK(t.ends_generation(t.id_of("<|im_end|>")));
  CHECK(t.ends_generation(t.id_of("<|endoftext|>")));
}
