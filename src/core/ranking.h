// How the pages of a step are ranked, for what records or predicts under several rankings.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace deltacal {

// A page's score, of max_h alpha over its positions: their sum (DELTA, arXiv 2510.09883), or the largest.
enum class PageScore { sum, max };
std::string name_of(PageScore);  // "sum", "max"

// Why a config's score may have nothing but its page.
inline constexpr const char* page_score_alone =
    "this version ranks pages by the page score alone, because carried scores and head weights did not lower "
    "the loss on both models measured (data/results/README.md)";

struct Ranking {
  PageScore page = PageScore::sum;
  int refresh_interval = 1;  // steps between two lists
  // Instead: a list where the mean cosine of a step's queries to those of the last list falls below this, and
  // every most_steps_of_signal steps.
  std::optional<double> refresh_below{};
  bool keeps_lists() const { return refresh_interval > 1 || refresh_below; }
  bool operator==(const Ranking&) const = default;
};

// Up to here a list in force has as many pages as one made anew wherever it is used (core/refresh.h).
inline constexpr int most_steps_of_signal = 16;

// "sum", "max", "refresh:4", "cosine:0.9", "max+refresh:4": a name for each.
std::string name_of(const Ranking&);

// One name as above. bad_input: what is accepted.
Ranking parse_ranking(const std::string& name);

// What is recorded beside the ranking {sum, 1}, which always is: bad_input for that one, and for one named
// twice.
std::vector<Ranking> parse_rankings(const std::vector<std::string>& names);

}  // namespace deltacal
