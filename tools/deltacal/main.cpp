#include "cli.h"

int main(int argc, char** argv) {
  return deltacal::tools::command_line(argc, argv);
}
