// Work done in the order it is given, by one thread beside the one that gives it: a trace is compressed and
// written while a device decodes.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace deltacal::record {

class WritingThread {
 public:
  // `beside` false: no thread, add() does the work at once.
  explicit WritingThread(bool beside);
  ~WritingThread();  // leaves out what was not begun
  WritingThread(const WritingThread&) = delete;

  // `bytes`: memory that the work holds; waits while more than a gigabyte would wait. Throws what earlier
  // work threw; nothing is done after it.
  void add(size_t bytes, std::function<void()> work);
  void finish();  // waits until all is done; throws what it threw

 private:
  void run();
  void rethrow();

  struct Work {
    size_t bytes;
    std::function<void()> run;
  };
  bool beside_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> waiting_;  // the first one is being done
  size_t bytes_ = 0;          // of those
  bool ends_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace deltacal::record
