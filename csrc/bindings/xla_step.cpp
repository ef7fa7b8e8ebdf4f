#include "bindings/xla_step.hpp"

#include <algorithm>
#include <cstring>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "bindings/rules.hpp"
#include "engine/plan.hpp"

namespace fusedopt {
namespace {

using xla::DataType;

// What XLA asks of a handler that is registered. A version that is newer than what is known here is
// one that still takes this one.
void describe(const xla::Api* api, xla::Metadata& metadata) {
  metadata.version.major = xla::major_version;
  metadata.version.minor =
      api ? std::min(api->version.minor, xla::newest_minor_version) : xla::oldest_minor_version;
  metadata.traits = 0;
  // Its size doesn't say that it is there.
  if (api && api->version.minor >= 2) metadata.state_type = 0;  // none
}

xla::Metadata* asked_metadata(const xla::CallFrame& frame) {
  for (xla::Extension* e = frame.extensions; e; e = e->next) {
    if (e->type == xla::metadata_extension) {
      return reinterpret_cast<xla::MetadataExtension*>(e)->metadata;
    }
  }
  return nullptr;
}

xla::Error* error_of(const xla::Api* api, const char* message) {
  xla::ErrorArguments arguments{sizeof(xla::ErrorArguments), nullptr, message,
                                xla::invalid_argument};
  return api->make_error(&arguments);
}

class Attributes {
 public:
  explicit Attributes(const xla::Attributes& own) : own_(own) {}

  std::string_view text(std::string_view name) const {
    const auto* found = static_cast<const xla::Text*>(find(name, xla::AttributeType::string));
    return {found->begin, found->size};
  }
  std::span<const double> floats(std::string_view name) const {
    return array<double>(name, DataType::f64);
  }
  std::span<const std::int64_t> integers(std::string_view name) const {
    return array<std::int64_t>(name, DataType::s64);
  }

 private:
  const void* find(std::string_view name, xla::AttributeType type) const {
    for (std::int64_t k = 0; k < own_.size; ++k) {
      const xla::Text& other = *own_.names[k];
      if (name != std::string_view(other.begin, other.size)) continue;
      if (own_.types[k] == type) return own_.items[k];
    }
    throw std::invalid_argument(std::string(name) + ": expected this attribute");
  }
  template <typename T>
  std::span<const T> array(std::string_view name, DataType dtype) const {
    const auto* found = static_cast<const xla::Array*>(find(name, xla::AttributeType::array));
    if (found->dtype != dtype) {
      throw std::invalid_argument(std::string(name) + ": expected another dtype");
    }
    return {static_cast<const T*>(found->data), found->size};
  }

  const xla::Attributes& own_;
};

class Buffers {
 public:
  explicit Buffers(const xla::Buffers& own) : own_(own) {}

  std::size_t size() const { return static_cast<std::size_t>(own_.size); }
  const xla::Buffer& operator[](std::size_t i) const {
    return *static_cast<const xla::Buffer*>(own_.items[i]);
  }

 private:
  const xla::Buffers& own_;
};

std::int64_t elements_of(const xla::Buffer& buffer) {
  std::int64_t count = 1;
  for (std::int64_t k = 0; k < buffer.rank; ++k) count *= buffer.dims[k];
  return count;
}

DType dtype_of(const xla::Buffer& buffer) {
  switch (buffer.dtype) {
    case DataType::f32:
      return DType::float32;
    case DataType::f64:
      return DType::float64;
    default:
      throw std::invalid_argument("expected float32 or float64 arrays");
  }
}

void require_alike(const xla::Buffer& one, const xla::Buffer& other) {
  if (one.dtype != other.dtype || elements_of(one) != elements_of(other)) {
    throw std::invalid_argument("expected gradients and state like the parameters");
  }
}

double number_in(const xla::Buffer& buffer) {
  if (elements_of(buffer) != 1) throw std::invalid_argument("computed: expected one number each");
  return dtype_of(buffer) == DType::float32 ? static_cast<double>(*static_cast<float*>(buffer.data))
                                            : *static_cast<double*>(buffer.data);
}

// The first line of a text, which is cut off it.
std::string_view next_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(text.size(), line.size() + 1));
  return line;
}

// The numbers that the program computes: each one's place among the rule's, what it may be, and a
// line that says so.
struct Computed {
  explicit Computed(const Attributes& attributes)
      : places(attributes.integers("computed")),
        low(attributes.floats("low")),
        high(attributes.floats("high")),
        expected(attributes.text("expected")) {
    if (low.size() != places.size() || high.size() != places.size()) {
      throw std::invalid_argument("computed: expected bounds for each number");
    }
  }

  std::span<const std::int64_t> places;
  std::span<const double> low, high;
  std::string_view expected;
};

// Puts those numbers, which are arguments from the second on, in their places.
void take(const Computed& computed, const Buffers& arguments, std::int64_t step,
          ConfiguredRule& rule) {
  std::string_view expected = computed.expected;
  for (std::size_t k = 0; k < computed.places.size(); ++k) {
    const std::string_view line = next_line(expected);
    const double value = number_in(arguments[1 + k]);
    if (!(computed.low[k] <= value && value <= computed.high[k])) {  // nor is a NaN
      std::ostringstream text;
      text << line << ", got " << value << ", from its schedule after " << step - 1 << " steps";
      throw std::invalid_argument(text.str());
    }
    rule.hyperparameters.at(static_cast<std::size_t>(computed.places[k])) = value;
  }
}

std::int64_t step_in(const xla::Buffer& buffer) {
  if (buffer.dtype != DataType::s32 || elements_of(buffer) != 1) {
    throw std::invalid_argument("step: expected an int32");
  }
  const std::int64_t step = *static_cast<const std::int32_t*>(buffer.data);
  if (step < 1) throw std::invalid_argument("state['step']: expected 0 or more");
  return step;
}

void require_finite(const ConfiguredRule& rule, DType dtype) {
  const int k = rule.infinite_in(dtype);
  if (k < 0) return;
  throw std::invalid_argument(std::string(rule.info->hyperparameters.items[k]) +
                              ": expected a number that is finite in float32, as parameters are");
}

ConfiguredRule rule_of(const Attributes& attributes) {
  ConfiguredRule rule;
  rule.info = &find_rule(attributes.text("rule"));
  const auto numbers = attributes.floats("hyperparameters");
  if (static_cast<int>(numbers.size()) != rule.info->hyperparameters.count) {
    throw std::invalid_argument("hyperparameters: expected those of the rule");
  }
  std::ranges::copy(numbers, rule.hyperparameters.begin());
  return rule;
}

// The memory of a result, with what its argument has in it.
void* updated(const xla::Buffer& argument, const xla::Buffer& result, std::int64_t bytes) {
  if (result.data != argument.data) {
    std::memcpy(result.data, argument.data, static_cast<std::size_t>(bytes));
  }
  return result.data;
}

void take_step(const xla::CallFrame& frame) {
  const Attributes attributes(frame.attributes);
  const Buffers arguments(frame.arguments), results(frame.results);
  ConfiguredRule rule = rule_of(attributes);
  const Computed computed(attributes);
  const std::size_t first = 1 + computed.places.size();
  const auto states = static_cast<std::size_t>(rule.info->states.count);
  const std::size_t params = results.size() / (1 + states);
  if (results.size() != params * (1 + states) ||
      arguments.size() != first + params * (2 + states)) {
    throw std::invalid_argument("expected the arrays of the rule");
  }
  const std::int64_t step = step_in(arguments[0]);
  take(computed, arguments, step, rule);

  // Everything is looked at before anything is written.
  for (std::size_t i = 0; i < params; ++i) {
    const xla::Buffer& param = arguments[first + i];
    require_finite(rule, dtype_of(param));
    for (std::size_t k = 1; k < 2 + states; ++k) {
      require_alike(param, arguments[first + k * params + i]);
    }
    for (std::size_t k = 0; k <= states; ++k) require_alike(param, results[k * params + i]);
  }

  // One for all calls of a thread: memory is there.
  thread_local Plan plan;
  plan.clear();
  const auto coefficients =
      plan.add_coefficients(*rule.info, rule.hyperparameters.data(), step, step == 1);
  for (std::size_t i = 0; i < params; ++i) {
    const xla::Buffer& param = arguments[first + i];
    const DType dtype = dtype_of(param);
    const std::int64_t size = elements_of(param);
    const Kernel& kernel = rule.kernel(dtype);
    const std::int64_t bytes = size * kernel.item_size;
    Piece& piece = plan.add(kernel, coefficients[static_cast<std::size_t>(dtype)], size);
    piece.streams[0] = updated(param, results[i], bytes);
    piece.streams[1] = arguments[first + (1 + states) * params + i].data;
    for (std::size_t k = 0; k < states; ++k) {
      const std::size_t place = (1 + k) * params + i;
      piece.streams[2 + k] = updated(arguments[first + place], results[place], bytes);
    }
  }
  plan.fold();
  plan.run(&Kernel::update);
}

}  // namespace

xla::Error* xla_step(xla::CallFrame* frame) noexcept {
  if (xla::Metadata* metadata = asked_metadata(*frame)) {
    describe(frame->api, *metadata);
    return nullptr;
  }
  try {
    take_step(*frame);
  } catch (const std::exception& error) {
    return error_of(frame->api, error.what());
  }
  return nullptr;
}

}  // namespace fusedopt
