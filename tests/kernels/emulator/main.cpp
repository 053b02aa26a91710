// Catch2's main with the emulator's orders: `--reversed` runs the last block and the last thread first,
// `--early` copies when a copy is issued.
#include <catch2/catch_session.hpp>

#include "block.h"

int main(int argc, char** argv) {
  Catch::Session session;
  session.cli(
      session.cli() |
      Catch::Clara::Opt(emulator::order.reversed)["--reversed"]("last block and last thread first") |
      Catch::Clara::Opt(emulator::order.early_copies)["--early"]("copies when issued, not when waited for"));
  if (const int error = session.applyCommandLine(argc, argv)) return error;
  return session.run();
}
