// Typed access to a JSON document that somebody else wrote. Every complaint names the file and the field.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reports/model.h"

namespace deltacal::reports {

using Json = nlohmann::ordered_json;

// A value in a document. It refers to the document, which must outlive it.
class Field {
 public:
  Field(const Json& value, std::string file, std::string path = "");

  Field at(const std::string& name) const;                     // bad_input if missing
  std::optional<Field> find(const std::string& name) const;    // nothing if missing or null
  std::vector<Field> items() const;                            // of an array
  std::vector<std::pair<std::string, Field>> members() const;  // of an object

  std::string text() const;
  std::string any_text() const;  // a string as it is, anything else as JSON: ids and seeds may be either
  int count(int most = 2'000'000'000) const;    // an integer in 0..most
  std::optional<bool> truth() const;            // null: nothing
  double number() const;                        // null: missing
  Estimate estimate() const;                    // a number, {mean, low, high} or null
  std::vector<double> numbers(size_t n) const;  // [n]; null: all missing
  std::vector<std::vector<double>> matrix(size_t rows, size_t columns) const;  // null: all missing
  bool is_null() const { return value_->is_null(); }
  bool is_object() const { return value_->is_object(); }
  const Json& value() const { return *value_; }
  const std::string& file() const { return file_; }

  // "FILE: field PATH WHAT" as an error to throw.
  [[noreturn]] void complain(const std::string& what) const;

 private:
  std::string shown() const;  // the value in a message: itself if it is short, else its type
  const Json* value_;
  std::string file_, path_;
};

// The estimates of `mean` (or another name), `low` and `high`, each [n]; absent bounds are missing.
std::vector<Estimate> estimates(const Field& field, const std::string& name, size_t n);
// The same of matrices [n][n] in `matrix`, `low`, `high`.
std::vector<std::vector<Estimate>> estimate_matrix(const Field& field, size_t n);

}  // namespace deltacal::reports
