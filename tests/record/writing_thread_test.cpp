#include "record/writing_thread.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <stdexcept>
#include <vector>

using deltacal::record::WritingThread;

TEST_CASE("writing thread: work is done in order and once, whether beside or at once") {
  for (const bool beside : {false, true}) {
    std::vector<int> done;
    WritingThread thread(beside);
    for (int i = 0; i < 1000; ++i) thread.add(0, [&done, i] { done.push_back(i); });
    thread.finish();
    REQUIRE(done.size() == 1000);
    for (int i = 0; i < 1000; ++i) CHECK(done[size_t(i)] == i);
  }
}

TEST_CASE("writing thread: an error reaches the giver, and nothing is done after it") {
  std::atomic<int> n_done = 0;
  WritingThread thread(true);
  thread.add(0, [&] { ++n_done; });
  thread.add(0, [] { throw std::runtime_error("the disk is full"); });
  CHECK_THROWS_AS(thread.finish(), std::runtime_error);
  CHECK_THROWS_AS(thread.add(0, [&] { ++n_done; }), std::runtime_error);
  CHECK(n_done == 1);
}

TEST_CASE("writing thread: work of more memory than may wait is taken one at a time") {
  std::atomic<int> n_waiting = 0, most = 0;
  WritingThread thread(true);
  for (int i = 0; i < 20; ++i) {
    thread.add(size_t{3} << 29, [&] { --n_waiting; });
    ++n_waiting;
    if (n_waiting > most) most = n_waiting.load();
  }
  thread.finish();
  CHECK(most <= 2);  // the one just given, and the count of one that was just done
}
