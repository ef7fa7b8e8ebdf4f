#include "engine/plan.hpp"

#include <algorithm>

#include "engine/float_mode.hpp"
#include "engine/threads.hpp"

namespace fusedopt {

void Plan::clear() {
  pieces_.clear();
  ends_.clear();
  batches_.clear();
  coefficients_.clear();
  elements_ = 0;
}

std::size_t Plan::fold(const Kernel& kernel, const double* hyperparameters,
                       const StepContext& when) {
  coefficients_.emplace_back();
  fold_again(coefficients_.size() - 1, kernel, hyperparameters, when);
  return coefficients_.size() - 1;
}

void Plan::fold_again(std::size_t index, const Kernel& kernel, const double* hyperparameters,
                      const StepContext& when) {
  // Scalars don't depend on the caller's rounding mode, either, and none is flushed.
  const ScopedFloatMode mode(false);
  kernel.fold(hyperparameters, when, coefficients_[index]);
}

Piece& Plan::add(const Kernel& kernel, std::size_t coefficients, std::int64_t size) {
  if (batches_.empty() || batches_.back().kernel != &kernel ||
      batches_.back().coefficients != coefficients) {
    batches_.push_back({&kernel, coefficients, pieces_.size()});
  }
  ++batches_.back().end;
  elements_ += size;
  ends_.push_back(elements_);
  Piece& piece = pieces_.emplace_back();
  piece.size = size;
  return piece;
}

void Plan::extend_last(std::int64_t size) {
  elements_ += size;
  ends_.back() = elements_;
  pieces_.back().size += size;
}

void Plan::run(Loop Kernel::* loop) const noexcept {
  const int threads = num_threads();
  if (threads == 1 || elements_ < grid.serial_below.load(std::memory_order_relaxed)) {
    const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
    std::size_t first = 0;
    for (const Batch& batch : batches_) {
      run_pieces(loop, batch, &pieces_[first], batch.end - first);
      first = batch.end;
    }
    return;
  }

  struct Task {
    const Plan* plan;
    Loop Kernel::* loop;
    std::int64_t chunk;
  };
  const std::int64_t chunk = grid.chunk.load(std::memory_order_relaxed);
  const Task task{this, loop, chunk};
  parallel_ranges((elements_ + chunk - 1) / chunk, threads,
                  [](const void* context, std::int64_t first, std::int64_t last) {
                    const Task& t = *static_cast<const Task*>(context);
                    const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
                    t.plan->run_range(t.loop, first * t.chunk,
                                      std::min(last * t.chunk, t.plan->elements_));
                  },
                  &task);
}

// Elements at..end; both may lie inside a piece.
void Plan::run_range(Loop Kernel::* loop, std::int64_t at, std::int64_t end) const {
  auto k = std::size_t(std::upper_bound(ends_.begin(), ends_.end(), at) - ends_.begin());
  auto batch = std::ranges::upper_bound(batches_, k, {}, &Batch::end);
  while (at < end) {
    const std::int64_t begin = pieces_[k].size - (ends_[k] - at);
    if (begin == 0 && ends_[k] <= end) {  // whole pieces, as many as there are
      std::size_t last = k;
      while (last + 1 < batch->end && ends_[last + 1] <= end) ++last;
      run_pieces(loop, *batch, &pieces_[k], last + 1 - k);
      k = last;
    } else {
      Piece part = pieces_[k];
      part.size = std::min(ends_[k], end) - at;
      for (void*& stream : part.streams) {
        if (stream) stream = static_cast<char*>(stream) + begin * batch->kernel->item_size;
      }
      run_pieces(loop, *batch, &part, 1);
    }
    at = ends_[k];
    if (++k == batch->end) ++batch;
  }
}

}  // namespace fusedopt
