// page_score.h on a CUDA device, for decoding: page scores and page masses from what paged attention
// kept of the logits in the same pass (PageLogits), so that no key is read twice. That is rounded: beside
// float arithmetic, scores and masses are off by 2^-7 of themselves at most, by about 2^-10 (root mean
// square) where keys differ as they usually do; scores of Page::max not at all.
#pragma once
#include "kernels/cuda/launch.h"
#include "kernels/page_score/page.h"
#include "kernels/paged_attention/cuda.h"

namespace deltacal::kernels::cuda::page_score {

using Page = kernels::page_score::Page;

struct Params {
  int n_rows = 0, n_heads = 0, n_kv_heads = 0;
  PageLogits logits;
  // [n_rows] keys each row sees; 0: the row is idle, nothing of it is written. Read while the kernel before
  // this one in the stream still runs (with Launch::overlap): not its work, nor that of one before it for
  // which it does not wait (paged_attention and page_score do)
  const int32_t* length = nullptr;
  Page page = Page::sum;
  // Nothing reads the records after this call. They need not go to memory then, so far as they have not, and
  // hold anything afterwards.
  bool last_use = false;
  int out_pages = 0;            // row length of the outputs, >= pages of the longest row
  float* score = nullptr;       // [n_rows, out_pages]  pages past the row's own are 0
  float* mass = nullptr;        // [n_rows, out_pages]  optional
  float* group_mass = nullptr;  // [n_rows, n_kv_heads, out_pages]  optional
};

void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::page_score
