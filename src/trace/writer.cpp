#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trace/join.h"
#include "trace/partial.h"
#include "trace/sample_writer.h"

namespace deltacal::trace {

struct Writer::Impl {
  ModelInfo model;
  Provenance provenance;
  std::string options;  // JSON
  Partial partial;
  FilterThreads threads = {};  // of all samples that are being recorded
};

Writer::Writer(std::string path, Start start, const ModelInfo& model, const Provenance& provenance,
               const nlohmann::json& options)
    : impl_(new Impl{model, provenance, dump(options), Partial(path, start, model, provenance, options)}) {}

Writer::~Writer() = default;

bool Writer::has(int index) const {
  return std::filesystem::exists(impl_->partial.sample_path(index));
}

SampleWriter Writer::begin(int index, const SamplePlan& plan) {
  const std::string path = impl_->partial.sample_path(index);
  if (has(index)) throw failure("{} is recorded already. This is a mistake in deltacal.", path);
  std::unique_ptr<SampleWriter::Impl> sample;
  writing(path, [&] {
    sample =
        std::make_unique<SampleWriter::Impl>(path, impl_->partial.temporary_path(index), plan, impl_->model,
                                             impl_->provenance, impl_->options, impl_->threads);
  });
  return SampleWriter(std::move(sample));
}

void Writer::finish() {
  const std::vector<std::string> samples = impl_->partial.finished();
  if (samples.empty()) throw bad_input("no sample was recorded: the data holds none that fits the options");
  join(samples, impl_->partial.joined_path(), impl_->model, impl_->provenance, impl_->options);
  impl_->partial.publish();
}

void Writer::discard() {
  impl_->partial.discard();
}

}  // namespace deltacal::trace
