// Of what a page's positions hold.
#pragma once

namespace deltacal::kernels::page_score {

enum class Page { sum, max };

}  // namespace deltacal::kernels::page_score
