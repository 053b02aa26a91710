#include "config/fields.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace deltacal::config {
namespace {

// Levenshtein's distance: insertions, deletions and substitutions.
size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string>& known) {
  std::string best;
  size_t fewest = std::max<size_t>(name.size(), 3) / 3 + 1;
  for (const std::string& candidate : known)
    if (const size_t edits = edits_between(name, candidate); edits < fewest) {
      fewest = edits;
      best = candidate;
    }
  return best;
}

Fields::Fields(const Json& json, std::string file, std::string path, const std::vector<std::string>& known)
    : json_(json), file_(std::move(file)), path_(std::move(path)) {
  if (!json.is_object())
    throw bad_input("{}: {} is {}, expected an object", file_, path_.empty() ? "the file" : path_,
                    json.type_name());
  for (const auto& [name, value] : json.items()) {
    if (std::ranges::find(known, name) != known.end()) continue;
    const std::string near = nearest_name(name, known);
    throw bad_input("{}: unknown field {}{}. Known here: {}", file_, path_of(name),
                    near.empty() ? "" : fmt::format("; did you mean {}?", near), fmt::join(known, ", "));
  }
}

const Json& Fields::required(const std::string& name) const {
  const auto found = json_.find(name);
  if (found == json_.end()) throw bad_input("{}: the field {} is missing", file_, path_of(name));
  return *found;
}

int Fields::integer(const std::string& name, int least) const {
  const Json& value = required(name);
  const auto expected = [&] {
    return wrong(name, fmt::format("an integer of {} or more, below 2^31", least));
  };
  if (!value.is_number_integer()) throw expected();
  constexpr int most = std::numeric_limits<int>::max();
  if (value.is_number_unsigned() ? value.get<uint64_t>() > static_cast<uint64_t>(most)
                                 : value.get<int64_t>() < std::numeric_limits<int>::min())
    throw expected();
  const int number = value.get<int>();
  if (number < least) throw expected();
  return number;
}

double Fields::number(const std::string& name) const {
  const Json& value = required(name);
  if (!value.is_number() || !std::isfinite(value.get<double>())) throw wrong(name, "a number");
  return value.get<double>();
}

std::string Fields::text(const std::string& name) const {
  const Json& value = required(name);
  if (!value.is_string()) throw wrong(name, "a string");
  return value.get<std::string>();
}

std::string Fields::text_or(const std::string& name, const std::string& otherwise) const {
  return has(name) ? text(name) : otherwise;
}

const Json& Fields::array(const std::string& name) const {
  const Json& value = required(name);
  if (!value.is_array()) throw wrong(name, "an array");
  return value;
}

Error Fields::wrong(const std::string& name, const std::string& expected) const {
  constexpr size_t most = 60;
  std::string found = required(name).dump();
  if (found.size() > most) found = found.substr(0, most) + "…";
  return bad_input("{}: {} is {}, expected {}", file_, path_of(name), found, expected);
}

}  // namespace deltacal::config
