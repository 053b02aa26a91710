// What a linear layer asks into the second-level cache for a later one, which only the emulator sees.
#include <algorithm>
#include <utility>

#include "../cuda/device.h"
#include "block.h"
#include "kernels/linear/cuda.h"

namespace deltacal::kernels::cuda::linear {
namespace {

// By a call of `rows` rows whose blocks have one unit or several.
std::vector<std::pair<const char*, int>> asked_for(int rows, const Ahead& ahead) {
  Array<uint16_t> x(std::vector<uint16_t>(size_t(rows) * 1032)), weight(std::vector<uint16_t>(520 * 1032)),
      out(size_t(rows) * 520);
  Array<char> workspace(workspace_bytes(), 0);
  Params p;
  p.n_rows = rows, p.n = 520, p.k = 1032, p.x = x.get(), p.weight = weight.get(), p.out = out.get();
  p.workspace = workspace.get(), p.ahead = ahead;
  emulator::prefetched.clear();
  run(p, {});
  auto asked = std::exchange(emulator::prefetched, {});
  std::ranges::sort(asked);
  return asked;
}

TEST_CASE(
    "cuda linear: what it asks for ahead is spread over the data, each byte at most once, and no more") {
  const std::vector<char> memory(size_t(1) << 20);
  const char* data = memory.data() + (16 - reinterpret_cast<uintptr_t>(memory.data()) % 16) % 16;
  for (const int rows : {1, few_rows}) {
    for (const auto& [size, bytes] :
         {std::pair<size_t, size_t>(1'000'000, 200'000), {1'000'000, 999'424}, {4096, 4096}, {48, 16}}) {
      CAPTURE(rows, size, bytes);
      const auto asked = asked_for(rows, {data, size, bytes});
      REQUIRE(!asked.empty());
      CHECK(asked.front().first == data);
      size_t sum = 0, widest = 0;
      const char* end = data;
      for (const auto& [place, n] : asked) {
        CHECK(place >= end);
        widest = std::max(widest, size_t(place - end));
        end = place + n, sum += size_t(n);
      }
      CHECK(end <= data + size);
      CHECK(sum >= bytes);
      CHECK(sum < bytes + 4096);
      // Gaps are as wide as even ones, but for 16 bytes, and what the last one leaves.
      CHECK(widest <= (size - bytes) / asked.size() + 4096 + 16);
    }
  }
  CHECK(asked_for(1, {}).empty());
  if (max_rows() > few_rows) CHECK(asked_for(few_rows + 1, {data, 4096, 4096}).empty());
}

}  // namespace
}  // namespace deltacal::kernels::cuda::linear
