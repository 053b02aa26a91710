// Items that belong together because they share a key.
#pragma once
#include <span>
#include <string>
#include <vector>

namespace deltacal {

// [n_items] the lowest index among the items of the same group: those that share a key, or are joined by
// others that do. Empty keys join nothing.
std::vector<int> groups_by_key(std::span<const std::vector<std::string>> keys_of_item);

}  // namespace deltacal
