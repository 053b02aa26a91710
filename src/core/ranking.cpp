#include "core/ranking.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace deltacal {
namespace {

constexpr std::string_view refresh = "refresh:", cosine = "cosine:";

Error unknown(const std::string& name) {
  return bad_input(
      "ranking \"{}\": give max (the largest attention of a page instead of the sum over it), refresh:N (a "
      "list every N steps, N of 2 or more), cosine:T (a list where the queries' cosine to those of the last "
      "list is "
      "below T, -1 to 1), or one of the two after max+",
      name);
}

int parse_interval(std::string_view text, const std::string& name) {
  int interval = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), interval);
  if (error != std::errc() || end != text.data() + text.size() || interval < 2) throw unknown(name);
  return interval;
}

double parse_threshold(std::string_view text, const std::string& name) {
  double threshold = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threshold);
  if (error != std::errc() || end != text.data() + text.size() || !(threshold >= -1 && threshold <= 1))
    throw unknown(name);
  return threshold;
}

}  // namespace

std::string name_of(PageScore page) {
  return page == PageScore::sum ? "sum" : "max";
}

std::string name_of(const Ranking& ranking) {
  if (!ranking.keeps_lists()) return name_of(ranking.page);
  const char* page = ranking.page == PageScore::max ? "max+" : "";
  if (ranking.refresh_below) return fmt::format("{}{}{}", page, cosine, *ranking.refresh_below);
  return fmt::format("{}{}{}", page, refresh, ranking.refresh_interval);
}

Ranking parse_ranking(const std::string& name) {
  if (name == "sum") return {};
  if (name == "max") return {PageScore::max, 1};
  std::string_view rest = name;
  Ranking ranking;
  if (rest.starts_with("max+")) {
    ranking.page = PageScore::max;
    rest.remove_prefix(4);
  }
  if (rest.starts_with(cosine)) {
    ranking.refresh_below = parse_threshold(rest.substr(cosine.size()), name);
    return ranking;
  }
  if (!rest.starts_with(refresh)) throw unknown(name);
  ranking.refresh_interval = parse_interval(rest.substr(refresh.size()), name);
  return ranking;
}

std::vector<Ranking> parse_rankings(const std::vector<std::string>& names) {
  std::vector<Ranking> rankings;
  for (const std::string& name : names) {
    const Ranking ranking = parse_ranking(name);
    if (ranking == Ranking{})
      throw bad_input("ranking \"{}\" is recorded in any case: name the others alone", name);
    if (std::ranges::find(rankings, ranking) != rankings.end())
      throw bad_input("ranking \"{}\" is named twice", name);
    rankings.push_back(ranking);
  }
  return rankings;
}

}  // namespace deltacal
