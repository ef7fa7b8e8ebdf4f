// Memory for state arrays: zeroed blocks that live as long as anything refers to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fusedopt {

class Arena {
 public:
  // Of untouched zero pages where the block is large: each page is first touched by the thread that
  // will work on it. Throws std::bad_alloc.
  explicit Arena(std::size_t bytes);
  // Of a block that is someone else's, who frees it; where pieces are taken from it, zeroed and
  // aligned to a cache line.
  Arena(std::shared_ptr<char> block, std::size_t bytes);

  // The whole block.
  const void* data() const { return block_.get(); }
  char* begin() { return block_.get(); }
  bool is_someone_elses() const { return is_someone_elses_; }
  std::size_t size() const { return size_; }

  // The next piece, on a cache line of its own where it is small. A large one begins where `beside`
  // does within a cache line, so that one loop can be aligned in both, and `stream` quarters of a
  // page further within a page: the processor takes a load for one of data just stored elsewhere
  // where the lower 12 bits of the addresses agree.
  void* take(std::size_t bytes, const void* beside, int stream);
  // The next piece, right behind the last one.
  void* take_next(std::size_t bytes);

  // At most what a piece takes up.
  static std::size_t room(std::size_t bytes) { return bytes + stride(bytes); }

 private:
  static std::size_t stride(std::size_t bytes);

  static std::shared_ptr<char> allocate(std::size_t bytes);

  Arena(std::shared_ptr<char> block, std::size_t bytes, bool is_someone_elses);

  std::size_t size_;
  std::shared_ptr<char> block_;
  char* next_;
  bool is_someone_elses_;
};

}  // namespace fusedopt
