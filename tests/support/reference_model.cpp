#include "support/reference_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "model/description.h"
#include "model/gguf.h"

namespace deltacal::test {
namespace {

struct File {
  model::Gguf gguf;
  model::Description d;
  explicit File(const std::string& path) : gguf(path), d(model::describe(gguf)) {}

  // [out, in], or [1, n] for a vector
  Matrix weight(const std::string& name) const {
    const model::GgufTensor& t = gguf.tensor(name);
    std::vector<float> values(t.n_elements());
    model::dequantize(t, values);
    const Eigen::Index in = t.shape[0];
    return Eigen::Map<Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(values.data(), t.n_elements() / in, in).cast<double>();
  }
  Matrix weight(int layer, const std::string& name) const { return weight("blk." + std::to_string(layer) + "." + name); }
};

Matrix rms_norm(const Matrix& x, const Matrix& weight, double eps) {
  Matrix out = x;
  for (Eigen::Index t = 0; t < x.rows(); ++t)
    out.row(t) = x.row(t).cwiseProduct(weight.row(0)) / std::sqrt(x.row(t).squaredNorm() / double(x.cols()) + eps);
  return out;
}

// x [T, heads * d], rotated in place by position.
void rotate(Matrix& x, int head_dim, double base, bool interleaved) {
  const int half = head_dim / 2;
  for (Eigen::Index t = 0; t < x.rows(); ++t)
    for (Eigen::Index head = 0; head < x.cols() / head_dim; ++head)
      for (int j = 0; j < half; ++j) {
        const double angle = double(t) * std::pow(base, -2.0 * j / head_dim);
        double& a = x(t, head * head_dim + (interleaved ? 2 * j : j));
        double& b = x(t, head * head_dim + (interleaved ? 2 * j + 1 : j + half));
        const double rotated = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = rotated;
      }
}

// The ranked list of method.md, "Selection", from its text.
std::vector<int> select(const std::vector<double>& score, int n_pages, int k, int l, double bias) {
  std::vector<int> pages(n_pages);
  std::iota(pages.begin(), pages.end(), 0);
  const auto newest = [&](int u) { return u >= n_pages - l; };
  std::sort(pages.begin(), pages.end(), [&](int a, int b) {
    if (newest(a) != newest(b)) return newest(a);
    if (newest(a)) return a > b;
    const double x = score[a] - bias * a, y = score[b] - bias * b;
    return x != y ? x > y : a < b;
  });
  pages.resize(std::min(k, n_pages));
  return pages;
}

// Whether a delta layer makes a list at step t, the last one made at t0 (-1: none); q [T, H d] before rotation.
bool is_refreshed(const config::Schedule& schedule, const Matrix& q, int n_heads, int first_step, int t, int t0) {
  if (t <= first_step || t0 < 0) return true;
  if (!schedule.refresh) return t % schedule.refresh_interval == 0;
  const Eigen::Index d = q.cols() / n_heads;
  double cosine = 0;
  for (int h = 0; h < n_heads; ++h) {
    const auto now = q.row(t).segment(h * d, d), then = q.row(t0).segment(h * d, d);
    cosine += now.dot(then) / (now.norm() * then.norm() * n_heads);
  }
  return cosine < schedule.refresh->threshold || t - t0 >= schedule.refresh->max_interval;
}

// The list of step t0 as it stands at step t: the window of now, then what was ranked after the window of then.
std::vector<int> in_force(const std::vector<int>& made, int l, int t0, int t) {
  std::vector<int> list;
  for (int u = t / 16; u >= 0 && u > t / 16 - l; --u) list.push_back(u);
  for (const int u : made)
    if (u <= t0 / 16 - l) list.push_back(u);
  return list;
}

// What a delta layer ranks by at a step, alpha [H, t + 1]: from the words of the config's field.
std::vector<double> page_scores(const Matrix& alpha, PageScore how) {
  std::vector<double> score((alpha.cols() + 15) / 16, 0.0);
  for (Eigen::Index i = 0; i < alpha.cols(); ++i) {
    const double largest = alpha.col(i).maxCoeff();
    double& page = score[i / 16];
    page = how == PageScore::max ? std::max(page, largest) : page + largest;
  }
  return score;
}

}  // namespace

ReferenceRun reference_run(const std::string& gguf, std::span<const int32_t> ids, const ReferenceOptions& options) {
  const File file(gguf);
  const model::Description& d = file.d;
  const int T = int(ids.size()), H = d.info.n_heads, G = d.info.n_kv_heads, D = d.info.head_dim;
  const int U = (T + 15) / 16;
  const bool interleaved = d.rope.pairs == model::RotaryPairs::interleaved;

  const Matrix embedding = file.weight("token_embd.weight");
  Matrix x(T, d.n_embd);
  for (int t = 0; t < T; ++t) x.row(t) = embedding.row(ids[t]);

  ReferenceRun run;
  std::vector<std::vector<int>> lists(T);  // of the last delta layer
  for (int layer = 0; layer < d.info.n_layers; ++layer) {
    const Matrix normed = rms_norm(x, file.weight(layer, "attn_norm.weight"), d.rms_eps);
    const auto project = [&](const std::string& name) {
      Matrix y = normed * file.weight(layer, name + ".weight").transpose();
      if (d.qkv_bias) y.rowwise() += file.weight(layer, name + ".bias").row(0);
      return y;
    };
    Matrix q = project("attn_q"), k = project("attn_k"), v = project("attn_v");
    const Matrix plain_q = q;
    rotate(q, D, d.rope.base, interleaved);
    rotate(k, D, d.rope.base, interleaved);

    const config::LayerPlan plan = options.schedule ? options.schedule->layers[layer] : config::LayerPlan{};
    Matrix score = Matrix::Zero(T, U), mass = Matrix::Zero(T, U), out(T, H * D);
    int t0 = -1;             // of the last list of a delta layer
    std::vector<int> made;   // that list
    int n_lists = 0;
    for (int t = 0; t < T; ++t) {
      const int n_pages = t / 16 + 1;
      // Attention to everything: what is recorded, and what a delta layer ranks by.
      Matrix alpha(H, t + 1);
      for (int h = 0; h < H; ++h) {
        Eigen::RowVectorXd logits = q.row(t).segment(h * D, D) * k.block(0, h / (H / G) * D, t + 1, D).transpose() / std::sqrt(double(D));
        logits = (logits.array() - logits.maxCoeff()).exp();
        alpha.row(h) = logits / logits.sum();
      }
      if (options.pages)
        for (int i = 0; i <= t; ++i) {
          score(t, i / 16) += alpha.col(i).maxCoeff();
          mass(t, i / 16) += alpha.col(i).mean();
        }
      const bool is_step = t >= options.n_prompt_tokens;
      bool sparse = plan.role == config::Role::sparse;
      if (plan.role == config::Role::delta) {
        sparse = is_step && !is_refreshed(*options.schedule, plain_q, H, options.n_prompt_tokens, t, t0);
        if (is_step && !sparse) {
          made = select(page_scores(alpha, options.schedule->page_score), n_pages, plan.k_pages, plan.l_pages,
                        options.schedule->position_bias);
          t0 = t;
          ++n_lists;
        }
        if (is_step) lists[t] = in_force(made, plan.l_pages, t0, t);
      }
      if (sparse && plan.k_pages < n_pages && is_step) {
        std::vector<bool> kept(n_pages, false);
        for (size_t j = 0; j < lists[t].size() && j < size_t(plan.k_pages); ++j) kept[lists[t][j]] = true;
        for (int i = 0; i <= t; ++i)
          if (!kept[i / 16]) alpha.col(i).setZero();
        for (int h = 0; h < H; ++h) alpha.row(h) /= alpha.row(h).sum();
      }
      for (int h = 0; h < H; ++h) out.row(t).segment(h * D, D) = alpha.row(h) * v.block(0, h / (H / G) * D, t + 1, D);
    }
    if (options.pages) {
      run.score.push_back(score);
      run.mass.push_back(mass);
    }
    if (options.change_output) options.change_output(layer, out);
    run.output.push_back(out);
    run.n_lists.push_back(n_lists);
    x += out * file.weight(layer, "attn_output.weight").transpose();

    const Matrix z = rms_norm(x, file.weight(layer, "ffn_norm.weight"), d.rms_eps);
    Matrix gate = z * file.weight(layer, "ffn_gate.weight").transpose();
    const Matrix up = z * file.weight(layer, "ffn_up.weight").transpose();
    gate = (gate.array() / (1 + (-gate.array()).exp()) * up.array()).matrix();
    x += gate * file.weight(layer, "ffn_down.weight").transpose();
  }

  x = rms_norm(x, file.weight("output_norm.weight"), d.rms_eps);
  run.log_probability = x * (d.tied_output ? embedding : file.weight("output.weight")).transpose();
  for (int t = 0; t < T; ++t) {
    auto row = run.log_probability.row(t);
    const double largest = row.maxCoeff();
    row.array() -= largest + std::log((row.array() - largest).exp().sum());
    if (t + 1 < T) run.nll.push_back(-row(ids[t + 1]));
  }
  return run;
}

}  // namespace deltacal::test
