#include <catch2/catch_test_macros.hpp>
#include <numeric>
#include <random>
#include <set>

#include "core/refresh.h"

using namespace deltacal;

namespace {

using List = std::vector<int32_t>;

List in_force(const List& made, PageBudget list, int t0, int t) {
  List out(size_t(pages_in_force(list, t0, t)));
  list_in_force(made, list, t0, t, out);
  return out;
}

// A list of step t0 with K and L: the newest L, then the others in a random order.
List random_list(PageBudget list, int t0, std::mt19937& random) {
  List pages;
  const int seen = pages_seen(t0), window = std::min(list.l_pages, seen);
  for (int u = seen - 1; u >= seen - window; --u) pages.push_back(u);
  List others(size_t(seen - window));
  std::iota(others.begin(), others.end(), 0);
  std::ranges::shuffle(others, random);
  pages.insert(pages.end(), others.begin(), others.end());
  pages.resize(size_t(std::min(list.k_pages, seen)));
  return pages;
}

}  // namespace

TEST_CASE("refresh: a list is made at the first step and at every multiple of the interval") {
  std::vector<int> made;
  for (int t = 5; t < 18; ++t) made.push_back(list_made_at(t, 5, 4));
  CHECK(made == std::vector<int>{5, 5, 5, 8, 8, 8, 8, 12, 12, 12, 12, 16, 16});
  for (int t = 3; t < 40; ++t) CHECK(list_made_at(t, 3, 1) == t);
}

TEST_CASE("refresh: the window moves, what was ranked stays, pages that were new in between are lost") {
  // Made at step 100 (pages 0..6), K = 5, L = 2: the window 6, 5, then what was ranked best.
  const List made{6, 5, 3, 0, 1};
  CHECK(in_force(made, {5, 2}, 100, 100) == made);
  CHECK(in_force(made, {5, 2}, 100, 111) == made);                 // still page 6
  CHECK(in_force(made, {5, 2}, 100, 112) == List{7, 6, 3, 0, 1});  // 5 has left the window
  CHECK(in_force(made, {5, 2}, 100, 150) == List{9, 8, 3, 0, 1});  // 7 came and went
  CHECK(in_force({1, 0}, {5, 2}, 20, 100) == List{6, 5});          // nothing was ranked yet
  CHECK(in_force({0}, {5, 2}, 3, 20) == List{1, 0});               // the window was not full either
  CHECK(in_force({2, 1, 0}, {5, 2}, 40, 100) == List{6, 5, 0});    // all there was: below K
}

TEST_CASE("refresh: lists in force hold no page twice, have the length that is told, and nest in k") {
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    const int l = 1 + int(random() % 4), k = l + int(random() % 6), t0 = int(random() % 200);
    const int t = t0 + int(random() % 60);
    const List made = random_list({k, l}, t0, random), list = in_force(made, {k, l}, t0, t);
    CAPTURE(k, l, t0, t);
    REQUIRE(std::set<int32_t>(list.begin(), list.end()).size() == list.size());
    for (const int32_t u : list) REQUIRE((u >= 0 && u < pages_seen(t)));
    // A Δ-layer with a shorter list would have the same beginning.
    const int shorter = l + int(random() % size_t(k - l + 1));
    const List prefix(made.begin(), made.begin() + std::min<long>(shorter, std::ssize(made)));
    const List of_shorter = in_force(prefix, {shorter, l}, t0, t);
    REQUIRE(std::equal(of_shorter.begin(), of_shorter.end(), list.begin()));
    // A layer with k = shorter attends to those pages.
    long long positions = 0;
    if (shorter >= pages_seen(t))
      positions = t + 1;
    else
      for (size_t i = 0; i < std::min(list.size(), size_t(shorter)); ++i)
        positions += list[i] == pages_seen(t) - 1 ? t % 16 + 1 : 16;
    REQUIRE(positions_attended(shorter, {k, l}, t0, t) == positions);
  }
}
