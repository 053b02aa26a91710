// The tokenizer's part of a GGUF file (keys tokenizer.ggml.* and tokenizer.chat_template).
#pragma once
#include "model/gguf.h"
#include "text/tokenizer.h"

namespace deltacal::model {

// bad_input, naming file and key, where a key is missing without a default, or does not fit the others.
// Defaults are those of llama.cpp (llama-vocab.cpp): all tokens normal; no bos before text but for the Llama
// 3 pre-tokenizer; no chat template. Ids that are missing are -1. Whether model and pre-tokenizer are
// supported is the tokenizer's matter.
text::Vocabulary vocabulary_from(const Gguf&);

}  // namespace deltacal::model
