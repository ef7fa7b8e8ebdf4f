// DLPack, by which libraries show each other their arrays: the part of version 1.3's ABI that is
// read here, as published at https://dmlc.github.io/dlpack/latest/c_api.html.
#pragma once

#include <cstdint>

namespace fusedopt::dlpack {

constexpr std::uint32_t major_version = 1;
constexpr std::int32_t cpu = 1;                   // a device's type
constexpr std::uint8_t floating = 2, bfloat = 4;  // a dtype's code
constexpr std::uint64_t read_only = 1;            // a flag

struct Version {
  std::uint32_t major, minor;
};

struct Device {
  std::int32_t type, number;
};

struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};

// An array that somebody else owns.
struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: rows after each other
  std::uint64_t byte_offset;
};

// One that whoever has this owns, too, until deleter(this).
struct ManagedTensor {
  Version version;
  void* context;
  void (*deleter)(ManagedTensor* self);
  std::uint64_t flags;
  Tensor tensor;
};

// What a type has as __dlpack_c_exchange_api__, in a capsule of this name. Functions return 0, or
// -1 with a Python exception. There are more of them behind those here.
constexpr const char* exchange_api_name = "dlpack_exchange_api";

struct ExchangeApi {
  Version version;
  const ExchangeApi* older;
  int (*allocate)(Tensor* like, ManagedTensor** out, void* context,
                  void (*set_error)(void* context, const char* kind, const char* message));
  int (*own)(void* object, ManagedTensor** out);
  int (*make)(ManagedTensor* tensor, void** out);
  int (*look)(void* object, Tensor* out);
};

}  // namespace fusedopt::dlpack
