// The report as plain data: sections of figures. It is built once (report.h) and drawn by html, svg,
// markdown, csv and json; none of them computes anything. A number that is not there is NaN and is shown as
// missing, never as 0.
#pragma once
#include <limits>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace deltacal::reports {

inline constexpr double missing = std::numeric_limits<double>::quiet_NaN();

// A number and its interval, in the unit of the Quantity beside it.
struct Estimate {
  double value = missing, low = missing, high = missing;
  bool has_value() const { return value == value; }
  bool has_interval() const { return low == low && high == high; }
};

// What a number measures and how many decimals the page shows of it.
struct Quantity {
  std::string name;  // "NLL gap"
  std::string unit;  // "nats/token"; "" for a fraction or a plain count
  int decimals = 3;
  bool with_sign = false;  // "+0.0120": for differences
};

using Cell = std::variant<std::string, Estimate>;

// Rows by columns of numbers, one colour each. Undefined cells are hatched; with `lower_triangle` the cells
// with column > row are no part of the figure.
struct Heatmap {
  Quantity quantity;
  std::string row_label, column_label;
  std::vector<std::string> rows, columns;
  std::vector<std::vector<Estimate>> cells;  // [rows][columns]
  bool lower_triangle = false;
  double scale_min = 0, scale_max = 1;        // of the colours
  std::vector<int> marked_columns;            // Δ-layers
  std::vector<std::pair<int, int>> outlined;  // (row, column)
};

// Values over an ordered axis with equal steps (layers, bins of position).
struct LineChart {
  struct Series {
    std::string name;
    std::vector<Estimate> y;  // [x.size()]
  };
  enum class Style { band, whiskers };  // band: a line with a shaded interval; whiskers: points with bars
  Quantity quantity;
  std::string x_label;
  std::vector<std::string> x;
  std::vector<Series> series;
  std::vector<int> marked;  // positions on x: Δ-layers
  Style style = Style::band;
  bool from_zero = false;  // the value axis includes 0
};

// One row a name: the estimate with its interval, and single observations behind it.
struct DotWhisker {
  struct Row {
    std::string name;
    Estimate estimate;
    std::vector<std::pair<std::string, double>> points;
  };
  struct Limit {
    std::string name;
    double value;
  };
  Quantity quantity;
  std::string row_label;
  std::vector<Row> rows;
  std::vector<Limit> limits;  // dashed lines: thresholds
};

// Points over two measured axes: what is gained against what it costs.
struct Scatter {
  struct Point {
    std::string name;
    double x = missing;
    Estimate y;  // not drawn where it has no value
  };
  struct Series {
    std::string name;
    std::vector<Point> points;
    bool joined = false;  // by a line, in their order
  };
  Quantity x, y;
  std::vector<Series> series;
};

enum class Role { full, delta, sparse };

// The schedule, one entry a layer.
struct Strip {
  struct Layer {
    Role role = Role::full;
    int k_pages = 0;  // sparse: pages it attends to; delta: length of its list; full: 0
    int l_pages = 0;  // delta: the newest pages always in its list; else 0
    int source = -1;  // sparse: the Δ-layer whose list it uses; else -1
  };
  std::vector<Layer> layers;
};

struct Table {
  std::vector<Quantity> columns;
  std::vector<std::vector<Cell>> rows;  // [rows][columns]; the first cell names the row
};

// The few numbers that decide, shown large.
struct Facts {
  enum class Tone { plain, good, bad };
  struct Fact {
    Quantity quantity;
    Cell value;
    std::string detail;
    Tone tone = Tone::plain;
  };
  std::vector<Fact> facts;
};

struct Text {
  std::vector<std::string> paragraphs;
};

enum class Width { full, half, third };

struct Figure {
  std::string id{};     // unique in the report, [a-z0-9-]
  std::string label{};  // "Figure 3", "Table 2"; "" for facts and text
  std::string title{};
  std::string caption{};   // what is shown, and how it is defined
  std::string counts{};    // "12 samples of 8 problems, 3,072 steps"
  std::string interval{};  // what the intervals are, or why there are none
  Width width = Width::full;
  std::variant<Facts, Text, Table, Strip, Heatmap, LineChart, DotWhisker, Scatter> body{};
};

struct Section {
  std::string id, title, intro;
  std::vector<Figure> figures;
};

struct Report {
  std::string title, subtitle;
  std::vector<Section> sections;
};

std::string name_of(Role);  // "full", "delta", "sparse"

// Numbers the figures and the tables in reading order.
void number_figures(Report&);

// "8-14" for the layers a Δ-layer serves, "none" if it serves none.
std::string layers_served(const Strip&, int delta);

}  // namespace deltacal::reports
