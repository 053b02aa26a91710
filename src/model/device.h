// Where a model runs.
#pragma once
#include <string>

namespace deltacal::model {

enum class Device { cpu, cuda };
std::string name_of(Device);  // "cpu", "cuda"

// "auto": a CUDA device where one can be used, else the CPU; "cpu"; "cuda". Loads LibTorch's CUDA libraries
// when a device may be used. bad_input for another name, and for "cuda" where none can be: what is missing
// and what to do.
Device choose_device(const std::string& name);

}  // namespace deltacal::model
