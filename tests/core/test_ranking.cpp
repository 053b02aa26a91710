#include "core/ranking.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "support/scratch.h"

using namespace deltacal;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("ranking: each has a name that is read back") {
  CHECK(name_of(Ranking{PageScore::sum, 1}) == "sum");
  CHECK(name_of(Ranking{PageScore::max, 1}) == "max");
  CHECK(name_of(Ranking{PageScore::sum, 4}) == "refresh:4");
  CHECK(name_of(Ranking{PageScore::max, 16}) == "max+refresh:16");
  for (const PageScore page : {PageScore::sum, PageScore::max})
    for (const int interval : {1, 2, 64})
      CHECK(parse_ranking(name_of(Ranking{page, interval})) == Ranking{page, interval});
  CHECK(name_of(Ranking{PageScore::max, 1, 0.85}) == "max+cosine:0.85");
  for (const double below : {-1.0, -0.25, 0.0, 0.1, 0.9, 1.0})
    CHECK(parse_ranking(name_of(Ranking{PageScore::sum, 1, below})) == Ranking{PageScore::sum, 1, below});
  CHECK(parse_ranking("cosine:0.90") == parse_ranking("cosine:.9"));
}

TEST_CASE("ranking: other names are refused with what is accepted") {
  for (const char* name : {"", "mean", "refresh", "refresh:", "refresh:1", "refresh:0", "refresh:-4",
                           "refresh:4x", "refresh:99999999999", "max+", "max:4", "cosine",
                           "cosine:", "cosine:1.5", "cosine:-2", "cosine:nan", "cosine:0.9x"})
    CHECK_THAT(test::error_of([&] { parse_ranking(name); }),
               ContainsSubstring("2: ranking \"" + std::string(name) + "\": give max"));
}

TEST_CASE("ranking: a list holds what is not recorded anyway, each once") {
  CHECK(parse_rankings({}).empty());
  CHECK(parse_rankings({"max"}) == std::vector<Ranking>{{PageScore::max, 1}});
  CHECK_THAT(test::error_of([] { parse_rankings({"sum"}); }), ContainsSubstring("recorded in any case"));
  CHECK_THAT(test::error_of([] { parse_rankings({"max", "max"}); }), ContainsSubstring("named twice"));
  CHECK(parse_rankings({"refresh:4", "max+refresh:8"}) ==
        std::vector<Ranking>{{PageScore::sum, 4}, {PageScore::max, 8}});
}
