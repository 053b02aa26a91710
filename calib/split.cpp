#include "calib/split.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "calib/bootstrap.h"
#include "core/error.h"

namespace deltacal::calib {
namespace {

// Samples that must stay together, in the order of their first one.
using Group = std::vector<int>;

// Joins samples of one problem and samples of equal tokens (which may carry different problems).
std::vector<Group> groups_of(std::span<const SplitSample> samples) {
  std::vector<int> parent(samples.size());
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](int i) {
    while (parent[i] != i) i = parent[i];
    return i;
  };
  std::map<std::string, int> first_of_problem, first_of_tokens;
  for (int i = 0; i < static_cast<int>(samples.size()); ++i) {
    const auto join = [&](std::map<std::string, int>& first, const std::string& key) {
      if (key.empty()) return;
      const int a = root(first.try_emplace(key, i).first->second), b = root(i);
      parent[std::max(a, b)] = std::min(a, b);
    };
    join(first_of_problem, samples[i].problem);
    join(first_of_tokens, samples[i].sha256);
  }
  std::map<int, Group> by_root;
  for (int i = 0; i < static_cast<int>(samples.size()); ++i) by_root[root(i)].push_back(i);
  std::vector<Group> groups;
  for (auto& [first, group] : by_root) groups.push_back(std::move(group));
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
    if (!theirs[i].problem.empty()) problems[theirs[i].problem] = i;
  }
  std::vector<Overlap> found;
  for (int i = 0; i < static_cast<int>(ours.size()); ++i) {
    const auto same_tokens = tokens.find(ours[i].sha256);
    const auto same_problem = problems.find(ours[i].problem);
    const bool by_tokens = same_tokens != tokens.end(), by_problem = same_problem != problems.end();
    if (by_tokens || by_problem)
      found.push_back({i, by_tokens ? same_tokens->second : same_problem->second, by_tokens, by_problem});
  }
  return found;
}

}  // namespace deltacal::calib
