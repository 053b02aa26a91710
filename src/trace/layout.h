// Names, attributes and chunks of trace.h5 (data/schema/README.md), shared by what writes and what reads
// them.
#pragma once
#include <span>
#include <string>

#include "trace/hdf5.h"
#include "trace/trace.h"

namespace deltacal::trace {

inline constexpr const char* format_name = "deltacal-trace";
inline constexpr int schema_version = 1;

// Attributes of /: format, schema_version, tool_version, command, seed, created, options (JSON).
void write_head(hid_t file, const Provenance&, const std::string& options);
Provenance read_head(hid_t file, std::string& options);  // Fault for another format or a newer schema

void write_model(hid_t file, const ModelInfo&);
ModelInfo read_model(hid_t file);

void write_info(hid_t sample, const SampleInfo&);
SampleInfo read_info(hid_t sample);

std::string sample_name(int index);  // "000003"

std::string group_name(const Ranking&);             // "max", "refresh-4": its name without a colon
Ranking ranking_of_group(const std::string& name);  // Fault for another name

// What is wrong with a sample's lists of recorded steps and bursts (of one length): out of range, not
// ascending, a burst that is no run. Empty if nothing is.
std::string steps_fault(std::span<const int32_t> steps, std::span<const int32_t> burst, const SampleInfo&);

// Recorded steps in one chunk of one layer, so that a chunk of `bytes_per_step` is about half a megabyte. It
// is also what the writer keeps of each layer until the chunk is full.
int steps_in_chunk(size_t bytes_per_step, int max_steps);

// What in the model that made `found` forbids using it together with `expected`; empty if nothing does.
std::string model_difference(const ModelInfo& found, const ModelInfo& expected);

}  // namespace deltacal::trace
