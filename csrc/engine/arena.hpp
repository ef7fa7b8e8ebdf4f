// Memory for state arrays: zeroed blocks that live as long as anything refers to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace fusedopt {

class Arena {
 public:
  static constexpr std::size_t alignment = 64;

  static constexpr std::size_t padded(std::size_t bytes) {
    return (bytes + alignment - 1) / alignment * alignment;
  }

  // calloc rather than aligned_alloc and memset: the system hands out large blocks as untouched
  // zero pages, so each page is first touched by the thread that will work on it.
  explicit Arena(std::size_t bytes) : size_(bytes + alignment), block_(std::calloc(size_, 1)) {
    if (!block_) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(block_.get());
    next_ = static_cast<char*>(block_.get()) + (padded(address) - address);
  }

  // The whole block, alignment included.
  const void* data() const { return block_.get(); }
  std::size_t size() const { return size_; }

  // The next aligned piece; the caller asked the constructor for the sum of all padded sizes.
  void* take(std::size_t bytes) {
    void* piece = next_;
    next_ += padded(bytes);
    return piece;
  }

 private:
  struct Free {
    void operator()(void* block) const { std::free(block); }
  };
  std::size_t size_;
  std::unique_ptr<void, Free> block_;
  char* next_;
};

}  // namespace fusedopt
