// Worker threads, which help the thread that calls.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "engine/chunk_ranges.hpp"
#include "engine/layer.hpp"
#include "engine/sleeper.hpp"

namespace fusedopt {

// Participant 0 is the thread that calls; the others are workers, made when first needed and kept.
// The caller waits for chunks that someone has begun, and for nothing else: not for a worker that
// has yet to come.
class Pool final : public Layer {
 public:
  bool run(const Job& job, int threads, Pace& pace) noexcept override;

 private:
  struct alignas(128) OwnSleeper : Sleeper {};

  int grow(int team);
  void share(const Job& job, int team, Pace& pace);
  void wake_workers(int team);
  void work(int self);

  // The job's number in bits 32..63, its participants in 16..31 (0: closed, nobody may enter),
  // and how many workers are inside in 0..15. All in one word, so that entering is one exchange
  // that succeeds only while the job is open. What the job is (below) changes only while the job
  // is closed and nobody inside.
  alignas(128) std::atomic<std::uint64_t> state_{0};

  alignas(128) Job job_{};
  ChunkRanges ranges_;
  std::array<std::unique_ptr<OwnSleeper>, max_threads> sleepers_;

  alignas(128) std::atomic<int> next_to_wake_{0};

  // The calling thread's.
  alignas(128) int size_ = 0;  // participants
};

}  // namespace fusedopt
