// libtorch through one door: operators are looked up in the dispatcher by name and called boxed, with
// arguments converted by the operator's own schema. Tensors are numbers in JavaScript: generation * 2^24 + slot.
#include <algorithm>
#include <climits>
#include <cmath>
#include <cstring>
#include <deque>
#include <memory>
#include <sstream>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <node_api.h>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/PhiloxRNGEngine.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/version.h>

#include "allocator.h"
#include "winograd.h"

namespace {

constexpr int kSlotBits = 24;
constexpr uint32_t kMaxSlots = 1u << kSlotBits;       // live tensors at most
constexpr uint32_t kMaxGeneration = 1u << 28;         // handles stay below 2^52, exact in a JavaScript number
constexpr int64_t kMaxExactInt = 9007199254740991;    // 2^53 - 1
constexpr size_t kFewArguments = 8, kMaxArguments = 40;

struct Slot {
  at::Tensor tensor;
  uint32_t generation = 1;
  bool live = false;
  bool kept = false;      // survives scopes until freed
  bool escaping = false;  // returned by the scope that is being closed
};

enum class Kind { Tensor, TensorList, OptionalTensorList, Int, IntList, Float, FloatList, Bool, BoolList, Scalar, ScalarList, String, DType, Layout, MemoryFormat, Device, Generator, Unsupported };
constexpr std::string_view kKindNames[] = {"Tensor", "Tensor[]", "Tensor?[]", "int", "int[]", "float", "float[]", "bool", "bool[]", "Scalar", "Scalar[]", "str", "ScalarType", "Layout", "MemoryFormat", "Device", "Generator", "unsupported"};

struct ArgumentSpec {
  std::string name;
  Kind kind;
  bool optional;
  bool written;  // Tensor(a!): the operator writes into it and may return it
  std::optional<c10::IValue> defaultValue;
};

struct CompiledOperator {
  std::string name;
  c10::OperatorHandle handle;
  std::vector<ArgumentSpec> arguments;
  std::vector<Kind> results;
  bool writes = false;  // some tensor argument is written
};

// Everything one JavaScript environment owns; a second environment (worker) has its own.
struct Environment {
  std::vector<Slot> slots;
  std::vector<uint32_t> freeSlots;
  std::vector<std::pair<uint32_t, uint32_t>> created;  // (slot, generation) in order of creation inside scopes
  std::vector<size_t> scopeMarks;
  std::deque<CompiledOperator> operators;  // references stay valid while it grows
  c10::Stack stack;                        // lent to the running call
  std::unordered_map<std::string, uint32_t> operatorIndex;
  size_t live = 0;
};

struct JsError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check(napi_status status, const char* what) {
  if (status != napi_ok) throw JsError(what);
}

// ---- handles -------------------------------------------------------------------------------------------------

double addTensor(Environment& e, at::Tensor tensor) {
  uint32_t slot;
  if (!e.freeSlots.empty()) {
    slot = e.freeSlots.back();
    e.freeSlots.pop_back();
  } else {
    if (e.slots.size() >= kMaxSlots) throw JsError("16,777,216 tensors are alive — free some, or work inside scope()");
    slot = static_cast<uint32_t>(e.slots.size());
    e.slots.emplace_back();
  }
  Slot& s = e.slots[slot];
  s.tensor = std::move(tensor);
  s.live = true;
  s.kept = s.escaping = false;
  e.live++;
  if (!e.scopeMarks.empty()) e.created.emplace_back(slot, s.generation);
  return static_cast<double>((static_cast<int64_t>(s.generation) << kSlotBits) | slot);
}

void freeSlot(Environment& e, uint32_t slot) {
  Slot& s = e.slots[slot];
  at::Tensor dying = std::move(s.tensor);  // its destructor runs after the slot is consistent again
  s.tensor = at::Tensor();
  s.live = false;
  s.generation++;
  e.live--;
  if (s.generation < kMaxGeneration) e.freeSlots.push_back(slot);  // a worn-out slot is retired, never reused
}

Slot* findSlot(Environment& e, double handle) {
  if (!(handle >= kMaxSlots && handle <= static_cast<double>(kMaxExactInt))) return nullptr;
  const auto number = static_cast<int64_t>(handle);
  const auto slot = static_cast<size_t>(number & (kMaxSlots - 1));
  if (static_cast<double>(number) != handle || slot >= e.slots.size()) return nullptr;
  Slot& s = e.slots[slot];
  return s.live && s.generation == number >> kSlotBits ? &s : nullptr;
}

// ---- JavaScript values ---------------------------------------------------------------------------------------

bool isNullish(napi_env env, napi_value value) {
  napi_valuetype type;
  check(napi_typeof(env, value, &type), "typeof failed");
  return type == napi_undefined || type == napi_null;
}

double numberOf(napi_env env, napi_value value, const char* what) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) throw JsError(std::string("expected a number for ") + what);
  return number;
}

int64_t intOf(napi_env env, napi_value value, const char* what) {
  double number;
  if (napi_get_value_double(env, value, &number) == napi_ok) {
    if (!(number == std::trunc(number)) || std::fabs(number) > kMaxExactInt) {
      std::ostringstream text;
      text << "expected an integer for " << what << ", got " << number << " — fractions, NaN and numbers beyond 2^53 are refused (use BigInt beyond)";
      throw JsError(text.str());
    }
    return static_cast<int64_t>(number);
  }
  int64_t big;
  bool lossless = false;
  if (napi_get_value_bigint_int64(env, value, &big, &lossless) == napi_ok) {
    if (!lossless) throw JsError(std::string("the BigInt for ") + what + " does not fit into 64 bits");
    return big;
  }
  throw JsError(std::string("expected an integer for ") + what);
}

int64_t choiceOf(napi_env env, napi_value value, const char* what, int64_t count) {
  const int64_t choice = intOf(env, value, what);
  if (choice < 0 || choice >= count) throw JsError(std::string(what) + " must be from 0 to " + std::to_string(count - 1) + ", got " + std::to_string(choice));
  return choice;
}

bool boolOf(napi_env env, napi_value value, const char* what) {
  bool result;
  if (napi_get_value_bool(env, value, &result) != napi_ok) throw JsError(std::string("expected true or false for ") + what);
  return result;
}

std::string stringOf(napi_env env, napi_value value, const char* what) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) throw JsError(std::string("expected a string for ") + what);
  std::string text(length, '\0');
  check(napi_get_value_string_utf8(env, value, text.data(), length + 1, &length), "string copy failed");
  return text;
}

const at::Tensor& tensorOf(napi_env env, Environment& e, napi_value value, const char* what) {
  double handle;
  if (napi_get_value_double(env, value, &handle) != napi_ok) throw JsError(std::string("expected a Tensor for ") + what);
  Slot* slot = findSlot(e, handle);
  if (slot == nullptr) throw JsError(std::string("the tensor given for ") + what + " was freed, or is no tensor — it may have been made inside a scope() that has ended; return it from the scope or keep() it");
  return slot->tensor;
}

bool isArray(napi_env env, napi_value value) {
  bool result = false;
  return napi_is_array(env, value, &result) == napi_ok && result;
}

template <typename F>
void forEach(napi_env env, napi_value array, const char* what, F&& visit) {
  if (!isArray(env, array)) throw JsError(std::string("expected an array for ") + what);
  uint32_t length;
  check(napi_get_array_length(env, array, &length), "array length failed");
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    check(napi_get_element(env, array, i, &element), "array element failed");
    visit(element);
  }
}

template <typename T, typename F>
c10::List<T> listOf(napi_env env, napi_value array, const char* what, F&& one) {
  c10::List<T> list;
  forEach(env, array, what, [&](napi_value element) { list.push_back(one(element)); });
  return list;
}

c10::List<int64_t> intsOf(napi_env env, napi_value value, const char* what) {
  if (!isArray(env, value)) return {intOf(env, value, what)};  // int[1] accepts a single integer, as in Python
  return listOf<int64_t>(env, value, what, [&](napi_value element) { return intOf(env, element, what); });
}

std::vector<at::Tensor> tensorsOf(napi_env env, Environment& e, napi_value value, const char* what) {
  return listOf<at::Tensor>(env, value, what, [&](napi_value element) { return tensorOf(env, e, element, what); }).vec();
}

napi_value toJs(napi_env env, double number) {
  napi_value value;
  check(napi_create_double(env, number, &value), "create number failed");
  return value;
}

napi_value toJs(napi_env env, const std::string& text) {
  napi_value value;
  check(napi_create_string_utf8(env, text.data(), text.size(), &value), "create string failed");
  return value;
}

napi_value toJs(napi_env env, bool flag) {
  napi_value value;
  check(napi_get_boolean(env, flag, &value), "create boolean failed");
  return value;
}

napi_value undefined(napi_env env) {
  napi_value value;
  napi_get_undefined(env, &value);
  return value;
}

napi_value intToJs(napi_env env, int64_t number) {
  napi_value value;
  if (number >= -kMaxExactInt && number <= kMaxExactInt) return toJs(env, static_cast<double>(number));
  check(napi_create_bigint_int64(env, number, &value), "create BigInt failed");
  return value;
}

// an array of make(0), make(1), ...
template <typename F>
napi_value arrayToJs(napi_env env, size_t length, F&& make) {
  napi_value array;
  check(napi_create_array_with_length(env, length, &array), "create array failed");
  for (size_t i = 0; i < length; i++) check(napi_set_element(env, array, static_cast<uint32_t>(i), make(i)), "set element failed");
  return array;
}

// ---- operators -----------------------------------------------------------------------------------------------

// The kind by the type's name in the schema: "SymInt[]?" is a list of integers, and optional.
std::pair<Kind, bool> kindOf(const c10::Argument& argument) {
  std::string name = argument.real_type()->str();
  const bool optional = name.ends_with('?');
  if (optional) name.pop_back();
  if (name.starts_with("SymInt")) name.replace(0, 6, "int");
  const auto found = std::find(std::begin(kKindNames), std::end(kKindNames), name);
  return {found == std::end(kKindNames) ? Kind::Unsupported : static_cast<Kind>(found - std::begin(kKindNames)), optional};
}

CompiledOperator compile(const std::string& name, const c10::OperatorHandle& handle) {
  CompiledOperator op{name, handle, {}, {}};
  for (const auto& argument : handle.schema().arguments()) {
    const auto [kind, optional] = kindOf(argument);
    const bool written = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
    op.arguments.push_back({argument.name(), kind, optional, written, argument.default_value()});
    op.writes |= written && kind == Kind::Tensor;
  }
  for (const auto& result : handle.schema().returns()) op.results.push_back(kindOf(result).first);
  return op;
}

std::string nameOf(Kind kind) { return std::string(kKindNames[static_cast<int>(kind)]); }

bool isIntegral(const at::Tensor& t) { return t.defined() && at::isIntegralType(t.scalar_type(), /*includeBool=*/true); }

// JavaScript cannot tell 1 from 1.0: a scalar is an integer only if the first tensor operand is integral.
c10::IValue scalarOf(napi_env env, napi_value value, const c10::Stack& stack, const char* what) {
  double number;
  bool flag;
  if (napi_get_value_double(env, value, &number) != napi_ok) {
    if (napi_get_value_bool(env, value, &flag) == napi_ok) return flag;
    return intOf(env, value, what);  // BigInt
  }
  if (number != std::trunc(number) || std::fabs(number) > kMaxExactInt) return number;
  for (const c10::IValue& operand : stack) {
    if (operand.isTensor()) return isIntegral(operand.toTensor()) ? c10::IValue(static_cast<int64_t>(number)) : c10::IValue(number);
    if (!operand.isTensorList()) continue;
    const auto list = operand.toTensorList();
    return !list.empty() && isIntegral(list.get(0)) ? c10::IValue(static_cast<int64_t>(number)) : c10::IValue(number);
  }
  return number;
}

c10::IValue defaultOf(const ArgumentSpec& spec) {
  if (spec.defaultValue) return *spec.defaultValue;
  if (spec.optional) return c10::IValue();
  throw JsError("missing argument '" + spec.name + "' (" + nameOf(spec.kind) + ")");
}

// `stack` holds the arguments before this one
c10::IValue convert(napi_env env, Environment& e, const ArgumentSpec& spec, napi_value value, const c10::Stack& stack) {
  double handle;  // by far the most frequent case first
  if (spec.kind == Kind::Tensor && napi_get_value_double(env, value, &handle) == napi_ok) {
    if (const Slot* slot = findSlot(e, handle)) return slot->tensor;
  }
  const char* what = spec.name.c_str();
  if (isNullish(env, value)) return defaultOf(spec);
  switch (spec.kind) {
    case Kind::Tensor: return tensorOf(env, e, value, what);
    case Kind::TensorList: return listOf<at::Tensor>(env, value, what, [&](napi_value element) { return tensorOf(env, e, element, what); });
    case Kind::OptionalTensorList:
      return listOf<std::optional<at::Tensor>>(env, value, what, [&](napi_value element) { return isNullish(env, element) ? std::nullopt : std::optional(tensorOf(env, e, element, what)); });
    case Kind::Int: return intOf(env, value, what);
    case Kind::IntList: return intsOf(env, value, what);
    case Kind::Float: return numberOf(env, value, what);
    case Kind::FloatList: return listOf<double>(env, value, what, [&](napi_value element) { return numberOf(env, element, what); });
    case Kind::Bool: return boolOf(env, value, what);
    case Kind::BoolList: return listOf<bool>(env, value, what, [&](napi_value element) { return boolOf(env, element, what); });
    case Kind::Scalar: return scalarOf(env, value, stack, what);
    case Kind::ScalarList: return listOf<at::Scalar>(env, value, what, [&](napi_value element) { return scalarOf(env, element, stack, what).toScalar(); });
    case Kind::String: return stringOf(env, value, what);
    case Kind::DType: return choiceOf(env, value, what, static_cast<int64_t>(c10::ScalarType::NumOptions));
    case Kind::MemoryFormat: return choiceOf(env, value, what, 4);  // contiguous, preserve, channels last, channels last 3d
    case Kind::Layout: return choiceOf(env, value, what, 1);        // strided
    case Kind::Device: return c10::Device(stringOf(env, value, what));
    default: throw JsError("argument '" + spec.name + "' has a kind that this binding does not pass (" + nameOf(spec.kind) + ") — leave it out");
  }
}

napi_value tensorToJs(napi_env env, Environment& e, at::Tensor tensor) {
  return tensor.defined() ? toJs(env, addTensor(e, std::move(tensor))) : undefined(env);
}

napi_value resultToJs(napi_env env, Environment& e, c10::IValue&& value) {
  if (value.isTensor()) return tensorToJs(env, e, std::move(value).toTensor());
  if (value.isInt()) return intToJs(env, value.toInt());
  if (value.isDouble()) return toJs(env, value.toDouble());
  if (value.isBool()) return toJs(env, value.toBool());
  if (value.isString()) return toJs(env, value.toStringRef());
  if (value.isNone()) return undefined(env);
  if (value.isTensorList()) {
    const auto tensors = value.toTensorVector();
    return arrayToJs(env, tensors.size(), [&](size_t i) { return tensorToJs(env, e, tensors[i]); });
  }
  if (value.isIntList()) {
    const auto numbers = value.toIntVector();
    return arrayToJs(env, numbers.size(), [&](size_t i) { return intToJs(env, numbers[i]); });
  }
  throw JsError("the result is of a kind that this binding does not pass (" + value.tagKind() + ")");
}

// The environment's stack for the length of one call. A call that begins while another converts its arguments (a getter
// in an array) finds an empty one and makes its own; whichever ends puts its memory back, cleared.
struct BorrowedStack {
  Environment& owner;
  c10::Stack stack = std::exchange(owner.stack, {});
  ~BorrowedStack() {
    stack.clear();
    owner.stack = std::move(stack);
  }
};

bool recorded(const c10::Stack& stack) {
  if (!c10::GradMode::is_enabled()) return false;
  const auto wanted = [](const c10::IValue& value) { return value.isTensor() && value.unsafeToTensorImpl()->requires_grad(); };  // counts no reference
  for (const c10::IValue& value : stack) {
    if (wanted(value)) return true;
    if (!value.isList()) continue;
    for (const c10::IValue& element : value.toListRef()) {
      if (!element.isTensor() && !element.isNone()) break;
      if (wanted(element)) return true;
    }
  }
  return false;
}

napi_value invoke(napi_env env, Environment& e, const CompiledOperator& op, size_t count, napi_value* values) {
  if (count > op.arguments.size()) throw JsError("got " + std::to_string(count) + " arguments, takes at most " + std::to_string(op.arguments.size()));
  BorrowedStack borrowed{e};
  c10::Stack& stack = borrowed.stack;
  std::vector<std::pair<const c10::TensorImpl*, napi_value>> written;
  for (size_t i = 0; i < op.arguments.size(); i++) {
    const ArgumentSpec& spec = op.arguments[i];
    stack.push_back(i < count ? convert(env, e, spec, values[i], stack) : defaultOf(spec));
    if (spec.written && stack.back().isTensor()) written.emplace_back(stack.back().unsafeToTensorImpl(), values[i]);
  }
  {
    // What is not recorded need not pass through autograd; views and version counters are kept by a layer of their own.
    std::optional<c10::impl::ExcludeDispatchKeyGuard> past;
    if (!recorded(stack)) past.emplace(c10::autograd_dispatch_keyset);
    op.handle.callBoxed(stack);
  }
  // A result that is a written argument is that argument's handle: `a.add_(b)` is `a`.
  const auto one = [&](c10::IValue& result) {
    for (const auto& [impl, handle] : written) {
      if (result.isTensor() && result.unsafeToTensorImpl() == impl) return handle;
    }
    return resultToJs(env, e, std::move(result));
  };
  if (stack.empty()) return undefined(env);
  if (stack.size() == 1) return one(stack[0]);
  return arrayToJs(env, stack.size(), [&](size_t i) { return one(stack[i]); });
}

// ---- the funnel: no C++ exception leaves a callback ------------------------------------------------------------

// " [operands: Float[2, 3], Long[4]]"
std::string operands(napi_env env, Environment& e, size_t count, napi_value* values) {
  std::ostringstream text;
  for (size_t i = 0; i < count; i++) {
    double handle;
    const Slot* slot = napi_get_value_double(env, values[i], &handle) == napi_ok ? findSlot(e, handle) : nullptr;
    if (slot != nullptr) text << (text.tellp() == 0 ? " [operands: " : ", ") << slot->tensor.scalar_type() << slot->tensor.sizes();
  }
  return text.tellp() == 0 ? "" : text.str() + "]";
}

std::string currentError() {
  try {
    throw;
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "unknown C++ exception";
  }
}

using Body = napi_value (*)(napi_env, Environment&, size_t, napi_value*);

template <Body body, size_t minimum>
napi_value funnel(napi_env env, napi_callback_info info) {
  napi_value values[kMaxArguments];
  size_t count = kFewArguments, capacity = kMaxArguments;
  void* data = nullptr;
  // napi fills every place that it is given: ask for all only if there are more than a few
  if (napi_get_cb_info(env, info, &count, values, nullptr, &data) != napi_ok) return nullptr;
  if (count > kFewArguments && napi_get_cb_info(env, info, &capacity, values, nullptr, nullptr) != napi_ok) return nullptr;
  try {
    if (count < minimum || count > kMaxArguments) throw JsError("internal: too few or too many arguments");
    return body(env, *static_cast<Environment*>(data), count, values);
  } catch (...) {
    napi_throw_error(env, "ERR_TORCH", currentError().c_str());
    return nullptr;
  }
}

napi_value Resolve(napi_env env, Environment& e, size_t, napi_value* values) {
  const std::string given = stringOf(env, values[0], "name"), overload = stringOf(env, values[1], "overload");
  const std::string name = given.starts_with("rldf::") ? given : "aten::" + given;
  const std::string full = overload.empty() ? name : name + "." + overload;
  const auto found = e.operatorIndex.find(full);
  if (found != e.operatorIndex.end()) return toJs(env, static_cast<double>(found->second));
  const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!handle) throw JsError("libtorch " TORCH_VERSION " has no operator " + full);
  const auto index = static_cast<uint32_t>(e.operators.size());
  e.operators.push_back(compile(full, *handle));
  e.operatorIndex.emplace(full, index);
  return toJs(env, static_cast<double>(index));
}

const CompiledOperator& operatorOf(napi_env env, Environment& e, napi_value value) {
  const double number = numberOf(env, value, "operator");
  if (!(number >= 0 && number < static_cast<double>(e.operators.size()))) throw JsError("unknown operator number");
  return e.operators[static_cast<size_t>(number)];
}

napi_value Call(napi_env env, Environment& e, size_t count, napi_value* values) {
  const CompiledOperator& op = operatorOf(env, e, values[0]);
  try {
    return invoke(env, e, op, count - 1, values + 1);
  } catch (...) {
    throw JsError(op.name + ": " + currentError() + operands(env, e, count - 1, values + 1));
  }
}

napi_value Schema(napi_env env, Environment& e, size_t, napi_value* values) {
  const auto& arguments = operatorOf(env, e, values[0]).arguments;
  return arrayToJs(env, arguments.size(), [&](size_t i) {
    const ArgumentSpec& a = arguments[i];
    return toJs(env, nameOf(a.kind) + (a.optional ? "?" : "") + " " + a.name + (a.defaultValue ? "=" : "") + (a.written ? "!" : ""));
  });
}

napi_value Results(napi_env env, Environment& e, size_t, napi_value* values) {
  const auto& results = operatorOf(env, e, values[0]).results;
  return arrayToJs(env, results.size(), [&](size_t i) { return toJs(env, nameOf(results[i])); });
}

napi_value ListOperators(napi_env env, Environment&, size_t, napi_value*) {
  std::vector<std::string> names;
  for (const auto& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (name.name.rfind("aten::", 0) == 0) names.push_back(name.overload_name.empty() ? name.name : name.name + "." + name.overload_name);
  }
  return arrayToJs(env, names.size(), [&](size_t i) { return toJs(env, names[i]); });
}

// ---- tensors: what no boxed operator does ------------------------------------------------------------------------

napi_value Shape(napi_env env, Environment& e, size_t, napi_value* values) {
  const auto sizes = tensorOf(env, e, values[0], "shape").sizes();
  return arrayToJs(env, sizes.size(), [&](size_t i) { return toJs(env, static_cast<double>(sizes[i])); });
}

napi_value DType(napi_env env, Environment& e, size_t, napi_value* values) {
  return toJs(env, static_cast<double>(static_cast<int>(tensorOf(env, e, values[0], "dtype").scalar_type())));
}

napi_value DeviceOf(napi_env env, Environment& e, size_t, napi_value* values) {
  return toJs(env, tensorOf(env, e, values[0], "device").device().str());
}

napi_value RequiresGrad(napi_env env, Environment& e, size_t count, napi_value* values) {
  const at::Tensor& tensor = tensorOf(env, e, values[0], "requiresGrad");
  if (count > 1 && !isNullish(env, values[1])) tensor.set_requires_grad(boolOf(env, values[1], "requiresGrad"));
  return toJs(env, tensor.requires_grad());
}

napi_value IsLive(napi_env env, Environment& e, size_t, napi_value* values) {
  return toJs(env, findSlot(e, numberOf(env, values[0], "handle")) != nullptr);
}

struct Bytes {
  void* data;
  size_t length;
};

Bytes bytesOf(napi_env env, napi_value value) {
  constexpr size_t kWidths[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};  // by napi_typedarray_type
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok) throw JsError("expected a typed array");
  return {data, length * kWidths[type]};
}

// (bytes, dtype, shape) -> a tensor with memory of its own
napi_value FromBytes(napi_env env, Environment& e, size_t, napi_value* values) {
  const Bytes bytes = bytesOf(env, values[0]);
  const auto dtype = static_cast<c10::ScalarType>(choiceOf(env, values[1], "dtype", static_cast<int64_t>(c10::ScalarType::NumOptions)));
  const auto shape = intsOf(env, values[2], "shape").vec();
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(dtype));
  if (tensor.nbytes() != bytes.length) throw JsError("a tensor of " + std::to_string(tensor.nbytes()) + " bytes cannot be made from " + std::to_string(bytes.length) + " bytes — dtype, shape and data must agree");
  if (bytes.length > 0) std::memcpy(tensor.data_ptr(), bytes.data, bytes.length);
  return toJs(env, addTensor(e, std::move(tensor)));
}

// a contiguous CPU tensor's bytes, copied into a new ArrayBuffer
napi_value ToBytes(napi_env env, Environment& e, size_t, napi_value* values) {
  const at::Tensor& source = tensorOf(env, e, values[0], "data");
  if (source.layout() != at::kStrided) throw JsError("only a dense tensor has bytes");
  const at::Tensor tensor = source.detach().cpu().contiguous();
  void* data;
  napi_value buffer;
  check(napi_create_arraybuffer(env, tensor.nbytes(), &data, &buffer), "not enough memory for the copy");
  if (tensor.nbytes() > 0) std::memcpy(data, tensor.const_data_ptr(), tensor.nbytes());
  return buffer;
}

napi_value Item(napi_env env, Environment& e, size_t, napi_value* values) {
  const at::Scalar scalar = tensorOf(env, e, values[0], "item").item();
  if (scalar.isIntegral(false)) return intToJs(env, scalar.toLong());
  return toJs(env, scalar.isBoolean() ? static_cast<double>(scalar.toBool()) : scalar.toDouble());
}

// ---- scopes --------------------------------------------------------------------------------------------------

napi_value Free(napi_env env, Environment& e, size_t, napi_value* values) {
  Slot* slot = findSlot(e, numberOf(env, values[0], "handle"));
  if (slot != nullptr) freeSlot(e, static_cast<uint32_t>(slot - e.slots.data()));
  return toJs(env, slot != nullptr);
}

napi_value Keep(napi_env env, Environment& e, size_t, napi_value* values) {
  tensorOf(env, e, values[0], "keep");  // refuses a freed one
  findSlot(e, numberOf(env, values[0], "keep"))->kept = true;
  return undefined(env);
}

napi_value ScopeBegin(napi_env env, Environment& e, size_t, napi_value*) {
  e.scopeMarks.push_back(e.created.size());
  return toJs(env, static_cast<double>(e.scopeMarks.size()));
}

// (survivors) closes the innermost scope: frees what it made, hands the survivors to the scope around it
napi_value ScopeEnd(napi_env env, Environment& e, size_t, napi_value* values) {
  if (e.scopeMarks.empty()) throw JsError("internal: no scope is open");
  std::vector<Slot*> survivors;
  forEach(env, values[0], "survivors", [&](napi_value element) {
    if (Slot* slot = findSlot(e, numberOf(env, element, "survivor"))) survivors.push_back(slot);
  });
  for (Slot* slot : survivors) slot->escaping = true;
  const size_t mark = e.scopeMarks.back();
  e.scopeMarks.pop_back();
  std::vector<std::pair<uint32_t, uint32_t>> handedOn;
  for (; e.created.size() > mark; e.created.pop_back()) {  // the youngest first: its memory is at hand for the next
    const auto [slot, generation] = e.created.back();
    const Slot& s = e.slots[slot];
    if (!s.live || s.generation != generation || s.kept) continue;
    if (!s.escaping) freeSlot(e, slot);
    else if (!e.scopeMarks.empty()) handedOn.emplace_back(slot, generation);
  }
  e.created.insert(e.created.end(), handedOn.rbegin(), handedOn.rend());
  for (Slot* slot : survivors) slot->escaping = false;
  return undefined(env);
}

napi_value LiveTensors(napi_env env, Environment& e, size_t, napi_value*) { return toJs(env, static_cast<double>(e.live)); }

napi_value LiveBytes(napi_env env, Environment& e, size_t, napi_value*) {
  std::unordered_set<const void*> seen;
  double total = 0;
  for (const Slot& s : e.slots) {
    if (!s.live || !s.tensor.has_storage()) continue;
    const auto& storage = s.tensor.storage();
    if (seen.insert(storage.unsafeGetStorageImpl()).second) total += static_cast<double>(storage.nbytes());
  }
  return toJs(env, total);
}

// (reset?) -> bytes that libtorch's CPU tensors hold now, graph and temporaries included, and the most since the last reset
napi_value AllocatedBytes(napi_env env, Environment&, size_t count, napi_value* values) {
  const auto now = rldf::allocated.load(), most = rldf::peak.load();
  if (count > 0 && boolOf(env, values[0], "reset")) rldf::peak = now;
  return arrayToJs(env, 2, [&](size_t i) { return toJs(env, static_cast<double>(i == 0 ? now : most)); });
}

// ---- autograd, randomness, machine ---------------------------------------------------------------------------------

napi_value GradEnabled(napi_env env, Environment&, size_t count, napi_value* values) {
  const bool before = c10::GradMode::is_enabled();
  if (count > 0) c10::GradMode::set_enabled(boolOf(env, values[0], "enabled"));
  return toJs(env, before);
}

// (device type, dtype | null) switches autocast on or off on this thread; leaving it drops its cache of cast weights
napi_value Autocast(napi_env env, Environment&, size_t, napi_value* values) {
  const auto device = c10::Device(stringOf(env, values[0], "device")).type();
  const bool on = !isNullish(env, values[1]);
  if (on) {
    at::autocast::set_autocast_dtype(device, static_cast<c10::ScalarType>(intOf(env, values[1], "dtype")));
    at::autocast::increment_nesting();
  } else if (at::autocast::decrement_nesting() == 0) {
    at::autocast::clear_cache();
  }
  at::autocast::set_autocast_enabled(device, on);
  return undefined(env);
}

// (outputs, inputs, gradOutputs | null, retainGraph, createGraph, allowUnused) -> handles, undefined where unused
napi_value Grad(napi_env env, Environment& e, size_t, napi_value* values) {
  const auto outputs = tensorsOf(env, e, values[0], "outputs"), inputs = tensorsOf(env, e, values[1], "inputs");
  std::vector<at::Tensor> gradOutputs;
  if (!isNullish(env, values[2])) gradOutputs = tensorsOf(env, e, values[2], "gradOutputs");
  auto gradients = torch::autograd::grad(outputs, inputs, gradOutputs, boolOf(env, values[3], "retainGraph"), boolOf(env, values[4], "createGraph"), boolOf(env, values[5], "allowUnused"));
  return arrayToJs(env, gradients.size(), [&](size_t i) { return tensorToJs(env, e, std::move(gradients[i])); });
}

// Philox 4x32-10 (Salmon et al. 2011) with ATen's engine: key words 0-1 are the seed, words 2-3 the subsequence.
// (keys: Uint32Array of 4 words a sample, shape of one sample, float64?, normal?) -> [samples, ...shape]
napi_value Philox(napi_env env, Environment& e, size_t, napi_value* values) {
  const Bytes keys = bytesOf(env, values[0]);
  auto shape = intsOf(env, values[1], "shape").vec();
  const bool wide = boolOf(env, values[2], "float64"), normal = boolOf(env, values[3], "normal");
  if (keys.length % 16 != 0) throw JsError("internal: a noise key has four 32-bit words");
  const auto samples = static_cast<int64_t>(keys.length / 16);
  const auto* words = static_cast<const uint32_t*>(keys.data);
  shape.insert(shape.begin(), samples);
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(wide ? at::kDouble : at::kFloat));
  const int64_t each = samples == 0 ? 0 : tensor.numel() / samples;
  at::parallel_for(0, samples, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; s++) {
      const uint32_t* k = words + 4 * s;
      at::Philox4_32 engine((static_cast<uint64_t>(k[1]) << 32) | k[0], (static_cast<uint64_t>(k[3]) << 32) | k[2]);
      const auto store = [&](int64_t i, double value) {
        if (wide) tensor.data_ptr<double>()[s * each + i] = value;
        else tensor.data_ptr<float>()[s * each + i] = static_cast<float>(value);
      };
      for (int64_t i = 0; i < each; i += 2) {
        const double u = (engine() + 0.5) / 4294967296.0, v = (engine() + 0.5) / 4294967296.0;
        if (normal) {  // Box-Muller in double precision
          const double radius = std::sqrt(-2.0 * std::log(u)), angle = 2.0 * M_PI * v;
          store(i, radius * std::cos(angle));
          if (i + 1 < each) store(i + 1, radius * std::sin(angle));
        } else {
          store(i, wide ? u : std::floor(u * 16777216.0) / 16777216.0);  // [0, 1) in either precision
          if (i + 1 < each) store(i + 1, wide ? v : std::floor(v * 16777216.0) / 16777216.0);
        }
      }
    }
  });
  return toJs(env, addTensor(e, std::move(tensor)));
}

napi_value Threads(napi_env env, Environment&, size_t count, napi_value* values) {
  if (count > 0 && !isNullish(env, values[0])) {
    const int64_t threads = intOf(env, values[0], "threads");
    if (threads < 1 || threads > 1024) throw JsError("threads must be between 1 and 1024");
    at::set_num_threads(static_cast<int>(threads));
  }
  return toJs(env, static_cast<double>(at::get_num_threads()));
}

napi_value CudaDevices(napi_env env, Environment&, size_t, napi_value*) {
  return toJs(env, at::hasCUDA() ? static_cast<double>(at::getNumGPUs()) : 0.0);
}

napi_value FlushDenormals(napi_env env, Environment&, size_t, napi_value* values) {
  return toJs(env, at::globalContext().setFlushDenormal(boolOf(env, values[0], "on")));
}

napi_value Version(napi_env env, Environment&, size_t, napi_value*) { return toJs(env, std::string(TORCH_VERSION)); }

template <Body body, size_t minimum = 0>
void bind(napi_env env, napi_value exports, const char* name) {
  void* environment = nullptr;
  napi_value function;
  napi_get_instance_data(env, &environment);
  napi_create_function(env, name, NAPI_AUTO_LENGTH, funnel<body, minimum>, environment, &function);
  napi_set_named_property(env, exports, name, function);
}

}  // namespace

NAPI_MODULE_INIT() {
  rldf::keepHeap();
  rldf::boundAllocations();
  napi_set_instance_data(env, new Environment(), [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); }, nullptr);
  bind<Resolve, 2>(env, exports, "resolve");
  bind<Call, 1>(env, exports, "call");
  bind<Schema, 1>(env, exports, "schema");
  bind<Results, 1>(env, exports, "results");
  bind<ListOperators>(env, exports, "listOperators");
  bind<Shape, 1>(env, exports, "shape");
  bind<DType, 1>(env, exports, "dtype");
  bind<DeviceOf, 1>(env, exports, "device");
  bind<RequiresGrad, 1>(env, exports, "requiresGrad");
  bind<IsLive, 1>(env, exports, "isLive");
  bind<FromBytes, 3>(env, exports, "fromBytes");
  bind<ToBytes, 1>(env, exports, "toBytes");
  bind<Item, 1>(env, exports, "item");
  bind<Free, 1>(env, exports, "free");
  bind<Keep, 1>(env, exports, "keep");
  bind<ScopeBegin>(env, exports, "scopeBegin");
  bind<ScopeEnd, 1>(env, exports, "scopeEnd");
  bind<LiveTensors>(env, exports, "liveTensors");
  bind<LiveBytes>(env, exports, "liveBytes");
  bind<AllocatedBytes>(env, exports, "allocatedBytes");
  bind<GradEnabled>(env, exports, "gradEnabled");
  bind<Autocast, 2>(env, exports, "autocast");
  bind<Grad, 6>(env, exports, "grad");
  bind<Philox, 4>(env, exports, "philox");
  bind<Threads>(env, exports, "threads");
  bind<CudaDevices>(env, exports, "cudaDevices");
  bind<FlushDenormals, 1>(env, exports, "flushDenormals");
  bind<Version>(env, exports, "version");
  return exports;
}
