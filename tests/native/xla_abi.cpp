// Contract: csrc/bindings/xla_ffi.hpp declares what jaxlib's own header does. It need only compile.
#include <cstddef>

#include "bindings/xla_ffi.hpp"
#include "xla/ffi/api/c_api.h"

namespace {

namespace ours = fusedopt::xla;

template <typename Ours, typename Theirs>
constexpr bool same_size = sizeof(Ours) == sizeof(Theirs);

#define SAME(Ours, own, Theirs, other)                                             \
  static_assert(offsetof(ours::Ours, own) == offsetof(Theirs, other) &&            \
                    same_size<decltype(ours::Ours::own), decltype(Theirs::other)>, \
                #Ours "::" #own)

SAME(Extension, struct_size, XLA_FFI_Extension_Base, struct_size);
SAME(Extension, type, XLA_FFI_Extension_Base, type);
SAME(Extension, next, XLA_FFI_Extension_Base, next);
static_assert(ours::metadata_extension == XLA_FFI_Extension_Metadata);

SAME(Version, struct_size, XLA_FFI_Api_Version, struct_size);
SAME(Version, extensions, XLA_FFI_Api_Version, extension_start);
SAME(Version, major, XLA_FFI_Api_Version, major_version);
SAME(Version, minor, XLA_FFI_Api_Version, minor_version);
static_assert(ours::major_version == XLA_FFI_API_MAJOR);

SAME(Metadata, struct_size, XLA_FFI_Metadata, struct_size);
SAME(Metadata, version, XLA_FFI_Metadata, api_version);
SAME(Metadata, traits, XLA_FFI_Metadata, traits);
#if XLA_FFI_API_MINOR >= 2
SAME(Metadata, state_type, XLA_FFI_Metadata, state_type_id);
#endif
SAME(MetadataExtension, base, XLA_FFI_Metadata_Extension, extension_base);
SAME(MetadataExtension, metadata, XLA_FFI_Metadata_Extension, metadata);

SAME(ErrorArguments, struct_size, XLA_FFI_Error_Create_Args, struct_size);
SAME(ErrorArguments, extensions, XLA_FFI_Error_Create_Args, extension_start);
SAME(ErrorArguments, message, XLA_FFI_Error_Create_Args, message);
SAME(ErrorArguments, code, XLA_FFI_Error_Create_Args, errc);
static_assert(ours::invalid_argument == XLA_FFI_Error_Code_INVALID_ARGUMENT);

SAME(Api, struct_size, XLA_FFI_Api, struct_size);
SAME(Api, version, XLA_FFI_Api, api_version);
SAME(Api, internal, XLA_FFI_Api, internal_api);
SAME(Api, make_error, XLA_FFI_Api, XLA_FFI_Error_Create);

static_assert(static_cast<int>(ours::DataType::s32) == XLA_FFI_DataType_S32);
static_assert(static_cast<int>(ours::DataType::s64) == XLA_FFI_DataType_S64);
static_assert(static_cast<int>(ours::DataType::f32) == XLA_FFI_DataType_F32);
static_assert(static_cast<int>(ours::DataType::f64) == XLA_FFI_DataType_F64);

SAME(Buffer, struct_size, XLA_FFI_Buffer, struct_size);
SAME(Buffer, extensions, XLA_FFI_Buffer, extension_start);
SAME(Buffer, dtype, XLA_FFI_Buffer, dtype);
SAME(Buffer, data, XLA_FFI_Buffer, data);
SAME(Buffer, rank, XLA_FFI_Buffer, rank);
SAME(Buffer, dims, XLA_FFI_Buffer, dims);

SAME(Buffers, size, XLA_FFI_Args, size);
SAME(Buffers, types, XLA_FFI_Args, types);
SAME(Buffers, items, XLA_FFI_Args, args);
SAME(Buffers, size, XLA_FFI_Rets, size);
SAME(Buffers, types, XLA_FFI_Rets, types);
SAME(Buffers, items, XLA_FFI_Rets, rets);

static_assert(static_cast<int>(ours::AttributeType::array) == XLA_FFI_AttrType_ARRAY);
static_assert(static_cast<int>(ours::AttributeType::string) == XLA_FFI_AttrType_STRING);
SAME(Text, begin, XLA_FFI_ByteSpan, ptr);
SAME(Text, size, XLA_FFI_ByteSpan, len);
SAME(Array, dtype, XLA_FFI_Array, dtype);
SAME(Array, size, XLA_FFI_Array, size);
SAME(Array, data, XLA_FFI_Array, data);
SAME(Attributes, size, XLA_FFI_Attrs, size);
SAME(Attributes, types, XLA_FFI_Attrs, types);
SAME(Attributes, names, XLA_FFI_Attrs, names);
SAME(Attributes, items, XLA_FFI_Attrs, attrs);

SAME(CallFrame, struct_size, XLA_FFI_CallFrame, struct_size);
SAME(CallFrame, extensions, XLA_FFI_CallFrame, extension_start);
SAME(CallFrame, api, XLA_FFI_CallFrame, api);
SAME(CallFrame, context, XLA_FFI_CallFrame, ctx);
SAME(CallFrame, stage, XLA_FFI_CallFrame, stage);
SAME(CallFrame, arguments, XLA_FFI_CallFrame, args);
SAME(CallFrame, results, XLA_FFI_CallFrame, rets);
SAME(CallFrame, attributes, XLA_FFI_CallFrame, attrs);

}  // namespace

int main() {}
