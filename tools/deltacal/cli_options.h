// Options that several commands take, and checks of what goes together.
#pragma once
#include <CLI/CLI.hpp>
#include <initializer_list>
#include <string>
#include <vector>

#include "options.h"

namespace deltacal::tools {

using Options = std::vector<const CLI::Option*>;

// Those of these names, which are there.
Options options_of(CLI::App*, std::initializer_list<const char*> names);

// For callbacks, where it is known that the options would have no effect.
void refuse_given(const Options&, const std::string& why);

// A number of at least this.
CLI::Validator at_least(int least);

// Each declares options that fill in what it is given.
void add_output(CLI::App*, Output&, const char* what);
void add_model(CLI::App*, ModelOptions&, bool required = true);
void add_data(CLI::App*, DataOptions&, bool required = true);
const CLI::Option* add_gpu_trace(CLI::App*, std::string& path);
const CLI::Option* add_counters(CLI::App*, std::string& wanted, const char* what);
Options add_sampling(CLI::App*, SamplingArguments&);  // returned for commands that take them in one mode only
CLI::Option* add_batch(CLI::App*, int& batch);
void add_grid(CLI::App*, GridOptions&);
void add_seed(CLI::App*, Provenance&);
void add_resamples(CLI::App*, int& resamples);

}  // namespace deltacal::tools
