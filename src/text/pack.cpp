#include "text/pack.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "core/groups.h"
#include "core/hash.h"

namespace deltacal::text {

std::optional<TokenizedSample> Packer::add(TokenizedSample line) {
  if (static_cast<int>(line.ids.size()) >= n_tokens_) return line;
  const Part part{line.id, line.problem};
  auto at = open_.find(line.task);
  if (at == open_.end()) {
    const std::string task = line.task;
    at = open_.emplace(task, std::move(line)).first;
  } else {
    at->second.ids.insert(at->second.ids.end(), line.ids.begin(), line.ids.end());
  }
  TokenizedSample& whole = at->second;
  whole.parts.push_back(part);
  if (static_cast<int>(whole.ids.size()) < n_tokens_) return std::nullopt;
  whole.id += fmt::format("+{}", whole.parts.size() - 1);
  whole.answer.clear();
  return std::move(open_.extract(at).mapped());
}

int Packer::n_open() const {
  size_t n = 0;
  for (const auto& [task, sample] : open_) n += sample.parts.size();
  return static_cast<int>(n);
}

void name_problems(std::vector<TokenizedSample>& samples) {
  std::vector<std::vector<std::string>> keys(samples.size());
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].parts.empty()) keys[i].push_back(samples[i].problem);
    for (const Part& part : samples[i].parts) keys[i].push_back(part.problem);
  }
  const std::vector<int> group = groups_by_key(keys);
  std::map<int, std::set<std::string>> problems;  // of each group
  for (size_t i = 0; i < samples.size(); ++i) problems[group[i]].insert(keys[i].begin(), keys[i].end());
  for (size_t i = 0; i < samples.size(); ++i) {
    const std::set<std::string>& all = problems[group[i]];
    TokenizedSample& sample = samples[i];
    if (all.size() > 1 && sample.parts.empty()) sample.parts = {{sample.id, sample.problem}};
    sample.problem =
        all.size() == 1 ? *all.begin() : "packed:" + sha256(fmt::format("{}", fmt::join(all, "\n")));
  }
}

}  // namespace deltacal::text
