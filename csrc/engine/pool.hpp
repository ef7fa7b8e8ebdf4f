// Worker threads, which help the thread that calls.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "engine/sleeper.hpp"
#include "engine/threads.hpp"

namespace fusedopt {

// One job at a time: chunks 0..count, in one contiguous range for each participant. Participant 0
// is the thread that calls; the others are workers, made when first needed and kept.
//
// Everyone takes chunks from its own range, one by one, so that a chunk stays in the cache of the
// same core from step to step, and then from the others'. So whoever comes late, or never, because
// its core is taken, holds up nobody: the caller waits for chunks that someone has begun, and for
// nothing else.
//
// A pool is never destroyed: workers may still look at it while the process ends.
class Pool {
 public:
  // Runs task for all chunks and returns true; or returns false, having done nothing, where the
  // pool is busy with another thread's job.
  bool run(std::int64_t count, int threads, RangeTask task, const void* context) noexcept;

 private:
  // Own cache lines, two as processors fetch them in pairs.
  struct alignas(128) Participant {
    std::atomic<std::int64_t> next;  // chunk to take
    std::int64_t end;
    alignas(128) Sleeper sleeper;
  };

  int grow(int team);
  void share(std::int64_t count, int team, RangeTask task, const void* context);
  void wake_workers(int team);
  void take_chunks(int self, int team);
  void work(int self);

  // The job's number in bits 32..63, its participants in 16..31 (0: closed, nobody may enter),
  // and how many workers are inside in 0..15. All in one word, so that entering is one exchange
  // that succeeds only while the job is open. What the job is (below) changes only while the job
  // is closed and nobody inside.
  alignas(128) std::atomic<std::uint64_t> state_{0};

  alignas(128) RangeTask task_ = nullptr;
  const void* context_ = nullptr;
  std::array<std::unique_ptr<Participant>, max_threads> participants_;

  alignas(128) std::atomic<int> next_to_wake_{0};

  // The calling thread's.
  alignas(128) std::atomic<bool> busy_{false};
  int size_ = 0;  // participants
  std::chrono::steady_clock::time_point last_end_{};
};

}  // namespace fusedopt
