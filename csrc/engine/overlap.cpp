#include "engine/overlap.hpp"

#include <algorithm>
#include <limits>

namespace fusedopt {
namespace {

// How many of the sorted ends are at the address or before it. Which half holds the answer is a
// coin toss to the processor: a comparison that decides nothing but an offset can't be
// mispredicted.
std::size_t count_ending_before(const std::vector<std::uintptr_t>& ends, std::uintptr_t address) {
  const std::uintptr_t* first = ends.data();
  std::size_t count = ends.size();
  while (count > 1) {
    const std::size_t half = count / 2;
    first += (first[half - 1] <= address) * half;
    count -= half;
  }
  const auto before = static_cast<std::size_t>(first - ends.data());
  return before + (count == 1 && *first <= address);
}

}  // namespace

std::optional<std::pair<std::size_t, std::size_t>> DisjointIntervals::assign(
    std::vector<Interval> intervals) {
  std::erase_if(intervals, [](const Interval& i) { return i.begin == i.end; });
  std::sort(intervals.begin(), intervals.end(),
            [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  const auto clash =
      std::adjacent_find(intervals.begin(), intervals.end(),
                         [](const Interval& a, const Interval& b) { return b.begin < a.end; });
  if (clash != intervals.end()) return std::minmax(clash->owner, std::next(clash)->owner);
  sorted_ = std::move(intervals);
  ends_.clear();
  for (const Interval& interval : sorted_) ends_.push_back(interval.end);
  return std::nullopt;
}

std::optional<std::size_t> DisjointIntervals::find_overlap(const Interval& wanted,
                                                           Interval* free) const {
  constexpr std::uintptr_t last_address = std::numeric_limits<std::uintptr_t>::max();
  if (wanted.begin == wanted.end) {
    if (free) *free = {0, last_address, wanted.owner};
    return std::nullopt;
  }
  const std::size_t next = count_ending_before(ends_, wanted.begin);
  if (next < sorted_.size() && sorted_[next].begin < wanted.end) return sorted_[next].owner;
  if (free) {
    free->begin = next == 0 ? 0 : ends_[next - 1];
    free->end = next == sorted_.size() ? last_address : sorted_[next].begin;
  }
  return std::nullopt;
}

}  // namespace fusedopt
