#include "record/sample.h"

namespace deltacal::record {

trace::SamplePlan plan_of(const text::TokenizedSample& sample, const char* mode, int n_tokens, size_t n_steps,
                          bool group_mass) {
  trace::SamplePlan plan;
  plan.info.id = sample.id;
  plan.info.task = sample.task;
  plan.info.problem = sample.problem;
  plan.info.mode = mode;
  plan.info.n_prompt_tokens = sample.n_prompt_tokens;
  for (const text::Part& part : sample.parts) plan.info.parts.push_back(part.problem);
  plan.max_tokens = n_tokens;
  plan.max_steps = static_cast<int>(n_steps);
  plan.group_mass = group_mass;
  return plan;
}

trace::EdgeSensitivity edges_of(const sensitivity::Sensitivity& pass, const sensitivity::Options& options) {
  trace::EdgeSensitivity edges{options.budgets, options.loss.n_gradients(), pass.edges().edge_kl(), {}};
  for (const Ranking& ranking : options.rankings) {
    const int index = 1 + static_cast<int>(edges.rankings.size());
    edges.rankings.push_back({ranking, pass.edges().edge_kl(index), {}});
    if (ranking.refresh_below) edges.rankings.back().list_made_at = pass.list_made_at(index);
  }
  return edges;
}

}  // namespace deltacal::record
