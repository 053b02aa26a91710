#include "core/groups.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace deltacal {

std::vector<int> groups_by_key(std::span<const std::vector<std::string>> keys_of_item) {
  std::vector<int> parent(keys_of_item.size());
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](int i) {
    while (parent[i] != i) i = parent[i];
    return i;
  };
  std::map<std::string, int> first_of;
  for (int i = 0; i < static_cast<int>(keys_of_item.size()); ++i)
    for (const std::string& key : keys_of_item[i]) {
      if (key.empty()) continue;
      const int a = root(first_of.try_emplace(key, i).first->second), b = root(i);
      parent[std::max(a, b)] = std::min(a, b);
    }
  std::vector<int> lowest(parent.size());
  for (int i = 0; i < static_cast<int>(parent.size()); ++i) lowest[i] = root(i);
  return lowest;
}

}  // namespace deltacal
