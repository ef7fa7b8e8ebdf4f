// Which stretches of memory overlap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace fusedopt {

struct Interval {
  std::uintptr_t begin, end;  // end is one past the last byte
  std::size_t owner;          // whatever the caller wants to know it by
};

inline Interval interval_of(const void* data, std::size_t bytes, std::size_t owner) {
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  return {begin, begin + bytes, owner};
}

// A set of disjoint intervals.
class DisjointIntervals {
 public:
  // Replaces the set, or returns two owners whose intervals overlap, the smaller one first, if
  // there are any, and leaves the set as it was. Empty intervals overlap nothing.
  std::optional<std::pair<std::size_t, std::size_t>> assign(std::vector<Interval> intervals);

  // The owner of an interval that overlaps this one, if there is any; if not, and free is given,
  // it becomes the whole free stretch around it, all memory where the wanted one is empty.
  std::optional<std::size_t> find_overlap(const Interval& wanted, Interval* free = nullptr) const;

 private:
  std::vector<Interval> sorted_;
  std::vector<std::uintptr_t> ends_;  // of those, close together for the search
};

}  // namespace fusedopt
