// What the head weights of one Δ-layer decide in one sample: the attention that it ranks pages by, and what
// each page is worth to the layers that read its list. src/sensitivity makes it, calib chooses weights by it.
//
// A active steps, H query heads; step s sees U(s) = steps[s] / 16 + 1 pages. Rows of steps follow each other
// without gaps.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace deltacal {

struct HeadCells {
  // A sparse layer that reads the first k_pages of the list.
  struct Served {
    int layer = 0, k_pages = 0;
    // Each step [U(s), 2, H]: the mass m of a page, and c = m' - (g.o) m of its value m' (method.md,
    // "Predicted KL of an edge"); c sums to 0 over all pages.
    std::vector<float> cells;
    std::vector<float> whole;  // [A, H] g.o under full attention
  };

  std::string id, problem;
  int layer = 0, n_heads = 0;
  int n_steps = 0;             // of the mean: the steps that leave nothing out add 0 and are not in `steps`
  std::vector<int32_t> steps;  // [A] positions, ascending, at which some served layer leaves pages out
  std::vector<float> alpha;  // each step [H, 16 U(s)] attention probabilities; 0 past the step's own position
  std::vector<Served> served;
};

}  // namespace deltacal
