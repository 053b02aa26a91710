#include "decode/scored_rows.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "decode/layer_tensors.h"

namespace deltacal::decode {

TakeScores begin_scores(const LayerView& view, std::span<const int> rows, bool group_mass, PageScore page) {
  const c10::InferenceMode inference;
  std::vector<int32_t> length, sequence;  // [n]
  for (const int row : rows) {
    length.push_back(view.position[row] + 1);
    sequence.push_back(view.sequence[row]);
  }
  return view.tensors->engine->score(view.layer, {view.tensors->q, length, sequence, rows, group_mass, page});
}

void score_rows(const LayerView& view, std::span<const int> rows, bool group_mass, ScoredRows& out,
                PageScore page) {
  begin_scores(view, rows, group_mass, page)(out);
}

void score_query(const LayerView& view, const float* q, int position, int sequence, ScoredRows& out,
                 PageScore page) {
  const c10::InferenceMode inference;
  const at::Tensor& like = view.tensors->q;
  const at::Tensor row =
      at::from_blob(const_cast<float*>(q), {1, like.size(1)}, at::TensorOptions(at::kFloat))
          .to(like.options());
  const int32_t length = position + 1, of = sequence;
  view.tensors->engine->score(view.layer, {row, {&length, 1}, {&of, 1}, {}, false, page})(out);
}

FindValues values_of(const model::Model& model, KvCache& cache) {
  const std::shared_ptr<Engine> engine = engine_for(model, cache, full_policy(model.info().n_layers));
  return [engine](int layer, const ValueRows& rows) {
    const c10::InferenceMode inference;
    return engine->value(layer, rows);
  };
}

}  // namespace deltacal::decode
