#include "engine/overlap.hpp"

#include <algorithm>
#include <limits>

namespace fusedopt {

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
  return std::nullopt;
}

std::optional<std::size_t> DisjointIntervals::find_overlap(const Interval& wanted,
                                                           Interval* free) const {
  const auto next =
      std::upper_bound(sorted_.begin(), sorted_.end(), wanted.begin,
                       [](std::uintptr_t address, const Interval& i) { return address < i.end; });
  if (wanted.begin == wanted.end) return std::nullopt;
  if (next != sorted_.end() && next->begin < wanted.end) return next->owner;
  if (free) {
    free->begin = next == sorted_.begin() ? 0 : std::prev(next)->end;
    free->end = next == sorted_.end() ? std::numeric_limits<std::uintptr_t>::max() : next->begin;
  }
  return std::nullopt;
}

}  // namespace fusedopt
