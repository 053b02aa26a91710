#include "reports/document.h"

#include <cmath>

#include "core/error.h"

namespace deltacal::reports {
namespace {

constexpr double largest = 1e15;  // no quantity here comes near it; a larger one is a damaged file

// A number or missing for null; nullopt for anything else.
std::optional<double> as_number(const Json& value) {
  if (value.is_null()) return missing;
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();
  if (!std::isfinite(number) || std::abs(number) > largest) return std::nullopt;
  return number;
}

std::string kind(const Json& value) {
  return value.is_number() && !value.is_number_integer() ? "number" : value.type_name();
}

}  // namespace

Field::Field(const Json& value, std::string file, std::string path)
    : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

void Field::complain(const std::string& what) const {
  throw bad_input("{}: field {} {}. Make the file again with this version.", file_,
                  path_.empty() ? "(the whole document)" : path_, what);
}

Field Field::at(const std::string& name) const {
  if (!value_->is_object()) complain(fmt::format("must be an object, it is {}", kind(*value_)));
  const std::string path = path_.empty() ? name : path_ + "." + name;
  const auto found = value_->find(name);
  if (found == value_->end()) Field(*value_, file_, path).complain("is missing");
  return Field(*found, file_, path);
}

std::optional<Field> Field::find(const std::string& name) const {
  if (!value_->is_object()) complain(fmt::format("must be an object, it is {}", kind(*value_)));
  const auto found = value_->find(name);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return Field(*found, file_, path_.empty() ? name : path_ + "." + name);
}

std::vector<Field> Field::items() const {
  if (!value_->is_array()) complain(fmt::format("must be an array, it is {}", kind(*value_)));
  std::vector<Field> fields;
  fields.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i)
    fields.emplace_back((*value_)[i], file_, fmt::format("{}[{}]", path_, i));
  return fields;
}

std::vector<std::pair<std::string, Field>> Field::members() const {
  if (!value_->is_object()) complain(fmt::format("must be an object, it is {}", kind(*value_)));
  std::vector<std::pair<std::string, Field>> fields;
  for (const auto& [name, value] : value_->items())
    fields.emplace_back(name, Field(value, file_, path_.empty() ? name : path_ + "." + name));
  return fields;
}

std::string Field::text() const {
  if (!value_->is_string()) complain(fmt::format("must be a string, it is {}", kind(*value_)));
  return value_->get<std::string>();
}

std::string Field::any_text() const {
  return value_->is_string() ? value_->get<std::string>()
                             : value_->dump(-1, ' ', false, Json::error_handler_t::replace);
}

int Field::count(int most) const {
  const auto in_range = [&] {
    if (value_->is_number_unsigned()) return value_->get<uint64_t>() <= static_cast<uint64_t>(most);
    return value_->is_number_integer() && value_->get<int64_t>() >= 0 && value_->get<int64_t>() <= most;
  };
  if (!in_range()) complain(fmt::format("must be an integer from 0 to {}, it is {}", most, shown()));
  return value_->get<int>();
}

std::string Field::shown() const {
  return value_->is_structured() ? kind(*value_)
                                 : value_->dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<bool> Field::truth() const {
  if (value_->is_null()) return std::nullopt;
  if (!value_->is_boolean()) complain(fmt::format("must be true, false or null, it is {}", shown()));
  return value_->get<bool>();
}

double Field::number() const {
  const auto number = as_number(*value_);
  if (!number) complain(fmt::format("must be a number or null, it is {}", shown()));
  return *number;
}

Estimate Field::estimate() const {
  if (!value_->is_object()) return {number(), missing, missing};
  const auto bound = [&](const char* name) {
    const auto field = find(name);
    return field ? field->number() : missing;
  };
  return {at("mean").number(), bound("low"), bound("high")};
}

std::vector<double> Field::numbers(size_t n) const {
  if (value_->is_null()) return std::vector<double>(n, missing);
  if (!value_->is_array() || value_->size() != n)
    complain(fmt::format("must be an array of {} numbers, it is {}", n,
                         value_->is_array() ? fmt::format("one of {}", value_->size()) : shown()));
  std::vector<double> values(n);
  for (size_t i = 0; i < n; ++i) {
    const auto number = as_number((*value_)[i]);
    if (!number) Field((*value_)[i], file_, fmt::format("{}[{}]", path_, i)).number();
    values[i] = *number;
  }
  return values;
}

std::vector<std::vector<double>> Field::matrix(size_t rows, size_t columns) const {
  if (value_->is_null()) return std::vector<std::vector<double>>(rows, std::vector<double>(columns, missing));
  if (!value_->is_array() || value_->size() != rows)
    complain(fmt::format("must be an array of {} rows, it is {}", rows,
                         value_->is_array() ? fmt::format("one of {}", value_->size()) : shown()));
  std::vector<std::vector<double>> values;
  values.reserve(rows);
  for (size_t row = 0; row < rows; ++row)
    values.push_back(Field((*value_)[row], file_, fmt::format("{}[{}]", path_, row)).numbers(columns));
  return values;
}

std::vector<Estimate> estimates(const Field& field, const std::string& name, size_t n) {
  const auto values = field.at(name).numbers(n);
  const auto low = field.find("low"), high = field.find("high");
  std::vector<Estimate> result(n);
  for (size_t i = 0; i < n; ++i) result[i].value = values[i];
  if (!low || !high) return result;
  const auto lows = low->numbers(n), highs = high->numbers(n);
  for (size_t i = 0; i < n; ++i) result[i] = {values[i], lows[i], highs[i]};
  return result;
}

std::vector<std::vector<Estimate>> estimate_matrix(const Field& field, size_t n) {
  const auto values = field.at("matrix").matrix(n, n);
  const auto low = field.find("low"), high = field.find("high");
  const Json none;
  const auto lows = low.value_or(Field(none, field.file())).matrix(n, n);
  const auto highs = high.value_or(Field(none, field.file())).matrix(n, n);
  std::vector<std::vector<Estimate>> result(n, std::vector<Estimate>(n));
  for (size_t r = 0; r < n; ++r)
    for (size_t c = 0; c < n; ++c) result[r][c] = {values[r][c], lows[r][c], highs[r][c]};
  return result;
}

}  // namespace deltacal::reports
