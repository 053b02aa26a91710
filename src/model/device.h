// Where a model runs.
#pragma once
#include <functional>
#include <string>

namespace deltacal::model {

enum class Device { cpu, cuda };
std::string name_of(Device);  // "cpu", "cuda"

// "auto": a CUDA device where one can be used, else the CPU; "cpu"; "cuda". Loads LibTorch's CUDA libraries
// when a device may be used. bad_input for another name, and for "cuda" where none can be: what is missing
// and what to do.
Device choose_device(const std::string& name);

// Does the work, and turns LibTorch's errors into failures with what matters of them: out of memory (of the
// host or of the device, what was asked for and what is free), or an error of the device.
int with_clear_errors(const std::function<int()>& work);

}  // namespace deltacal::model
