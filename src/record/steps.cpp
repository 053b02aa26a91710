#include "record/steps.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace deltacal::record {
namespace {

constexpr int burst_length = 64;

bool to_int(std::string_view text, int& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

void append_run(RecordedSteps& out, int first, int n) {
  // Runs that touch are one burst.
  const int burst = out.steps.empty()               ? 0
                    : out.steps.back() + 1 == first ? out.burst.back()
                                                    : out.burst.back() + 1;
  for (int i = 0; i < n; ++i) {
    out.steps.push_back(first + i);
    out.burst.push_back(burst);
  }
}

}  // namespace

StepChoice parse_steps(const std::string& text) {
  StepChoice choice;
  if (text == "all") return {StepChoice::Kind::all, 0, 0, 0};
  const size_t colon = text.find(':');
  if (colon == std::string::npos) {
    if (to_int(text, choice.number) && choice.number > 0) return choice;
  } else if (to_int(std::string_view(text).substr(0, colon), choice.first) &&
             to_int(std::string_view(text).substr(colon + 1), choice.end) && choice.first >= 0 &&
             choice.end > choice.first) {
    choice.kind = StepChoice::Kind::range;
    return choice;
  }
  throw bad_input(
      "--steps {}: give a number of steps (256), all, or a range of positions a:b with 0 <= a < b", text);
}

RecordedSteps choose_steps(const StepChoice& choice, int n_prompt_tokens, int n_tokens,
                           const std::string& sample) {
  RecordedSteps out;
  const int first = n_prompt_tokens, available = n_tokens - n_prompt_tokens;
  if (choice.kind == StepChoice::Kind::range) {
    const int begin = std::max(choice.first, first), end = std::min(choice.end, n_tokens);
    if (begin >= end)
      throw bad_input("--steps {}:{} leaves no step of sample {}: its steps are the positions {}..{}",
                      choice.first, choice.end, sample, first, n_tokens - 1);
    append_run(out, begin, end - begin);
    return out;
  }
  if (choice.kind == StepChoice::Kind::all || choice.number >= available) {
    append_run(out, first, available);
    return out;
  }
  const int n_bursts = std::max(1, choice.number / burst_length);
  for (int b = 0; b < n_bursts; ++b) {
    const auto share = [&](long long whole, int i) { return static_cast<int>(whole * i / n_bursts); };
    const int n = share(choice.number, b + 1) - share(choice.number, b);
    const int begin = share(available, b), end = share(available, b + 1);
    append_run(out, first + begin + (end - begin - n) / 2, n);
  }
  return out;
}

}  // namespace deltacal::record
