// Model and data of a command, in the order in which mistakes are cheapest to find: the lines of the data,
// the head of the model file, the tokens, and the weights last.
#pragma once
#include <optional>

#include "calib/to_config.h"
#include "decode/step_memory.h"
#include "model/model.h"
#include "options.h"
#include "text/data.h"
#include "trace/trace.h"

namespace deltacal::tools {

struct Inputs {
  model::Header header;
  model::Device device = model::Device::cpu;
  model::Dtype dtype = model::Dtype::f32;
  text::TokenizedData data;
  std::string chat;  // preset that was used
};

// Sets the number of threads, too. `prompts_only`: each sample is its prompt (profile --mode decode).
Inputs read_inputs(const ModelOptions&, const DataOptions&, bool prompts_only = false);

// How splits, checks for an overlap and provenance know a sample.
calib::SplitSample to_split(const text::TokenizedSample&);
calib::SplitSample to_split(const trace::SampleInfo&);
calib::CalibrationSample to_record(const text::TokenizedSample&);
calib::CalibrationSample to_record(const trace::SampleInfo&);

// Device, dtype and head of a model file, or of random weights of a shape (model/shape.h).
Inputs read_head(const ModelOptions&);
Inputs read_head_of_shape(const ModelOptions&, const std::string& shape);

// As artefacts name it: "cpu", or the CUDA device's name.
std::string device_name(model::Device);

// Says on stderr what was loaded, and on which device.
model::Model load_model(const ModelOptions&, const Inputs&);
model::Model load_model(const ModelOptions&);
model::Model random_model(const Inputs&, uint64_t seed);

// How many of `n_sequences`, of `longest` positions at most, are decoded at once (decode/batch.h): `given`;
// where that is 0 one on the CPU, on a CUDA device up to 32 as far as they fit. Says it on stderr. bad_input,
// before weights are read, where what was given does not fit.
int settle_batch(int given, const Inputs&, int n_sequences, int longest, const decode::StepUse&);

// What a pass over n_tokens costs at least: floating-point operations of the linear layers and of attention
// over contexts of the given lengths.
double forward_flops(const model::Description&, const std::vector<int>& lengths);
double weight_gigabytes(const model::Description&, model::Dtype);

int longest_tokens(const std::vector<text::TokenizedSample>&);

// On a CUDA device, before the weights are read: bad_input where its memory does not suffice for `command`
// (decode::check_memory). `need` without the weights.
void check_device_memory(const std::string& command, const Inputs&, decode::PrefillNeed need);
// The same for the arrays that decode::measure_bandwidth() reads and copies.
void check_bandwidth_memory(const std::string& command, const Inputs&);
// For --dry-run: what `what` would take and what is free. Nothing on the CPU.
void print_device_memory(const std::string& what, const Inputs&, const decode::StepMemory&);
void print_device_memory(const std::string& what, const Inputs&,
                         decode::PrefillNeed need);  // without the weights

}  // namespace deltacal::tools
