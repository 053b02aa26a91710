#include <catch2/catch_test_macros.hpp>

#include "core/groups.h"

using namespace deltacal;

TEST_CASE("groups: items are joined by shared keys, also through others, and empty keys join nothing") {
  using Keys = std::vector<std::vector<std::string>>;
  CHECK(groups_by_key(Keys{}).empty());
  CHECK(groups_by_key(Keys{{"a"}, {"b"}, {"a"}}) == std::vector<int>{0, 1, 0});
  CHECK(groups_by_key(Keys{{""}, {}, {""}}) == std::vector<int>{0, 1, 2});
  // 3 joins the chains {0, 2} and {1, 4}; 5 stays alone.
  CHECK(groups_by_key(Keys{{"a"}, {"b"}, {"a", "c"}, {"c", "d"}, {"b", "d"}, {"e"}}) ==
        std::vector<int>{0, 0, 0, 0, 0, 5});
}
