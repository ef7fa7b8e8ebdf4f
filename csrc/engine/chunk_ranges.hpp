// A job's chunks, and who takes which.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>

#include "engine/threads.hpp"

namespace fusedopt {

// One contiguous range of chunks for each participant. Everyone takes chunks from its own range,
// one by one, so that a chunk stays in the cache of the same core from step to step, and then from
// the others'. So whoever comes late, or never, because its core is taken, leaves its chunks to
// those who are there.
class ChunkRanges {
 public:
  // Makes room for so many participants. Returns for how many there is: where there is no memory,
  // for fewer.
  int grow(int team) noexcept {
    try {
      for (; size_ < team; ++size_) ranges_[std::size_t(size_)] = std::make_unique<Range>();
    } catch (const std::bad_alloc&) {
    }
    return std::min(size_, team);
  }

  void share(std::int64_t count, int team) {
    for (int k = 0; k < team; ++k) {
      Range& range = *ranges_[std::size_t(k)];
      range.next.store(count * k / team, std::memory_order_relaxed);
      range.end = count * (k + 1) / team;
    }
  }

  // Calls run(chunk) for chunks that nobody has begun, until there are none, and begin() before it
  // takes each.
  template <typename Begin, typename Run>
  void take(int self, int team, const Begin& begin, const Run& run) {
    for (int k = 0; k < team; ++k) {
      const int owner = self + k < team ? self + k : self + k - team;
      Range& range = *ranges_[std::size_t(owner)];
      while (range.next.load(std::memory_order_relaxed) < range.end) {
        begin();
        const std::int64_t chunk = range.next.fetch_add(1, std::memory_order_relaxed);
        if (chunk < range.end) run(chunk);
      }
    }
  }

 private:
  // Own cache lines, two as processors fetch them in pairs.
  struct alignas(128) Range {
    std::atomic<std::int64_t> next;  // chunk to take
    std::int64_t end;
  };

  std::array<std::unique_ptr<Range>, max_threads> ranges_;
  int size_ = 0;
};

}  // namespace fusedopt
