#include <unistd.h>

#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trace/join.h"
#include "trace/layout.h"

namespace deltacal::trace {
namespace {

// Copies all samples of `input` after the first `n_before`; gives how many there are then.
int append_samples(const std::string& input, hid_t samples, int n_before, const h5::Output& output) {
  const h5::Input file(input);
  const h5::Id from = h5::open_group(file.get(), "samples");
  const int n = h5::count_links(from.get());
  for (int i = 0; i < n; ++i) {
    h5::copy(from.get(), sample_name(i), samples, sample_name(n_before + i));
    output.check();
  }
  return n_before + n;
}

void require_same_model(const Reader& input, const Reader& first) {
  const std::string difference = model_difference(input.model(), first.model());
  if (!difference.empty())
    throw bad_input("{} and {} cannot be merged: {}. Merge shards of one run only.", input.path(),
                    first.path(), difference);
}

// "cpu, NVIDIA H200": shards may be made on several devices.
void add_device(std::string& all, const std::string& device) {
  if (device.empty() || (", " + all + ",").find(", " + device + ",") != std::string::npos) return;
  all += (all.empty() ? "" : ", ") + device;
}

// Where each sample was seen, by its token hash.
using Seen = std::map<std::string, std::string>;

void require_new_samples(const Reader& input, Seen& seen) {
  for (int i = 0; i < input.n_samples(); ++i) {
    const std::string where = input.path() + " sample " + sample_name(i);
    const auto [earlier, is_new] = seen.emplace(input.info(i).sha256, where);
    if (!is_new)
      throw bad_input("{} (id {}) has the same tokens as {}: leave one of the two out", where,
                      input.info(i).id, earlier->second);
  }
}

}  // namespace

void join(const std::vector<std::string>& inputs, const std::string& output, const ModelInfo& model,
          const Provenance& provenance, const std::string& options) {
  std::string reading;
  bool disk_failed = false;
  try {
    h5::Output file(output);
    try {
      write_head(file.get(), provenance, options);
      write_model(file.get(), model);
      h5::Id samples = h5::create_group(file.get(), "samples");
      int n = 0;
      for (const std::string& input : inputs) n = append_samples(reading = input, samples.get(), n, file);
      reading.clear();
      samples.reset();
      file.close();
    } catch (const h5::Fault&) {
      disk_failed = file.failed();
      throw;
    }
  } catch (const h5::Fault& fault) {
    ::unlink(output.c_str());
    if (reading.empty() || disk_failed)
      throw failure("cannot write {}: {}. See that there is as much space again as the samples take.", output,
                    fault.what());
    throw bad_input("trace {}: {}. The file is damaged: make it again.", reading, fault.what());
  }
}

void merge(const std::vector<std::string>& inputs, const std::string& output, Existing existing,
           const Provenance& provenance) {
  if (inputs.empty()) throw bad_input("merge needs at least one trace");
  AtomicOutput whole(output, existing);
  const Reader first(inputs.front());
  Seen seen;
  ModelInfo model = first.model();
  nlohmann::json options = nlohmann::json::array();
  for (const std::string& path : inputs) {
    const Reader input(path);
    require_same_model(input, first);
    require_new_samples(input, seen);
    add_device(model.device, input.model().device);
    const nlohmann::json of_input = nlohmann::json::parse(input.options(), nullptr, false);
    options.push_back(of_input.is_discarded() ? nlohmann::json() : of_input);
  }
  join(inputs, whole.temporary_path(), model, provenance,
       nlohmann::json({{"merged", std::move(options)}}).dump());
  whole.commit();
}

}  // namespace deltacal::trace
