#include "engine/arena.hpp"

#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fusedopt {
namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t page = 4096;

}  // namespace

Arena::Arena(std::size_t bytes) : Arena(allocate(bytes), bytes, false) {}

Arena::Arena(std::shared_ptr<char> block, std::size_t bytes)
    : Arena(std::move(block), bytes, true) {}

Arena::Arena(std::shared_ptr<char> block, std::size_t bytes, bool is_someone_elses)
    : size_(bytes),
      block_(std::move(block)),
      next_(block_.get()),
      is_someone_elses_(is_someone_elses) {}

// Large blocks come from the system directly and ask for huge pages, as NumPy's own do: otherwise
// state would be on small pages, and its address translations would not fit the processor's
// buffers.
std::shared_ptr<char> Arena::allocate(std::size_t bytes) {
#if defined(__linux__)
  constexpr std::size_t huge_page = std::size_t(2) << 20;
  if (bytes >= 2 * huge_page) {
    void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) throw std::bad_alloc();
    madvise(block, bytes, MADV_HUGEPAGE);  // a wish; small pages do, too
    return {static_cast<char*>(block), [bytes](char* mapped) { munmap(mapped, bytes); }};
  }
#endif
  void* block = std::calloc(bytes > 0 ? bytes : 1, 1);
  if (!block) throw std::bad_alloc();
  return {static_cast<char*>(block), [](char* allocated) { std::free(allocated); }};
}

// Small pieces lie close together, on as few cache lines as they need.
std::size_t Arena::stride(std::size_t bytes) { return bytes < page / 2 ? cache_line : page; }

void* Arena::take(std::size_t bytes, const void* beside, int stream) {
  std::uintptr_t wanted = 0;
  if (stride(bytes) == page) {
    wanted =
        reinterpret_cast<std::uintptr_t>(beside) + static_cast<std::size_t>(stream) * (page / 4);
  }
  const auto at = reinterpret_cast<std::uintptr_t>(next_);
  next_ += (wanted - at) % stride(bytes);
  return take_next(bytes);
}

void* Arena::take_next(std::size_t bytes) {
  void* piece = next_;
  next_ += bytes;
  return piece;
}

}  // namespace fusedopt
