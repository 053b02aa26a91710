// Whether this build has CUPTI, without which sessions throw.
#pragma once

namespace deltacal::gpu_trace {

bool has_cupti();

}  // namespace deltacal::gpu_trace
