#include "decode/generate.h"

#include "core/error.h"

namespace deltacal::decode {

std::vector<int32_t> generate(Decoder& decoder, std::span<const int32_t> prompt,
                              const GenerateOptions& options, const GenerateCallbacks& callbacks) {
  if (prompt.empty()) throw bad_input("the prompt has no tokens: give some text");
  Sampler sampler(options.sampling);
  const int n_prompt = static_cast<int>(prompt.size());

  Logits last;
  replay(decoder, prompt, n_prompt, [&](int first, int n) {
    if (callbacks.prompt_chunk) callbacks.prompt_chunk(first, n);
    if (first + n == n_prompt) last = decoder.logits(n - 1, 1);
  });

  std::vector<int32_t> generated;
  const int32_t sequence[] = {0}, prefilled_to[] = {n_prompt};
  for (int i = 0; i < options.max_new_tokens; ++i) {
    const int32_t token[] = {sampler.next(last.row(0))};
    generated.push_back(token[0]);
    if (callbacks.token) callbacks.token(token[0], last);
    const int32_t position[] = {n_prompt + i};
    decoder.forward({token, position, sequence, prefilled_to});
    last = decoder.logits(0, 1);
    if (options.stops && options.stops(token[0])) break;
  }
  return generated;
}

}  // namespace deltacal::decode
