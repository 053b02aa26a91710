// The command line.
#pragma once

namespace deltacal::tools {

// Parses, runs the command, reports errors on stderr; the exit status of the process.
int command_line(int argc, char** argv);

}  // namespace deltacal::tools
