// The solver against all schedules of small models.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <set>

#include "calib/schedule/moves.h"
#include "core/error.h"
#include "schedule_support.h"

using namespace deltacal;
using namespace deltacal::calib;
using namespace deltacal::calib::test;

namespace {

constexpr double tolerance = 1e-12;

// What a schedule costs and loses, added up from the tables by its layers alone.
Found recount(const EdgeCosts& edges, const LayerCosts& costs, const config::Schedule& schedule) {
  Found sum{0, 0.0};
  int source = -1;
  std::vector<int> longest(edges.n_layers, 0);
  for (int layer = 0; layer < edges.n_layers; ++layer) {
    const auto& plan = schedule.layers[layer];
    if (plan.role == config::Role::delta) source = layer;
    const auto index = [](const std::vector<int>& v, int x) {
      return int(std::find(v.begin(), v.end(), x) - v.begin());
    };
    if (plan.role == config::Role::delta && config::keeps_lists(schedule)) {
      const int k = index(edges.k_pages, plan.k_pages), l = index(edges.l_pages, plan.l_pages);
      sum.cost += costs.listed[size_t(layer)][size_t(k)];
      sum.loss += edges.loss[edges.at(layer, layer, k, l)];
      continue;
    }
    if (plan.role != config::Role::sparse) {
      sum.cost += plan.role == config::Role::full ? costs.full : costs.delta;
      continue;
    }
    REQUIRE(source >= 0);
    longest[source] = std::max(longest[source], plan.k_pages);
    const int l_pages = schedule.layers[source].l_pages;
    REQUIRE(plan.k_pages >= l_pages);
    const int k = index(edges.k_pages, plan.k_pages), l = index(edges.l_pages, l_pages);
    sum.cost += costs.sparse[k];
    sum.loss += edges.loss[edges.at(layer, source, k, l)];
  }
  for (int layer = 0; layer < edges.n_layers; ++layer)
    if (schedule.layers[layer].role == config::Role::delta) {
      CHECK(longest[layer] > 0);  // serves somebody
      if (config::keeps_lists(schedule))
        CHECK(schedule.layers[layer].k_pages >= longest[layer]);
      else
        CHECK(schedule.layers[layer].k_pages == longest[layer]);
    }
  return sum;
}

// The best of each set of Δ-layers within each budget.
using Best = std::vector<std::map<unsigned, Found>>;
Best brute_force(const EdgeCosts& edges, const LayerCosts& costs, const schedule::Options& options,
                 const std::vector<long long>& budgets) {
  Best best(budgets.size());
  EverySchedule(edges, costs, options).run([&](unsigned set, long long cost, double loss) {
    for (size_t b = 0; b < budgets.size(); ++b)
      if (cost <= budgets[b]) {
        Found& found = best[b][set];
        if (loss < found.loss) found = {cost, loss};
      }
  });
  return best;
}

void compare(const EdgeCosts& edges, const LayerCosts& costs, schedule::Options options) {
  std::vector<long long> budgets;
  const long long all_full = costs.full * edges.n_layers;
  for (double ratio : {1.0, 1.1, 1.3, 1.7, 2.2, 3.0, 5.0, 20.0})
    budgets.push_back(attended_budget(costs, edges.n_layers, ratio));
  const Best best = brute_force(edges, costs, options, budgets);
  for (size_t b = 0; b < budgets.size(); ++b) {
    std::vector<double> losses;
    for (const auto& [set, found] : best[b]) losses.push_back(found.loss);
    std::sort(losses.begin(), losses.end());
    for (int candidates : {1, 3, 16}) {
      options.candidates = candidates;
      const auto found = schedule::k_best(edges, costs, budgets[b], options);
      CAPTURE(edges.n_layers, budgets[b], all_full, candidates, options.full_layers.value_or(-1));
      REQUIRE(found.size() == std::min(losses.size(), static_cast<size_t>(candidates)));
      std::set<unsigned> sets;
      for (size_t i = 0; i < found.size(); ++i) {
        const auto counted = recount(edges, costs, found[i].schedule);
        CHECK(counted.cost == found[i].cost);
        CHECK(found[i].cost <= budgets[b]);
        CHECK(std::abs(counted.loss - found[i].loss) < tolerance);
        CHECK(std::abs(found[i].loss - losses[i]) < tolerance);
        const unsigned set = set_of(found[i].schedule);
        CHECK(sets.insert(set).second);
        CHECK(std::abs(best[b].at(set).loss - found[i].loss) < tolerance);
      }
    }
  }
}

}  // namespace

TEST_CASE("schedule: DP equals brute force over all schedules of every model of up to 10 layers") {
  const LayerCosts costs{1000, 1000, {130, 470}};
  for (int n_layers = 1; n_layers <= 10; ++n_layers)
    for (Losses kind : {Losses::uniform, Losses::tied, Losses::real})
      for (unsigned seed : {0u, 1u, 2u})
        compare(random_edges(n_layers, {4, 16}, {2}, kind, 17 * n_layers + seed), costs,
                {.full_layers = std::min(static_cast<int>(seed), n_layers)});
}

TEST_CASE("schedule: DP equals brute force with several L, three K, unknown edges and ties") {
  const LayerCosts costs{997, 997, {101, 257, 600}};
  for (int n_layers : {3, 5, 7})
    for (unsigned seed : {1u, 2u})
      for (Losses kind : {Losses::uniform, Losses::tied, Losses::holes, Losses::equal, Losses::real})
        for (int full_layers : {0, 1, 2})
          compare(random_edges(n_layers, {4, 8, 32}, {1, 8}, kind, 100 * seed + n_layers), costs,
                  {.full_layers = full_layers});
}

TEST_CASE("schedule: with lists that serve several steps, DP equals brute force over lengths of lists and schedules") {
  const LayerCosts costs{997, 997, {101, 257, 600}, {6, {301, 430, 700}}};
  for (const auto budgets : {schedule::Budgets::per_layer, schedule::Budgets::per_segment, schedule::Budgets::one})
    for (int n_layers : {2, 4, 6})
      for (unsigned seed : {1u, 2u})
        for (Losses kind : {Losses::uniform, Losses::tied, Losses::holes, Losses::equal, Losses::real})
          compare(random_edges(n_layers, {4, 8, 32}, {1, 8}, kind, 100 * seed + n_layers),
                  {costs.full,
                   costs.delta,
                   costs.sparse,
                   {costs.listed.begin(), costs.listed.begin() + n_layers}},
                  {.full_layers = int(seed) - 1, .budgets = budgets, .refresh_interval = 4});
}

TEST_CASE("schedule: where a signal makes lists, each Δ-layer at a cost of its own, DP equals brute force") {
  for (const auto budgets : {schedule::Budgets::per_layer, schedule::Budgets::one})
    for (int n_layers : {3, 6})
      for (unsigned seed : {1u, 2u, 3u})
        for (Losses kind : {Losses::uniform, Losses::tied, Losses::real}) {
          LayerCosts costs{997, 997, {101, 257, 600}};
          for (int layer = 0; layer < n_layers; ++layer) {
            const long long more = (layer * 131 + int(seed) * 57) % 300;
            costs.listed.push_back({201 + more, 330 + more, 640 + more});
          }
          schedule::Options options{.full_layers = int(seed) - 1, .budgets = budgets};
          options.refresh = config::AdaptiveRefresh{0.8, 16};
          compare(random_edges(n_layers, {4, 8, 32}, {1, 8}, kind, 100 * seed + n_layers), costs, options);
        }
}

TEST_CASE("schedule: costs of lists that fit neither layers nor lengths are refused") {
  const EdgeCosts edges = random_edges(3, {4, 8}, {1}, Losses::uniform, 5);
  schedule::Options options{.full_layers = 0};
  options.refresh = config::AdaptiveRefresh{0.8, 16};
  for (const std::vector<std::vector<long long>>& listed : {std::vector<std::vector<long long>>{},
                                                            {{40, 50}, {40, 50}},
                                                            {{40, 50}, {40}, {40, 50}},
                                                            {{40, 50}, {0, 50}, {40, 50}}})
    CHECK_THROWS_AS(schedule::k_best(edges, {100, 100, {10, 20}, listed}, 200, options), Error);
  const auto found = schedule::k_best(edges, {100, 100, {10, 20}, {3, {40, 50}}}, 200, options);
  REQUIRE(!found.empty());
  CHECK(found[0].schedule.refresh == options.refresh);
  CHECK(found[0].schedule.refresh_interval == 1);
}

TEST_CASE("schedule: the loss of a schedule counts its Δ-layers where lists serve several steps") {
  EdgeCosts edges = random_edges(3, {4, 8}, {1}, Losses::uniform, 5);
  config::Schedule s;
  s.layers = {{config::Role::full, 0, 0}, {config::Role::delta, 8, 1}, {config::Role::sparse, 4, 0}};
  const double sparse = edges.loss[edges.at(2, 1, 0, 0)], own = edges.loss[edges.at(1, 1, 1, 0)];
  CHECK(schedule::loss_of(edges, s) == sparse);
  s.refresh_interval = 2;
  CHECK(std::abs(schedule::loss_of(edges, s) - sparse - own) < tolerance);
}

TEST_CASE("schedule: an L is kept that loses more in the sparse layers and less in the Δ-layer itself") {
  EdgeCosts edges(2, {8}, {1, 8});
  edges.loss[edges.at(1, 0, 0, 0)] = 0.1;
  edges.loss[edges.at(1, 0, 0, 1)] = 0.2;
  edges.loss[edges.at(0, 0, 0, 0)] = 0.9;
  edges.loss[edges.at(0, 0, 0, 1)] = 0;
  const auto found =
      schedule::k_best(edges, {100, 100, {10}, {{40}, {40}}}, 60, {.full_layers = 0, .refresh_interval = 4});
  REQUIRE(found.size() == 1);
  CHECK(found[0].loss == 0.2);
  CHECK(found[0].schedule.layers[0].l_pages == 8);
}

TEST_CASE("schedule: full_layers auto is the best over every number of initial full layers") {
  const LayerCosts costs{1000, 1000, {130, 470}};
  for (unsigned seed = 0; seed < 4; ++seed)
    compare(random_edges(8, {4, 16}, {2}, Losses::uniform, seed), costs, {.full_layers = std::nullopt});
}

TEST_CASE("schedule: one K for all layers equals brute force over schedules with one K") {
  const LayerCosts costs{1000, 1000, {90, 210, 530}};
  for (int n_layers : {4, 7})
    for (Losses kind : {Losses::uniform, Losses::tied, Losses::holes})
      compare(random_edges(n_layers, {4, 8, 16}, {2, 8}, kind, 5 + n_layers), costs,
              {.full_layers = 1, .budgets = schedule::Budgets::one});
}

TEST_CASE("schedule: one K a segment equals brute force over schedules that share K between two Δ-layers") {
  const LayerCosts costs{1000, 1000, {90, 210, 530}};
  for (int n_layers : {4, 7})
    for (Losses kind : {Losses::uniform, Losses::tied, Losses::holes, Losses::real})
      for (unsigned seed : {1u, 2u})
        compare(random_edges(n_layers, {4, 8, 16}, {2, 8}, kind, 50 * seed + n_layers), costs,
                {.full_layers = 1, .budgets = schedule::Budgets::per_segment});
}

TEST_CASE("schedule: a Δ-layer that costs more, or less, than a full one stays exact") {
  for (const long long delta : {1003LL, 1400LL, 700LL})
    for (Losses kind : {Losses::uniform, Losses::tied, Losses::real})
      for (const auto budgets : {schedule::Budgets::per_layer, schedule::Budgets::one})
        compare(random_edges(7, {4, 8, 16}, {2, 8}, kind, 7), {1000, delta, {90, 210, 530}},
                {.full_layers = 1, .budgets = budgets});
}

TEST_CASE("schedule: a given number of Δ-layers equals brute force over schedules with that number") {
  const LayerCosts costs{1000, 1050, {130, 470}};
  for (int n_deltas : {0, 1, 2, 3, 5, 8})
    for (Losses kind : {Losses::uniform, Losses::tied, Losses::holes})
      for (const auto budgets : {schedule::Budgets::per_layer, schedule::Budgets::one})
        compare(random_edges(8, {4, 16}, {2}, kind, 3), costs,
                {.full_layers = 1, .budgets = budgets, .n_deltas = n_deltas});
}

TEST_CASE("schedule: given Δ-layers equal brute force over schedules with exactly these") {
  const LayerCosts costs{1000, 1050, {90, 210, 530}};
  for (const auto& deltas : std::vector<std::vector<int>>{{}, {1}, {2, 5}, {1, 3, 5}, {2, 3}, {4, 6}})
    for (Losses kind : {Losses::uniform, Losses::tied, Losses::holes})
      for (const auto budgets :
           {schedule::Budgets::per_layer, schedule::Budgets::per_segment, schedule::Budgets::one})
        compare(random_edges(7, {4, 8, 16}, {2, 8}, kind, 3), costs,
                {.full_layers = 1, .budgets = budgets, .delta_layers = deltas});
}

TEST_CASE("schedule: costs that are equal, or not below full attention, stay exact") {
  compare(random_edges(7, {4, 8}, {2}, Losses::uniform, 3), {100, 100, {50, 50}}, {.full_layers = 1});
  // A sparse layer as dear as a full one is never used: it is not in the list of candidates at all.
  const auto edges = random_edges(6, {4, 8}, {2}, Losses::uniform, 4);
  for (const auto& found : schedule::k_best(edges, {100, 100, {40, 100}}, 450, {.full_layers = 1}))
    for (const auto& plan : found.schedule.layers)
      CHECK((plan.role != config::Role::sparse || plan.k_pages == 4));
}

TEST_CASE("schedule: cheapest with a recall target equals brute force, by cost and then by loss") {
  const LayerCosts costs{1000, 1000, {130, 130, 470}};
  for (int n_layers : {4, 6, 7})
    for (Losses kind : {Losses::uniform, Losses::tied, Losses::holes})
      for (double target : {0.2, 0.6, 0.9}) {
        const auto edges = random_edges(n_layers, {4, 8, 16}, {2}, kind, 31 * n_layers);
        std::map<unsigned, Found> best;
        EverySchedule(edges, costs, {.full_layers = 1}, target)
            .run([&](unsigned set, long long cost, double loss) {
              auto [at, is_new] = best.try_emplace(set, Found{cost, loss});
              if (std::pair(cost, loss) < std::pair(at->second.cost, at->second.loss))
                at->second = {cost, loss};
            });
        std::vector<std::pair<long long, double>> sorted;
        for (const auto& [set, found] : best) sorted.push_back({found.cost, found.loss});
        std::sort(sorted.begin(), sorted.end());
        const auto found =
            schedule::cheapest_with_recall(edges, costs, target, {.full_layers = 1, .candidates = 9});
        REQUIRE(found.size() == std::min<size_t>(9, sorted.size()));
        for (size_t i = 0; i < found.size(); ++i) {
          CHECK(found[i].cost == sorted[i].first);
          CHECK(std::abs(found[i].loss - sorted[i].second) < tolerance);
        }
      }
}

TEST_CASE("schedule: a recall target that no edge reaches leaves all layers full") {
  auto edges = random_edges(6, {4, 16}, {2}, Losses::uniform, 1);
  const auto check_all_full = [&](double target) {
    const auto found =
        schedule::cheapest_with_recall(edges, {100, 100, {10, 30}}, target, {.full_layers = 2});
    REQUIRE(found.size() == 1);
    CHECK(found[0].cost == 600);
    for (const auto& plan : found[0].schedule.layers) CHECK(plan.role == config::Role::full);
  };
  check_all_full(1.0);
  // Too few problems for an interval: no bound, so no target is met.
  std::fill(edges.recall_low.begin(), edges.recall_low.end(), std::numeric_limits<double>::quiet_NaN());
  check_all_full(0.01);
}

TEST_CASE("schedule: a budget below the cheapest schedule has no answer, and the cheapest is named") {
  const auto edges = random_edges(8, {4, 16}, {2}, Losses::uniform, 9);
  const LayerCosts costs{1000, 1000, {130, 470}};
  const auto cheapest = schedule::cheapest(edges, costs, {}).value();
  CHECK(cheapest.cost == 3 * 1000 + 5 * 130);  // layers 0 and 1, one Δ-layer, the rest at the smallest K
  CHECK(schedule::k_best(edges, costs, cheapest.cost - 1, {}).empty());
  const auto at_the_edge = schedule::k_best(edges, costs, cheapest.cost, {});
  REQUIRE(at_the_edge.size() == 1);
  CHECK(at_the_edge[0].schedule == cheapest.schedule);
}

TEST_CASE("schedule: a loose budget returns full attention first") {
  const auto edges = random_edges(6, {4, 16}, {2}, Losses::uniform, 9);
  const auto found = schedule::k_best(edges, {1000, 1000, {130, 470}}, 6000, {});
  CHECK(found[0].loss == 0);
  CHECK(set_of(found[0].schedule) == 0);
}

TEST_CASE("schedule: 60 layers with many schedules free of loss are not all tried") {
  const auto edges = random_edges(60, {4, 8, 32}, {1, 4}, Losses::tied, 7);
  const LayerCosts costs{1000, 1000, {31, 57, 130}};
  const auto found = schedule::k_best(edges, costs, attended_budget(costs, 60, 1.5), {.candidates = 64});
  REQUIRE(found.size() == 64);
  for (const auto& candidate : found) CHECK(candidate.loss == 0);
}

TEST_CASE("schedule: modes that only repeat another are dropped, however many k and L there are") {
  const std::vector<int> k_pages{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64}, l_pages{1, 1, 1};
  LayerCosts costs{1000, 1000, {}};
  for (const int k : k_pages) costs.sparse.push_back(10 * k);
  const auto edges = random_edges(80, k_pages, l_pages, Losses::equal, 3);
  const schedule::Moves moves(edges, costs, {.k_by_segment = true});
  REQUIRE(moves.n_modes() == 36);
  for (int layer = 1; layer < 80; ++layer)
    for (int source = 0; source < layer; ++source) {
      int left = 0;
      for (int mode = 0; mode < moves.n_modes(); ++mode)
        left += static_cast<int>(moves.sparse(layer, source, mode).size());
      REQUIRE(left == 1);  // the smallest k, and the first of the L
      REQUIRE(moves.sparse(layer, source, 0)[0].k_index == 0);
    }
  const auto found = schedule::k_best(edges, costs, attended_budget(costs, 80, 3),
                                      {.budgets = schedule::Budgets::per_segment, .candidates = 16});
  REQUIRE(found.size() == 16);
  // As few sparse layers as the budget allows: the least n with 80000 - 990 n <= 80000 / 3.
  for (const auto& candidate : found) CHECK(candidate.loss == 0.5 * 54);
}

// For one set of Δ-layers the layers decouple but for the budget: an integer knapsack by cost, for every set.
TEST_CASE("schedule: 14 layers equal a knapsack over every set of Δ-layers") {
  const int n_layers = 14, full = 10;
  const LayerCosts costs{full, full, {1, 2, 5}};
  for (Losses kind : {Losses::uniform, Losses::real, Losses::tied}) {
    const auto edges = random_edges(n_layers, {4, 8, 32}, {1, 4}, kind, 77);
    const int budget = static_cast<int>(attended_budget(costs, n_layers, 2.5));
    const double infinite = std::numeric_limits<double>::infinity();
    double best = infinite;
    for (unsigned set = 0; set < 1u << n_layers; ++set) {
      if (set & 3u) continue;
      std::vector<double> least(budget + 1, 0.0);  // by cost at most
      for (int from = 0, to; from < n_layers; from = to) {
        for (to = from + 1; to < n_layers && !(set >> to & 1u); ++to) {
        }
        const bool is_delta = set >> from & 1u;
        std::vector<double> merged(budget + 1, infinite);
        for (int l = 0; l < 2; ++l) {
          std::vector<double> now = least;
          for (int layer = from; layer < to; ++layer) {
            std::vector<double> after(budget + 1, infinite);
            for (int c = 0; c <= budget; ++c) {
              if (c >= full) after[c] = now[c - full];
              for (int k = 0; is_delta && layer > from && k < 3; ++k)
                if (c >= costs.sparse[k])
                  after[c] =
                      std::min(after[c], now[c - costs.sparse[k]] + edges.loss[edges.at(layer, from, k, l)]);
            }
            now = after;
          }
          for (int c = 0; c <= budget; ++c) merged[c] = std::min(merged[c], now[c]);
        }
        least = merged;
      }
      best = std::min(best, least[budget]);
    }
    const auto found = schedule::k_best(edges, costs, budget, {.candidates = 4});
    REQUIRE(!found.empty());
    CHECK(std::abs(found[0].loss - best) < 1e-11);
  }
}

TEST_CASE("schedule: options out of range are refused by name") {
  const auto edges = random_edges(4, {4, 16}, {2}, Losses::uniform, 9);
  const LayerCosts costs{1000, 1000, {130, 470}};
  CHECK_THROWS_AS(schedule::k_best(edges, costs, 4000, {.full_layers = 5}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, costs, 4000, {.candidates = 0}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, {1000, 1000, {130}}, 4000, {}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, {1000, 0, {130, 470}}, 4000, {}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, {1000, 1000, {130, -1}}, 4000, {}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, {1LL << 52, 1LL << 52, {130, 470}}, 4000, {}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, costs, 4000, {.n_deltas = -1}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, costs, 4000, {.n_deltas = 5}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, costs, 4000, {.delta_layers = {{1}}}),
                  Error);  // among the full ones
  CHECK_THROWS_AS(schedule::k_best(edges, costs, 4000, {.delta_layers = {{3, 2}}}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, costs, 4000, {.delta_layers = {{4}}}), Error);
  CHECK_THROWS_AS(schedule::k_best(edges, costs, 4000, {.n_deltas = 2, .delta_layers = {{2}}}), Error);
  auto negative = edges;
  negative.loss[negative.at(3, 2, 0, 0)] = -0.1;
  CHECK_THROWS_AS(schedule::k_best(negative, costs, 4000, {}), Error);
}
