// XLA's foreign function interface, by which compiled programs call functions of others: the part
// of its ABI, versions 0.1 to 0.3, that is used here. jaxlib brings the whole of it as
// xla/ffi/api/c_api.h, with which tests/native/xla_abi.cpp compares this.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusedopt::xla {

constexpr int major_version = 0, oldest_minor_version = 1, newest_minor_version = 3;

// Every struct begins with its size, and with a list of extensions, which may be empty.
struct Extension {
  std::size_t struct_size;
  std::int32_t type;
  Extension* next;
};
constexpr std::int32_t metadata_extension = 1;  // a type

struct Version {
  std::size_t struct_size;
  Extension* extensions;
  int major, minor;
};

// What XLA asks for when a handler is registered; it is filled in.
struct Metadata {
  std::size_t struct_size;
  Version version;
  std::uint32_t traits;     // flags
  std::int64_t state_type;  // from version 0.2 on
};

struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

struct Error;  // XLA's own

constexpr std::int32_t invalid_argument = 3;  // a code

struct ErrorArguments {
  std::size_t struct_size;
  Extension* extensions;
  const char* message;  // copied
  std::int32_t code;
};

// There are more functions behind those here.
struct Api {
  std::size_t struct_size;
  Extension* extensions;
  Version version;
  const void* internal;
  Error* (*make_error)(ErrorArguments* arguments);
};

enum class DataType : std::int32_t { s32 = 4, s64 = 5, f32 = 11, f64 = 12 };  // there are more

// An array, whose rows lie after each other.
struct Buffer {
  std::size_t struct_size;
  Extension* extensions;
  DataType dtype;
  void* data;
  std::int64_t rank;
  std::int64_t* dims;
};

struct Buffers {
  std::size_t struct_size;
  Extension* extensions;
  std::int64_t size;
  std::int32_t* types;  // there are no others than buffers
  void** items;
};

enum class AttributeType : std::int32_t { array = 1, string = 4 };  // there are more

struct Text {
  const char* begin;
  std::size_t size;
};

struct Array {
  DataType dtype;
  std::size_t size;
  void* data;
};

struct Attributes {
  std::size_t struct_size;
  Extension* extensions;
  std::int64_t size;
  AttributeType* types;
  Text** names;
  void** items;
};

struct CallFrame {
  std::size_t struct_size;
  Extension* extensions;
  const Api* api;  // null where only metadata is asked for, before version 0.2
  void* context;
  std::int32_t stage;
  Buffers arguments;
  Buffers results;
  Attributes attributes;
};

// Returns null, or an error, which becomes XLA's.
using Handler = Error*(CallFrame* frame);

}  // namespace fusedopt::xla
