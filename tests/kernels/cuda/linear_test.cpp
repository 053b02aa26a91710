#include "kernels/linear/linear.h"

#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "device.h"
#include "kernels/linear/cuda.h"
#include "kernels/linear/cuda_box_plan.h"
#include "kernels/linear/cuda_plan.h"
#include "kernels/tolerance.h"

namespace deltacal::kernels::cuda::linear {
namespace {

struct Case {
  int rows, n, k;
  bool gated, out_f32;
};

class Layer {
 public:
  Layer(Type type, Case c, unsigned seed)
      : case_(c),
        type_(type),
        x(rounded_normals(type, size_t(c.rows) * size_t(c.k), seed)),
        weight(rounded_normals(type, size_t(c.gated ? 2 : 1) * size_t(c.n) * size_t(c.k), seed + 1,
                               1 / std::sqrt(float(c.k)))) {}

  size_t size() const { return size_t(case_.rows) * size_t(case_.n); }
  // In `workspace`, or in one of its own.
  std::vector<float> on_device(Array<char>* workspace = nullptr) const {
    Array<uint16_t> in(to_bits(type_, x)), w(to_bits(type_, weight));
    Array<uint16_t> out(case_.out_f32 ? 0 : size());
    Array<float> out_f32(case_.out_f32 ? size() : 0);
    Array<char> own(workspace_bytes(), 0);
    Params p;
    p.n_rows = case_.rows, p.n = case_.n, p.k = case_.k, p.gated = case_.gated, p.type = type_;
    p.x = in.get(), p.weight = w.get(), p.out_f32 = case_.out_f32;
    p.out = case_.out_f32 ? static_cast<void*>(out_f32.get()) : out.get();
    p.workspace = (workspace ? *workspace : own).get();
    run(p, {});
    return case_.out_f32 ? out_f32.read() : from_bits(type_, out.read());
  }
  std::vector<float> expected() const {
    std::vector<float> out(size());
    kernels::linear::Params p;
    p.n_rows = case_.rows, p.n = case_.n, p.k = case_.k, p.gated = case_.gated;
    p.x = x.data(), p.weight = weight.data(), p.out = out.data();
    kernels::linear::reference(p);
    return out;
  }
  // Sums of k products of about 1 / sqrt(k) in float, each then rounded; a gate is a product of two.
  void require_near(const std::vector<float>& found) const {
    const std::vector<float> right = expected();
    const double of_sum = sum_tolerance(KvType::f32, case_.k, std::sqrt(double(case_.k))),
                 of_out = case_.out_f32 ? 0x1p-24 : roundoff(type_);
    REQUIRE(found.size() == right.size());
    for (size_t i = 0; i < right.size(); ++i) {
      const double size = std::abs(double(right[i]));
      CAPTURE(i, found[i], right[i]);
      REQUIRE(std::abs(double(found[i]) - right[i]) <=
              of_out * size + (case_.gated ? 4 : 1) * of_sum + 1e-5 * size + 6e-8);
    }
  }

 private:
  Case case_;
  Type type_;

 public:
  std::vector<float> x, weight;
};

TEST_CASE(
    "cuda linear: equals the reference for 1 to 16 rows, sizes that fill no tile and no stage, with and "
    "without a gate, and both types") {
  NEEDS_DEVICE;
  const Case cases[] = {
      {1, 8, 8, false, false},
      {1, 64, 1536, false, false},
      {7, 72, 264, false, false},
      {8, 3080, 136, false, false},
      {1, 12296, 72, false, true},
      {13, 200, 520, false, false},
      {16, 264, 1160, false, true},
      {16, 3136, 200, false, false},
      {9, 40, 4000, false, true},
      {1, 8, 64, true, false},
      {8, 136, 392, true, false},
      {10, 1608, 136, true, false},
      {13, 72, 1000, true, false},
      {16, 6152, 64, true, false},
      {16, 1544, 328, true, true},
      {10, 12296, 24, false, false},
      {10, 512, 2056, false, false},
      // Tiles of 48 rows, on devices of 3 (the emulator) and 132 multiprocessors.
      {3, 120, 1160, false, false},
      {8, 64, 712, true, false},
      {2, 4616, 136, false, true},
      {7, 2616, 72, true, false},
      // Long rows, of which a block has sixteen; and more rows of the weight than 256 a multiprocessor.
      {5, 48, 5000, false, true},
      {8, 24, 4200, true, false},
      {2, 16, 8968, false, false},
      {3, 34000, 72, false, false},
      {6, 17000, 40, true, false},
      {5, 17000, 96, true, false},
      {4, 13000, 72, false, true},
  };
  for (const Type type : both_types) {
    for (const Case& c : cases) {
      if (c.rows > max_rows()) continue;
      CAPTURE(int(type), c.rows, c.n, c.k, c.gated, c.out_f32);
      const Layer layer(type, c, 5);
      layer.require_near(layer.on_device());
    }
  }
}

TEST_CASE("cuda linear: equals the reference for 9 to 16 rows of weights of every size") {
  NEEDS_DEVICE;
  // A weight of few, more and many rows; columns that fill no chunk, no segment, and several units.
  for (const int rows : {9, 15, 16}) {
    if (rows > max_rows()) continue;
    for (const Case& c : {Case{rows, 200, 1096, false, false}, Case{rows, 120, 520, true, true},
                          Case{rows, 3080, 136, false, true}, Case{rows, 1544, 456, true, false},
                          Case{rows, 12296, 40, false, false}, Case{rows, 6152, 168, true, false}}) {
      CAPTURE(c.rows, c.n, c.k, c.gated, c.out_f32);
      const Layer layer(Type::bf16, c, 7);
      layer.require_near(layer.on_device());
    }
  }
}

TEST_CASE("cuda linear: equals the reference for 17 to 64 rows, sizes that fill no box and no tile") {
  NEEDS_DEVICE;
  if (max_rows() < 64) SKIP("no kernel for more than 8 rows");
  for (const Type type : both_types) {
    // Tiles that are whole, shared by blocks, and past the last row; columns of one box and of many.
    for (const Case& c :
         {Case{17, 8, 8, false, false}, Case{24, 72, 264, true, false}, Case{32, 136, 1096, false, true},
          Case{33, 200, 520, false, false}, Case{47, 328, 392, true, true}, Case{64, 520, 136, false, false},
          Case{64, 264, 1160, true, false}, Case{40, 3080, 72, false, true}, Case{20, 12296, 40, true, false},
          Case{64, 16392, 72, false, false}, Case{29, 64, 4000, false, false}}) {
      CAPTURE(int(type), c.rows, c.n, c.k, c.gated, c.out_f32);
      const Layer layer(type, c, 13);
      layer.require_near(layer.on_device());
    }
  }
}

TEST_CASE("cuda linear: few rows of a weight of more than a MB a multiprocessor") {
  NEEDS_DEVICE;
  if (current_device().n_sms < 100 || max_rows() < 64)
    SKIP("of a device as large as that: the smaller ones' are among the cases above");
  const Layer layer(Type::bf16, {2, 9728, 3584, true, false}, 19);
  layer.require_near(layer.on_device());
}

TEST_CASE("cuda linear: equals the reference where clusters of 2, 4 and 8 blocks share a tile") {
  NEEDS_DEVICE;
  if (max_rows() < 64) SKIP("no kernel for more than 8 rows");
  const Case cases[] = {
      {9, 1544, 520, false, false}, {20, 600, 520, false, true},  {33, 520, 4104, false, false},
      {64, 72, 9096, true, false},  {16, 128, 1800, false, true}, {24, 64, 5400, false, false},
      {64, 32, 5392, true, false},  {10, 48, 9096, false, false}, {40, 24, 9080, true, true}};
  // An H200's clusters; those of the emulator.
  for (const Clusters& clusters : {Clusters{{132, 66, 30, 15}}, Clusters{{8, 4, 2, 1}}}) {
    std::set<int> sizes;
    for (const Case& c : cases) sizes.insert(plan_boxes((c.gated ? 2 : 1) * c.n, c.k, clusters).cluster());
    for (const int size : {2, 4, 8}) REQUIRE(sizes.count(size) == 1);
  }
  for (const Type type : both_types) {
    for (const Case& c : cases) {
      CAPTURE(int(type), c.rows, c.n, c.k, c.gated, c.out_f32);
      const Layer layer(type, c, 17);
      layer.require_near(layer.on_device());
    }
  }
}

TEST_CASE("cuda linear: calls of all shapes share a workspace, and repeat to the last bit") {
  NEEDS_DEVICE;
  Array<char> workspace(workspace_bytes(), 0);
  for (const Case& c :
       {Case{16, 264, 1160, false, false}, Case{64, 392, 776, true, false}, Case{8, 64, 2048, true, false},
        Case{30, 136, 2056, false, true}, Case{1, 3080, 520, false, true}, Case{13, 200, 520, true, false},
        Case{48, 584, 392, false, false}, Case{16, 3136, 392, false, false}}) {
    if (c.rows > max_rows()) continue;
    CAPTURE(c.rows, c.n, c.k, c.gated, c.out_f32);
    const Layer layer(Type::bf16, c, 9);
    const std::vector<float> first = layer.on_device(&workspace);
    layer.require_near(first);
    for (int i = 0; i < 2; ++i) CHECK(layer.on_device(&workspace) == first);
  }
}

TEST_CASE("cuda linear: NaN and infinity of an input row reach its outputs, and no other row") {
  NEEDS_DEVICE;
  for (const int rows : {3, 9, 16, 31, 64}) {
    if (rows > max_rows()) continue;
    for (const bool gated : {false, true}) {
      CAPTURE(rows, gated);
      Layer layer(Type::bf16, {rows, 64, 264, gated, false}, 11);
      layer.x[263] = std::numeric_limits<float>::quiet_NaN();
      layer.x[2 * 264] = std::numeric_limits<float>::infinity();
      const std::vector<float> out = layer.on_device();
      for (size_t i = 0; i < 64; ++i) {
        CHECK(std::isnan(out[i]));
        CHECK((gated || std::isinf(out[128 + i])));
        for (int r = 1; r < rows; ++r)
          if (r != 2) CHECK(std::isfinite(out[size_t(r) * 64 + i]));
      }
    }
  }
}

TEST_CASE("cuda linear: parameters are refused by name") {
  Params p;
  const uintptr_t place = 256;
  p.n_rows = 1, p.n = p.k = 64;
  p.x = p.weight = p.out = p.workspace = reinterpret_cast<void*>(place);
  const auto refused = [&](const char* text, auto change) { return refused_with(text, p, change); };
  CHECK(refused("n is 12, expected a multiple of 8", [](Params& q) { q.n = 12; }));
  CHECK(refused("k is 4, expected a multiple of 8", [](Params& q) { q.k = 4; }));
  CHECK(refused("weight is null", [](Params& q) { q.weight = nullptr; }));
  CHECK(refused("workspace is not aligned",
                [](Params& q) { q.workspace = reinterpret_cast<void*>(uintptr_t(16)); }));
  NEEDS_DEVICE;
  CHECK(refused("n_rows is 65, expected at most ", [](Params& q) { q.n_rows = 65; }));
}

TEST_CASE("cuda linear: every unit has one block, blocks share evenly, and no two parts share a place") {
  for (const auto& [tiles, units, blocks] :
       {std::tuple(1, 1, 1), {1, 7, 3}, {3, 5, 4}, {24, 12, 132}, {148, 56, 132}, {5, 3, 1}, {700, 1, 132}}) {
    CAPTURE(tiles, units, blocks);
    const Plan plan{tiles, units, blocks, 0, 0};
    REQUIRE(plan.begin(0) == 0);
    REQUIRE(plan.begin(blocks) == tiles * units);
    std::set<int> slots;
    for (int b = 0; b < blocks; ++b) {
      const int n = plan.begin(b + 1) - plan.begin(b);
      CHECK((n == tiles * units / blocks || n == tiles * units / blocks + 1));
      for (int u = plan.begin(b); u < plan.begin(b + 1); ++u) CHECK(plan.block_of(u) == b);
    }
    for (int t = 0; t < tiles; ++t) {
      const int first = plan.block_of(t * units), last = plan.block_of((t + 1) * units - 1);
      for (int b = first; first < last && b <= last; ++b) {
        const int slot = plan.part_slot(b, t * units);
        CHECK(slot < 2 * blocks);
        CHECK(slots.insert(slot).second);
      }
    }
  }
}

// Every row of the weight in one tile, every tile in one cluster's turn, every unit of a tile in one block.
void require_whole(const BoxPlan& plan, int weight_rows, int k) {
  REQUIRE(plan.tile_rows % BoxPlan::row_step == 0);
  REQUIRE(plan.tile_rows <= BoxPlan::max_tile_rows);
  REQUIRE((plan.n_tiles - 1) * plan.tile_rows < weight_rows);
  REQUIRE(plan.n_tiles * plan.tile_rows >= weight_rows);
  REQUIRE((plan.tile_units - 1) * 64 < k);
  REQUIRE(plan.tile_units * 64 >= k);
  REQUIRE(plan.n_clusters >= 1);
  REQUIRE(plan.n_clusters <= plan.n_tiles);
  REQUIRE(plan.begin(0) == 0);
  REQUIRE(plan.begin(plan.cluster()) == plan.tile_units);
  for (int rank = 0; rank < plan.cluster(); ++rank) {
    const int n = plan.begin(rank + 1) - plan.begin(rank);
    REQUIRE(n >= 1);
    REQUIRE((n == plan.tile_units / plan.cluster() || n == plan.tile_units / plan.cluster() + 1));
  }
  // What the blocks of a cluster send each other is counted once.
  if (plan.cluster() > 1) REQUIRE(plan.n_clusters == plan.n_tiles);
  for (const int x_rows : {16, 32, 64}) {
    const BoxRing ring(plan, x_rows);
    REQUIRE(ring.n_stages >= std::min(2, plan.most_units()));
    REQUIRE(ring.n_stages <= plan.most_units());
    REQUIRE(ring.shared_bytes() <= BoxRing::room);
  }
}

TEST_CASE("cuda linear: boxes cover every weight once, on devices of every kind") {
  // An H100 of whole and of smaller groups of multiprocessors, one that has no clusters of eight, three
  // blocks.
  for (const Clusters& c : {Clusters{{132, 66, 33, 16}}, Clusters{{132, 66, 28, 14}},
                            Clusters{{114, 57, 26, 0}}, Clusters{{3, 3, 2, 1}}})
    for (const int rows :
         {8, 16, 24, 272, 1536, 2048, 3584, 4608, 17920, 37888, 42240, 42248, 152064, 151936})
      for (const int k : {8, 64, 72, 520, 1536, 3584, 18944}) {
        CAPTURE(c.at_a_time[0], c.at_a_time[2], c.at_a_time[3], rows, k);
        require_whole(plan_boxes(rows, k, c), rows, k);
      }
}

TEST_CASE(
    "cuda linear: a weight has one tile a cluster where tiles are not too tall, and as many as fit at a "
    "time") {
  const Clusters h200{{132, 66, 30, 15}};
  const auto shape = [&](int rows, int k) {
    const BoxPlan p = plan_boxes(rows, k, h200);
    return std::array{p.cluster(), p.n_clusters, p.n_tiles, p.tile_rows};
  };
  CHECK(shape(37888, 3584) == std::array{1, 132, 132, 288});    // 7B gate and up
  CHECK(shape(4608, 3584) == std::array{4, 29, 29, 160});       // 7B qkv
  CHECK(shape(3584, 18944) == std::array{8, 15, 15, 240});      // 7B down: of x so much that tiles are tall
  CHECK(shape(1536, 1536) == std::array{4, 24, 24, 64});        // 1.5B attention output
  CHECK(shape(1536, 8960) == std::array{8, 14, 14, 112});       // 1.5B down
  CHECK(shape(152064, 3584) == std::array{1, 132, 1056, 144});  // 7B output layer: in eight rounds
  CHECK(shape(64, 72) == std::array{1, 4, 4, 16});              // not worth adding up
  CHECK(shape(512, 8192) == std::array{8, 11, 11, 48});
  CHECK(shape(16, 18944) == std::array{8, 1, 1, 16});  // or one block would read all of it
  CHECK(plan_boxes(272, 18944, Clusters{{132, 66, 28, 1}}).cluster() == 4);  // not the one of 8 that runs
}

}  // namespace
}  // namespace deltacal::kernels::cuda::linear
