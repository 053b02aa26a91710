#include "record/writing_thread.h"

#include <utility>

namespace deltacal::record {
namespace {
constexpr size_t most_bytes = size_t{1} << 30;
}

WritingThread::WritingThread(bool beside) : beside_(beside) {
  if (beside) thread_ = std::thread([this] { run(); });
}

WritingThread::~WritingThread() {
  if (!beside_) return;
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void WritingThread::add(size_t bytes, std::function<void()> work) {
  if (!beside_) return work();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return error_ || waiting_.empty() || bytes_ + bytes <= most_bytes; });
  rethrow();
  bytes_ += bytes;
  waiting_.push_back({bytes, std::move(work)});
  changed_.notify_all();
}

void WritingThread::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return error_ || waiting_.empty(); });
  rethrow();
}

void WritingThread::rethrow() {
  if (error_) std::rethrow_exception(error_);
}

void WritingThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ends_ || (!error_ && !waiting_.empty()); });
    if (ends_) return;
    std::function<void()> work = std::move(waiting_.front().run);
    lock.unlock();
    std::exception_ptr error;
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    work = nullptr;  // what it held goes before its bytes do, and keeps nobody waiting for the lock
    lock.lock();
    error_ = error;
    bytes_ -= waiting_.front().bytes;
    waiting_.pop_front();
    changed_.notify_all();
  }
}

}  // namespace deltacal::record
