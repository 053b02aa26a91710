#include "calib/split.h"

#include <algorithm>
#include <map>
#include <utility>

#include "calib/bootstrap.h"
#include "core/error.h"
#include "core/groups.h"

namespace deltacal::calib {
namespace {

// Keys of all problems in a sample: its own, and those of its parts.
std::vector<std::string> problems_of(const SplitSample& sample) {
  std::vector<std::string> problems = sample.parts;
  problems.push_back(sample.problem);
  std::erase(problems, "");
  return problems;
}

// Samples that must stay together, in the order of their first one.
using Group = std::vector<int>;

// Joins samples that share a problem, and samples of equal tokens (which may carry different problems).
std::vector<Group> groups_of(std::span<const SplitSample> samples) {
  std::vector<std::vector<std::string>> keys(samples.size());
  for (size_t i = 0; i < samples.size(); ++i) {
    for (const std::string& problem : problems_of(samples[i])) keys[i].push_back("problem " + problem);
    if (!samples[i].sha256.empty()) keys[i].push_back("tokens " + samples[i].sha256);
  }
  std::map<int, Group> by_first;
  const std::vector<int> first = groups_by_key(keys);
  for (int i = 0; i < static_cast<int>(samples.size()); ++i) by_first[first[i]].push_back(i);
  std::vector<Group> groups;
  for (auto& [lowest, group] : by_first) groups.push_back(std::move(group));
  return groups;
}

void shuffle(std::vector<Group>& groups, SplitMix64& random) {
  for (int i = static_cast<int>(groups.size()) - 1; i > 0; --i)
    std::swap(groups[i], groups[random.below(i + 1)]);
}

struct Side {
  double share;  // of all samples
  Group samples;
  // How full the side would be with `more` samples.
  double fill(size_t more) const { return static_cast<double>(samples.size() + more) / share; }
};

// Each group to the side that is farther from its share. Called task by task, so that the running totals keep
// the share within a task as well, to about one group.
void assign(const std::vector<Group>& groups, Side& a, Side& b) {
  for (const Group& group : groups) {
    Side& side = a.fill(group.size()) <= b.fill(group.size()) ? a : b;
    side.samples.insert(side.samples.end(), group.begin(), group.end());
  }
}

// An uneven share and few problems can leave one side empty: it gets the smallest group of the other.
void fill_empty_side(const std::vector<Group>& groups, Side& a, Side& b) {
  if (!a.samples.empty() && !b.samples.empty()) return;
  Side &empty = a.samples.empty() ? a : b, &other = a.samples.empty() ? b : a;
  const Group& least = *std::min_element(groups.begin(), groups.end(),
                                         [](const Group& x, const Group& y) { return x.size() < y.size(); });
  empty.samples = least;
  std::erase_if(other.samples,
                [&](int i) { return std::find(least.begin(), least.end(), i) != least.end(); });
}

}  // namespace

Split split_by_problem(std::span<const SplitSample> samples, double validation_share, uint64_t seed) {
  if (!(validation_share > 0 && validation_share < 1))
    throw bad_input("validation share {}: expected a number between 0 and 1", validation_share);
  const auto groups = groups_of(samples);
  if (groups.size() < 2)
    throw bad_input("{} samples hold {} problem: a split into calibration and validation needs at least 2",
                    samples.size(), groups.size());
  std::map<std::string, std::vector<Group>> tasks;
  for (const Group& group : groups) tasks[samples[group.front()].task].push_back(group);
  SplitMix64 random(seed);
  Side calibration{1 - validation_share, {}}, validation{validation_share, {}};
  for (auto& [task, members] : tasks) {
    shuffle(members, random);
    std::stable_sort(members.begin(), members.end(),
                     [](const Group& x, const Group& y) { return x.size() > y.size(); });
    assign(members, calibration, validation);
  }
  fill_empty_side(groups, calibration, validation);
  std::sort(calibration.samples.begin(), calibration.samples.end());
  std::sort(validation.samples.begin(), validation.samples.end());
  return {calibration.samples, validation.samples};
}

std::vector<int> round_robin_by_problem(std::span<const SplitSample> samples, int most) {
  std::map<std::string, int> seen;            // samples of each problem so far
  std::vector<std::pair<int, int>> by_round;  // round, index
  for (int i = 0; i < static_cast<int>(samples.size()); ++i)
    by_round.emplace_back(seen[samples[i].problem]++, i);
  std::sort(by_round.begin(), by_round.end());
  std::vector<int> order;
  for (const auto& [round, index] : by_round)
    if (static_cast<int>(order.size()) < most) order.push_back(index);
  return order;
}

std::vector<Overlap> overlaps(std::span<const SplitSample> ours, std::span<const SplitSample> theirs) {
  std::map<std::string, int> tokens, problems;
  for (int i = static_cast<int>(theirs.size()) - 1; i >= 0; --i) {
    if (!theirs[i].sha256.empty()) tokens[theirs[i].sha256] = i;
    for (const std::string& problem : problems_of(theirs[i])) problems[problem] = i;
  }
  const auto first_with = [](const std::map<std::string, int>& by_key, const std::string& key) {
    const auto found = by_key.find(key);
    return found == by_key.end() ? -1 : found->second;
  };
  std::vector<Overlap> found;
  for (int i = 0; i < static_cast<int>(ours.size()); ++i) {
    const int same_tokens = first_with(tokens, ours[i].sha256);
    int same_problem = -1;
    for (const std::string& problem : problems_of(ours[i])) {
      const int other = first_with(problems, problem);
      if (other >= 0 && (same_problem < 0 || other < same_problem)) same_problem = other;
    }
    if (same_tokens >= 0 || same_problem >= 0)
      found.push_back(
          {i, same_tokens >= 0 ? same_tokens : same_problem, same_tokens >= 0, same_problem >= 0});
  }
  return found;
}

}  // namespace deltacal::calib
