#include "engine/plan.hpp"

#include <algorithm>
#include <cstring>

#include "engine/float_mode.hpp"
#include "engine/threads.hpp"

namespace fusedopt {

namespace {

// So many elements of a piece, from one of them on.
Piece part_of(const Piece& piece, std::int64_t item_size, std::int64_t begin, std::int64_t size) {
  Piece part = piece;
  part.size = size;
  for (void*& stream : part.streams) {
    if (stream) stream = static_cast<char*>(stream) + begin * item_size;
  }
  return part;
}

}  // namespace

void Plan::clear() {
  pieces_.clear();
  ends_.clear();
  batches_.clear();
  coefficients_.clear();
  elements_ = 0;
  averages_ = false;
}

std::size_t Plan::add_coefficients(const Kernel& kernel, const double* hyperparameters,
                                   std::int64_t step, bool fresh, const FollowingAverage& average) {
  coefficients_.push_back({&kernel, hyperparameters, step, fresh, {}, average, {}, 1});
  averages_ |= average.kernel != nullptr;
  return coefficients_.size() - 1;
}

std::array<std::size_t, dtype_count> Plan::add_coefficients(const RuleInfo& rule,
                                                            const double* hyperparameters,
                                                            std::int64_t step, bool fresh) {
  std::array<std::size_t, dtype_count> indices{};
  for (std::size_t d = 0; d < dtype_count; ++d) {
    indices[d] = add_coefficients(rule.kernels[d], hyperparameters, step, fresh);
  }
  return indices;
}

void Plan::fold(const GradientWork& gradients) noexcept {
  // Scalars don't depend on the caller's rounding mode, either, and none is flushed.
  const ScopedFloatMode mode(false);
  for (Folded& folded : coefficients_) {
    // Where gradients are clipped they are multiplied before.
    const double scale = gradients.clips() ? 1 : gradients.scale * folded.gradient_scale;
    const StepContext when{folded.step, folded.fresh, scale};
    folded.kernel->fold(folded.hyperparameters, when, folded.coefficients);
    const FollowingAverage& average = folded.average;
    if (average.kernel) {
      average.kernel->fold(average.hyperparameters, when, folded.average_coefficients);
    }
  }
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

void Plan::run(Loop Kernel::* loop, const GradientWork& gradients) const noexcept {
  const Work work{loop, gradients};
  const int threads = threads_for(elements_);
  const bool at_once = gradients.is_none() && !averages_;
  if (threads == 1 && at_once) {
    const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
    std::size_t first = 0;
    for (const Batch& batch : batches_) {
      run_pieces(work, batch, &pieces_[first], batch.end - first);
      first = batch.end;
    }
    return;
  }

  struct Task {
    const Plan* plan;
    Work work;
    std::int64_t chunk;
    bool at_once;
  };
  const std::int64_t chunk = grid.chunk.load(std::memory_order_relaxed);
  const Task task{this, work, chunk, at_once};
  parallel_ranges((elements_ + chunk - 1) / chunk, threads,
                  [](const void* context, std::int64_t first, std::int64_t last) {
                    const Task& t = *static_cast<const Task*>(context);
                    const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
                    const std::int64_t end = std::min(last * t.chunk, t.plan->elements_);
                    // What follows a loop is to find its arrays in the cache.
                    for (std::int64_t at = first * t.chunk; at < end;) {
                      const std::int64_t next = t.at_once ? end : std::min(at + t.chunk, end);
                      t.plan->run_range(t.work, at, next);
                      at = next;
                    }
                  },
                  &task);
}

void Plan::run_pieces(const Work& work, const Batch& batch, const Piece* first,
                      std::size_t count) const {
  if (work.loop && work.gradients.clips()) {
    for (const Piece* piece = first; piece != first + count; ++piece) {
      run_clipped(work, batch, *piece);
    }
  } else if (work.loop) {
    (batch.kernel->*work.loop)(coefficients_[batch.coefficients].coefficients, first,
                               static_cast<std::int64_t>(count), work.asks_ahead);
  }
  if (work.loop && coefficients_[batch.coefficients].average.kernel) {
    run_averages(work, coefficients_[batch.coefficients], first, count);
  }
  if (!work.gradients.zero) return;
  for (const Piece* piece = first; piece != first + count; ++piece) zero(*batch.kernel, *piece);
}

void Plan::run_measured(Loop Kernel::* loop, const GradientWork& gradients,
                        Measures& measures) const noexcept {
  struct Task {
    const Plan* plan;
    Work work;
    Measures* measures;
  };
  const Task task{this, {loop, gradients}, &measures};
  parallel_ranges(
      static_cast<std::int64_t>(measures.blocks()), threads_for(elements_),
      [](const void* context, std::int64_t first, std::int64_t last) {
        const auto& [plan, work, measured] = *static_cast<const Task*>(context);
        const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
        for (auto k = static_cast<std::size_t>(first); k < static_cast<std::size_t>(last); ++k) {
          const std::size_t index = measured->piece_of(k);
          const Piece& piece = plan->pieces_[index];
          const Batch& batch = *std::ranges::upper_bound(plan->batches_, index, {}, &Batch::end);
          const std::int64_t begin = measured->begin_of(k, index);
          const Piece part = part_of(piece, batch.kernel->item_size, begin,
                                     std::min(Measures::block, piece.size - begin));
          plan->run_measured(work, batch, part, measured->at(k));
        }
      },
      &task);
}

void Plan::run_measured(const Work& work, const Batch& batch, const Piece& part,
                        Measures::Sums& sums) const {
  const ArrayKernel& arrays = *batch.kernel->arrays;
  alignas(64) double before[Measures::block];  // of elements of any dtype
  std::memcpy(before, part.streams[0],
              static_cast<std::size_t>(part.size * batch.kernel->item_size));
  sums.gradient = arrays.sum_of_squares(part.streams[1], part.size);
  if (!std::isfinite(sums.gradient)) {
    sums.nonfinite = arrays.count_nonfinite(part.streams[1], part.size);
  }
  run_pieces(work, batch, &part, 1);
  sums.update = arrays.sum_of_squared_differences(part.streams[0], before, part.size);
  sums.parameter = arrays.sum_of_squares(part.streams[0], part.size);
}

void Plan::run_averages(const Work& work, const Folded& folded, const Piece* first,
                        std::size_t count) const {
  constexpr std::size_t at_once = 32;
  Piece following[at_once];
  for (std::size_t at = 0; at < count; at += at_once) {
    const std::size_t n = std::min(at_once, count - at);
    for (std::size_t k = 0; k < n; ++k) {
      const Piece& piece = first[at + k];
      following[k].size = piece.size;
      following[k].streams[0] = following[k].streams[1] = piece.streams[0];
      following[k].streams[2] = piece.streams[average_stream];
    }
    (folded.average.kernel->*work.loop)(folded.average_coefficients, following,
                                        static_cast<std::int64_t>(n), work.asks_ahead);
  }
}

void Plan::run_clipped(const Work& work, const Batch& batch, const Piece& piece) const {
  const Kernel& kernel = *batch.kernel;
  const Folded& folded = coefficients_[batch.coefficients];
  const double scale = work.gradients.scale * folded.gradient_scale;
  alignas(64) double buffer[clipped_at_once];  // of elements of any dtype
  for (std::int64_t at = 0; at < piece.size; at += clipped_at_once) {
    Piece part = part_of(piece, kernel.item_size, at, std::min(clipped_at_once, piece.size - at));
    kernel.arrays->clip(buffer, static_cast<const char*>(piece.streams[1]) + at * kernel.item_size,
                        part.size, scale, work.gradients.magnitude);
    part.streams[1] = buffer;
    (kernel.*work.loop)(folded.coefficients, &part, 1, work.asks_ahead);
  }
}

void Plan::zero(const Kernel& kernel, const Piece& piece) {
  std::memset(piece.streams[1], 0, static_cast<std::size_t>(piece.size * kernel.item_size));
}

// Elements at..end; both may lie inside a piece.
void Plan::run_range(const Work& work, std::int64_t at, std::int64_t end) const {
  auto k = std::size_t(std::upper_bound(ends_.begin(), ends_.end(), at) - ends_.begin());
  auto batch = std::ranges::upper_bound(batches_, k, {}, &Batch::end);
  while (at < end) {
    const std::int64_t begin = pieces_[k].size - (ends_[k] - at);
    if (begin == 0 && ends_[k] <= end) {  // whole pieces, as many as there are
      std::size_t last = k;
      while (last + 1 < batch->end && ends_[last + 1] <= end) ++last;
      run_pieces(work, *batch, &pieces_[k], last + 1 - k);
      k = last;
    } else {
      const Piece part =
          part_of(pieces_[k], batch->kernel->item_size, begin, std::min(ends_[k], end) - at);
      run_pieces(work, *batch, &part, 1);
    }
    at = ends_[k];
    if (++k == batch->end) ++batch;
  }
}

}  // namespace fusedopt
