// The solver against an integer program, at sizes that brute force cannot reach.
//
// The program is a path over Δ-layers (a flow of one unit over arcs a -> b with the L of the segment between
// them) with layers that hang on it: layer l may be sparse under a only if an arc of a with its L passes over
// l. Losses are whole numbers, so that two optima differ by 1 or not at all, whatever the tolerances of an
// LP-based solver are.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>

#include "schedule_support.h"
#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::calib;

namespace {

enum class Kind { recall, kl };

// Recall loss is smooth, and neighbouring sources are alike. Predicted KL has a few layers that carry nearly
// all, grows with the distance and is noisy.
EdgeCosts whole_losses(int n_layers, Kind kind, unsigned seed) {
  EdgeCosts edges(n_layers, {4, 8, 16, 32, 64, 128}, {2, 8});
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const bool kl = kind == Kind::kl;
  std::vector<double> target_weight(n_layers), source_weight(n_layers);
  for (auto& w : target_weight) w = std::exp((kl ? 2.0 : 0.3) * normal(random));
  for (auto& w : source_weight) w = std::exp(0.15 * normal(random));
  for (int target = 0; target < n_layers; ++target)
    for (int source = 0; source < target; ++source)
      for (int k = 0; k < 6; ++k)
        for (int l = 0; l < 2; ++l) {
          if (edges.k_pages[k] < edges.l_pages[l]) continue;
          const double noise = std::exp((kl ? 0.3 : 0.02) * normal(random)), distance = target - source;
          const double reach = kl ? std::sqrt(distance) : 1 - 0.7 * std::exp(-0.15 * distance);
          const double loss = target_weight[target] * source_weight[source] * reach * noise *
                              std::pow(edges.k_pages[k], kl ? -1.0 : -0.5);
          edges.loss[edges.at(target, source, k, l)] = std::round(1e5 * loss);
        }
  return edges;
}

// In the LP format: r_b the first Δ-layer, y_a_b_m an arc with L (b = n_layers: to the end), x_l_a_m_k a
// sparse layer.
class Program {
 public:
  Program(const EdgeCosts& edges, const LayerCosts& costs, int full_layers, long long budget)
      : edges_(edges), costs_(costs), first_(full_layers), n_(edges.n_layers), budget_(budget) {}

  void write(const std::filesystem::path& path) const {
    std::ofstream out(path);
    out << "Minimize\n loss:";
    each_sparse([&](int l, int a, int m, int k) {
      out << term(edges_.loss[edges_.at(l, a, k, m)], sparse(l, a, m, k));
    });
    out << "\nSubject To\n begin:";
    for (int b = first_; b <= n_; ++b) out << " + " << begin(b);
    out << " = 1\n";
    for (int a = first_; a < n_; ++a) {
      out << " flow" << a << ": " << begin(a);
      for (int b = first_; b < a; ++b) each_mode([&](int m) { out << " + " << arc(b, a, m); });
      for (int b = a + 1; b <= n_; ++b) each_mode([&](int m) { out << " - " << arc(a, b, m); });
      out << " = 0\n";
    }
    for (int l = first_ + 1; l < n_; ++l)
      for (int a = first_; a < l; ++a)
        each_mode([&](int m) {
          out << " under_" << l << "_" << a << "_" << m << ":";
          each_k(m, [&](int k) { out << " + " << sparse(l, a, m, k); });
          for (int b = l + 1; b <= n_; ++b) out << " - " << arc(a, b, m);
          out << " <= 0\n";
        });
    out << " saved:";  // against all layers full
    each_sparse([&](int l, int a, int m, int k) {
      out << term(double(costs_.full - costs_.sparse[k]), sparse(l, a, m, k));
    });
    out << " >= " << costs_.full * n_ - budget_ << "\nBinary\n";
    for (int b = first_; b <= n_; ++b) out << begin(b) << "\n";
    for (int a = first_; a < n_; ++a)
      for (int b = a + 1; b <= n_; ++b) each_mode([&](int m) { out << arc(a, b, m) << "\n"; });
    each_sparse([&](int l, int a, int m, int k) { out << sparse(l, a, m, k) << "\n"; });
    out << "End\n";
  }

 private:
  static std::string name(const char* letter, std::initializer_list<int> indices) {
    std::string text = letter;
    for (int i : indices) text += "_" + std::to_string(i);
    return text;
  }
  static std::string begin(int b) { return name("r", {b}); }
  static std::string arc(int a, int b, int m) { return name("y", {a, b, m}); }
  static std::string sparse(int l, int a, int m, int k) { return name("x", {l, a, m, k}); }
  static std::string term(double factor, const std::string& variable) {
    return " + " + std::to_string(static_cast<long long>(factor)) + " " + variable + "\n";
  }
  template <class F>
  void each_mode(F f) const {
    for (int m = 0; m < int(edges_.l_pages.size()); ++m) f(m);
  }
  template <class F>
  void each_k(int m, F f) const {
    for (int k = 0; k < int(edges_.k_pages.size()); ++k)
      if (edges_.k_pages[k] >= edges_.l_pages[m]) f(k);
  }
  template <class F>
  void each_sparse(F f) const {
    for (int l = first_ + 1; l < n_; ++l)
      for (int a = first_; a < l; ++a) each_mode([&](int m) { each_k(m, [&](int k) { f(l, a, m, k); }); });
  }

  const EdgeCosts& edges_;
  const LayerCosts& costs_;
  int first_, n_;
  long long budget_;
};

// The least loss by the solver of the integer program.
double solved(const Program& program) {
  const deltacal::test::Scratch folder;
  program.write(folder / "p.lp");
  const std::string command = std::string(CBC) + " " + folder / "p.lp" +
                              " ratioGap 0 allowableGap 0 seconds 300 solve solution " + folder / "p.txt" +
                              " > " + folder / "log.txt";
  REQUIRE(std::system(command.c_str()) == 0);
  std::ifstream in(folder / "p.txt");
  std::string status, line;
  double value = -1;
  in >> status >> line >> line >> line >> value;  // "Optimal - objective value 25704.00000000"
  REQUIRE(status == "Optimal");
  return value;
}

void compare(int n_layers) {
  if (std::string(CBC).empty())
    SKIP("needs the program cbc: install the package coinor-cbc and configure again");
  const LayerCosts costs{10007, 10007, {331, 673, 1327, 2503, 4409, 7013}};
  for (const Kind kind : {Kind::recall, Kind::kl})
    for (const unsigned seed : {1u, 2u})
      for (const double ratio : {2.0, 4.0}) {
        CAPTURE(n_layers, kind, seed, ratio);
        const auto edges = whole_losses(n_layers, kind, seed);
        const long long budget = attended_budget(costs, n_layers, ratio);
        const auto found = schedule::k_best(edges, costs, budget, {.candidates = 1});
        REQUIRE(found.size() == 1);
        CHECK(found[0].loss == Catch::Approx(solved({edges, costs, 2, budget})).epsilon(1e-9));
      }
}

}  // namespace

TEST_CASE("schedule: 28 layers with k by layer equal an integer program") {
  compare(28);
}
TEST_CASE("schedule: 36 layers with k by layer equal an integer program") {
  compare(36);
}
