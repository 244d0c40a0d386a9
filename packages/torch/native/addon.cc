// libtorch through one door: operators are looked up in the dispatcher by name and called boxed,
// with arguments converted by the operator's own schema; runtime.cc and ../kernels register more of
// them.
//
// A tensor is a number in JavaScript, its handle: generation * 2^24 + slot. A slot's generation
// grows whenever its tensor is freed, so that a handle of before finds nothing, never another
// tensor. Who frees when is decided in TypeScript (../src/made.ts, ../src/scope.ts).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <deque>
#include <string>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include <node_api.h>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <c10/core/GradMode.h>
#include <torch/version.h>

extern std::atomic<bool> stopAsked;  // signals.cc

namespace {

constexpr size_t kMaxSlots = 1 << 24;               // live tensors at most
constexpr double kMaxHandle = 4503599627370496;     // 2^52, exact in a JavaScript number
constexpr int64_t kMaxExactInt = 9007199254740991;  // 2^53 - 1
constexpr size_t kFewArguments = 8;                 // of nearly every call
constexpr size_t kMaxArguments = 40;

struct Slot {
  at::Tensor tensor;  // undefined while the slot is free
  double handle;      // the tensor's, or the next one's
};

// f(a), f(a, b) and f(a, b, alpha): most calls are of these and need no boxes
using TensorRef = const at::Tensor&;
using Unary = c10::TypedOperatorHandle<at::Tensor(TensorRef)>;
using Binary = c10::TypedOperatorHandle<at::Tensor(TensorRef, TensorRef)>;
using Scaled = c10::TypedOperatorHandle<at::Tensor(TensorRef, TensorRef, const at::Scalar&)>;

struct Operator {
  c10::OperatorHandle handle;
  std::variant<std::monostate, Unary, Binary, Scaled> typed;
};

// Everything one JavaScript environment owns; a second environment (worker) has its own.
struct Environment {
  const napi_env env;
  std::vector<Slot> slots;
  std::vector<size_t> freeSlots;
  std::deque<Operator> operators;  // references stay valid while it grows
};

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw std::runtime_error(c10::str(parts...));
}
[[noreturn]] void expected(const char* kind, const char* what) {
  fail("expected ", kind, " for ", what);
}

void check(napi_status status) {
  if (status != napi_ok) fail("internal: Node-API answers with status ", int{status});
}

// ---- handles ------------------------------------------------------------------------------------
double addTensor(Environment& e, at::Tensor tensor) {
  if (e.freeSlots.empty()) {
    if (e.slots.size() >= kMaxSlots) {
      fail("16,777,216 tensors are alive — free some, or work inside scope()");
    }
    e.freeSlots.push_back(e.slots.size());
    e.slots.push_back({{}, static_cast<double>(kMaxSlots + e.slots.size())});
  }
  Slot& slot = e.slots[e.freeSlots.back()];
  e.freeSlots.pop_back();
  slot.tensor = std::move(tensor);
  return slot.handle;
}

// The slot that the handle means; null if its tensor was freed, or if it is no handle.
Slot* findSlot(Environment& e, double handle) {
  if (!(handle >= 0 && handle < kMaxHandle)) return nullptr;  // NaN neither
  const size_t number = static_cast<size_t>(handle) % kMaxSlots;
  if (number >= e.slots.size()) return nullptr;
  Slot& slot = e.slots[number];
  return slot.handle == handle && slot.tensor.defined() ? &slot : nullptr;
}

void freeTensor(Environment& e, double handle) {
  Slot* slot = findSlot(e, handle);
  if (slot == nullptr) return;
  // its destructor, which may take long, runs after the slot is consistent again
  const at::Tensor dying = std::move(slot->tensor);
  slot->handle += kMaxSlots;
  if (slot->handle < kMaxHandle) e.freeSlots.push_back(slot - e.slots.data());  // or it is worn out
}

// ---- from JavaScript; `what` names the value in messages ----------------------------------------
bool isNullish(Environment& e, napi_value value) {
  napi_valuetype type;
  check(napi_typeof(e.env, value, &type));
  return type == napi_undefined || type == napi_null;
}

Slot* slotOf(Environment& e, napi_value value) {  // null if it is no tensor
  double handle;
  return napi_get_value_double(e.env, value, &handle) == napi_ok ? findSlot(e, handle) : nullptr;
}

const at::Tensor& tensorOf(Environment& e, napi_value value, const char* what = "self") {
  if (const Slot* slot = slotOf(e, value)) return slot->tensor;
  fail("the tensor given for ", what,
       " was freed, or is no tensor — it may have been made inside a scope() that has ended; "
       "return it from the scope or keep() it");
}

double numberOf(Environment& e, napi_value value, const char* what) {
  double number;
  if (napi_get_value_double(e.env, value, &number) != napi_ok) expected("a number", what);
  return number;
}

bool isExactInt(double number) {
  return number == std::trunc(number) && std::fabs(number) <= kMaxExactInt;
}

int64_t intOf(Environment& e, napi_value value, const char* what) {
  double number;
  if (napi_get_value_double(e.env, value, &number) == napi_ok) {
    if (isExactInt(number)) return static_cast<int64_t>(number);
    fail("expected an integer for ", what, ", got ", number,
         " — fractions, NaN and numbers beyond 2^53 are refused (but BigInt)");
  }
  int64_t big;
  bool lossless = false;
  if (napi_get_value_bigint_int64(e.env, value, &big, &lossless) != napi_ok) {
    expected("an integer", what);
  }
  if (!lossless) fail("the BigInt for ", what, " does not fit into 64 bits");
  return big;
}

bool boolOf(Environment& e, napi_value value, const char* what) {
  bool result;
  if (napi_get_value_bool(e.env, value, &result) != napi_ok) expected("true or false", what);
  return result;
}

std::string stringOf(Environment& e, napi_value value, const char* what) {
  size_t length;
  if (napi_get_value_string_utf8(e.env, value, nullptr, 0, &length) != napi_ok) {
    expected("a string", what);
  }
  std::string text(length, '\0');
  check(napi_get_value_string_utf8(e.env, value, text.data(), length + 1, &length));
  return text;
}

// The memory of a typed array of one type, to be read at once: JavaScript that runs may free it.
template <typename T, napi_typedarray_type wanted>
c10::ArrayRef<T> memoryOf(Environment& e, napi_value value, const char* what) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  const auto status =
      napi_get_typedarray_info(e.env, value, &type, &length, &data, nullptr, nullptr);
  if (status != napi_ok || type != wanted) expected("another kind of array", what);
  return {static_cast<const T*>(data), length};
}

// ---- to JavaScript ------------------------------------------------------------------------------
// make<napi_create_double>(e, number): the value that a function of Node-API makes, or an exception
template <auto create, typename... Parts>
napi_value make(Environment& e, Parts... parts) {
  napi_value value;
  check(create(e.env, parts..., &value));
  return value;
}

napi_value undefined(Environment& e) { return make<napi_get_undefined>(e); }
napi_value toJs(Environment& e, bool flag) { return make<napi_get_boolean>(e, flag); }
napi_value toJs(Environment& e, double number) { return make<napi_create_double>(e, number); }
napi_value toJs(Environment& e, const std::string& text) {
  return make<napi_create_string_utf8>(e, text.data(), text.size());
}

napi_value toJs(Environment& e, at::Tensor tensor) {
  return tensor.defined() ? toJs(e, addTensor(e, std::move(tensor))) : undefined(e);
}

napi_value toJs(Environment& e, int64_t number) {
  const bool exact = number >= -kMaxExactInt && number <= kMaxExactInt;
  return exact ? toJs(e, static_cast<double>(number)) : make<napi_create_bigint_int64>(e, number);
}

template <typename List, typename F>
napi_value arrayToJs(Environment& e, List&& list, F&& one) {
  const napi_value array = make<napi_create_array_with_length>(e, list.size());
  uint32_t i = 0;
  for (auto& element : list) check(napi_set_element(e.env, array, i++, one(element)));
  return array;
}

template <typename List>
napi_value toJs(Environment& e, const List& list) {
  return arrayToJs(e, list, [&](const auto& element) { return toJs(e, element); });
}

napi_value toJs(Environment& e, c10::IValue value) {
  if (value.isTensor()) return toJs(e, std::move(value).toTensor());
  if (value.isInt()) return toJs(e, value.toInt());
  if (value.isDouble()) return toJs(e, value.toDouble());
  if (value.isBool()) return toJs(e, value.toBool());
  if (value.isString()) return toJs(e, value.toStringRef());
  if (value.isList()) return toJs(e, value.toListRef());
  if (value.isNone()) return undefined(e);
  fail("the result is of a kind that this binding does not pass (", value.tagKind(), ")");
}

// ---- operators ----------------------------------------------------------------------------------
// Whether one of the tensors among the operands, those in lists included, `is` so.
template <typename F>
bool anyTensor(c10::ArrayRef<c10::IValue> operands, F&& is) {
  return std::any_of(operands.begin(), operands.end(), [&](const c10::IValue& operand) {
    if (operand.isTensor()) return is(*operand.unsafeToTensorImpl());
    return operand.isList() && anyTensor(operand.toListRef(), is);
  });
}

// JavaScript cannot tell 1 from 1.0: a scalar is an integer only if the first tensor operand is
// integral.
c10::IValue scalarOf(Environment& e, napi_value value, const c10::Stack& stack, const char* what) {
  napi_valuetype type;
  check(napi_typeof(e.env, value, &type));
  if (type == napi_boolean) return boolOf(e, value, what);
  if (type == napi_bigint) return intOf(e, value, what);
  const double number = numberOf(e, value, what);
  bool integral = false;
  anyTensor(stack, [&](const c10::TensorImpl& first) {
    integral = at::isIntegralType(c10::typeMetaToScalarType(first.dtype()), /*includeBool=*/true);
    return true;  // no need to look at others
  });
  if (integral && isExactInt(number)) return static_cast<int64_t>(number);
  return number;
}

c10::IValue listOf(Environment& e, const c10::TypePtr& element, napi_value value,
                   const c10::Stack& stack, const char* what);

// The argument of an operator as its schema wants it. `stack` holds the arguments before this one.
// Numbers of dtypes, layouts and memory formats are integers here.
c10::IValue convert(Environment& e, const c10::Type& type, napi_value value,
                    const c10::Stack& stack, const char* what) {
  switch (type.kind()) {
    case c10::TypeKind::TensorType: return tensorOf(e, value, what);
    case c10::TypeKind::OptionalType:
      if (isNullish(e, value)) return c10::IValue();
      return convert(e, *type.castRaw<c10::OptionalType>()->getElementType(), value, stack, what);
    case c10::TypeKind::ListType:
      return listOf(e, type.castRaw<c10::ListType>()->getElementType(), value, stack, what);
    case c10::TypeKind::IntType: return intOf(e, value, what);
    case c10::TypeKind::FloatType: return numberOf(e, value, what);
    case c10::TypeKind::BoolType: return boolOf(e, value, what);
    case c10::TypeKind::NumberType: return scalarOf(e, value, stack, what);
    case c10::TypeKind::AnyType:  // a name of a group
    case c10::TypeKind::StringType: return stringOf(e, value, what);
    case c10::TypeKind::DeviceObjType: return c10::Device(stringOf(e, value, what));
    default:
      fail("argument '", what, "' has a kind that this binding does not pass (", type.str(),
           ") — leave it out");
  }
}

c10::IValue listOf(Environment& e, const c10::TypePtr& element, napi_value value,
                   const c10::Stack& stack, const char* what) {
  c10::impl::GenericList list(element);
  bool isArray = false;
  check(napi_is_array(e.env, value, &isArray));
  if (!isArray) {  // int[1] accepts a single integer, as in Python
    if (element->kind() != c10::TypeKind::IntType) expected("an array", what);
    list.push_back(convert(e, *element, value, stack, what));
    return list;
  }
  uint32_t length = 0;
  check(napi_get_array_length(e.env, value, &length));
  list.reserve(length);
  for (uint32_t i = 0; i < length; i++) {
    napi_value one;
    check(napi_get_element(e.env, value, i, &one));
    list.push_back(convert(e, *element, one, stack, what));
  }
  return list;
}

c10::IValue defaultOf(const c10::Argument& argument) {
  if (argument.default_value()) return *argument.default_value();
  if (argument.type()->kind() == c10::TypeKind::OptionalType) return c10::IValue();
  fail("missing argument '", argument.name(), "' (", argument.real_type()->str(), ")");
}

// The layers of the dispatcher that a call may leave out: what is not recorded need not pass
// through autograd. Views and version counters are kept by a layer of their own, which stays.
c10::DispatchKeySet needless(bool wantsGradient) {
  const bool isRecorded = wantsGradient && c10::GradMode::is_enabled();
  return isRecorded ? c10::DispatchKeySet() : c10::autograd_dispatch_keyset;
}

// The call without boxing, if the signature allows it and nothing but tensors is given; else
// nothing, and the boxed call says what is wrong, if anything is.
std::optional<at::Tensor> callTyped(Environment& e, const Operator& op, size_t count,
                                    const napi_value* values) {
  if (std::holds_alternative<std::monostate>(op.typed)) return std::nullopt;
  const bool isUnary = std::holds_alternative<Unary>(op.typed);
  if (count != (isUnary ? 1 : 2)) return std::nullopt;
  const Slot* first = slotOf(e, values[0]);
  const Slot* last = slotOf(e, values[count - 1]);
  if (first == nullptr || last == nullptr) return std::nullopt;
  const at::Tensor &a = first->tensor, &b = last->tensor;
  const c10::impl::ExcludeDispatchKeyGuard without(
      needless(a.requires_grad() || b.requires_grad()));
  if (isUnary) return std::get<Unary>(op.typed).call(a);
  if (const auto* binary = std::get_if<Binary>(&op.typed)) return binary->call(a, b);
  return std::get<Scaled>(op.typed).call(a, b, /*alpha=*/1);
}

// The boxed call itself. `stack` holds the arguments before, and the results after it.
void callBoxed(const Operator& op, c10::Stack& stack) {
  const bool holdsTensor = anyTensor(stack, [](const c10::TensorImpl&) { return true; });
  if (!holdsTensor)
    return op.handle.callBoxed(stack);  // it may set a mode, which a guard would undo
  const c10::impl::ExcludeDispatchKeyGuard without(needless(
      anyTensor(stack, [](const c10::TensorImpl& tensor) { return tensor.requires_grad(); })));
  op.handle.callBoxed(stack);
}

bool isWritten(const c10::Argument& argument) {
  return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
}

napi_value invoke(Environment& e, const Operator& op, size_t count, const napi_value* values) {
  if (auto result = callTyped(e, op, count, values)) return toJs(e, std::move(*result));
  const std::vector<c10::Argument>& arguments = op.handle.schema().arguments();
  if (count > arguments.size()) fail("got ", count, " arguments, takes at most ", arguments.size());
  c10::Stack stack;
  stack.reserve(arguments.size());
  std::vector<std::pair<const c10::TensorImpl*, napi_value>> written;
  for (size_t i = 0; i < arguments.size(); i++) {
    const c10::Argument& argument = arguments[i];
    const bool given = i < count && !isNullish(e, values[i]);
    const char* name = argument.name().c_str();
    stack.push_back(given ? convert(e, *argument.type(), values[i], stack, name)
                          : defaultOf(argument));
    if (!isWritten(argument)) continue;
    const c10::IValue& target = stack.back();
    if (target.isTensor()) written.emplace_back(target.unsafeToTensorImpl(), values[i]);
    if (target.isTensorList()) {  // autograd learns of writes into lists from nobody else
      for (const at::Tensor& tensor : target.toTensorVector()) {
        tensor.unsafeGetTensorImpl()->bump_version();
      }
    }
  }
  callBoxed(op, stack);
  // A result that is a written argument is that argument's handle: `a.add_(b)` is `a`.
  const auto one = [&](c10::IValue& result) {
    for (const auto& [impl, handle] : written) {
      if (result.isTensor() && result.unsafeToTensorImpl() == impl) return handle;
    }
    return toJs(e, std::move(result));
  };
  if (stack.empty()) return undefined(e);
  if (stack.size() == 1) return one(stack[0]);
  return arrayToJs(e, stack, one);
}

// ---- the funnel: no C++ exception leaves a callback ---------------------------------------------
// What JavaScript gave: at least kFewArguments places, undefined where it gave less.
struct Arguments {
  size_t count = kFewArguments;
  napi_value values[kMaxArguments];
  napi_value operator[](size_t i) const { return values[i]; }
};

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

// What Node-API calls: it gathers the arguments and turns C++ exceptions into JavaScript's.
template <napi_value (*body)(Environment&, const Arguments&)>
napi_value funnel(napi_env env, napi_callback_info info) {
  Arguments given;
  void* environment;
  // Node-API fills every place that it is given: ask for all only if there are more than a few
  if (napi_get_cb_info(env, info, &given.count, given.values, nullptr, &environment) != napi_ok) {
    return nullptr;
  }
  if (given.count > kFewArguments) {
    size_t all = kMaxArguments;
    const auto status = napi_get_cb_info(env, info, &all, given.values, nullptr, nullptr);
    if (status != napi_ok) return nullptr;
  }
  try {
    if (given.count > kMaxArguments) fail("internal: more than ", kMaxArguments, " arguments");
    return body(*static_cast<Environment*>(environment), given);
  } catch (...) {
    napi_throw_error(env, "ERR_TORCH", currentError().c_str());
    return nullptr;
  }
}

// (name, overload) -> the operator's number
napi_value Resolve(Environment& e, const Arguments& given) {
  std::string name = stringOf(e, given[0], "name");
  if (name.find("::") == std::string::npos) name = "aten::" + name;
  const c10::OperatorName full(name, stringOf(e, given[1], "overload"));
  for (size_t i = 0; i < e.operators.size(); i++) {
    if (e.operators[i].handle.operator_name() == full) return toJs(e, static_cast<double>(i));
  }
  const auto handle = c10::Dispatcher::singleton().findSchema(full);
  if (!handle) fail("libtorch " TORCH_VERSION " has no operator ", full);
  Operator& op = e.operators.emplace_back(Operator{*handle, {}});
  const std::string text = c10::toString(handle->schema());
  const std::string signature = text.substr(text.find('('));
  if (signature == "(Tensor self) -> Tensor" || signature == "(Tensor(a) self) -> Tensor(a)") {
    op.typed = handle->typed<at::Tensor(TensorRef)>();
  } else if (signature == "(Tensor self, Tensor other) -> Tensor") {
    op.typed = handle->typed<at::Tensor(TensorRef, TensorRef)>();
  } else if (signature == "(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor") {
    op.typed = handle->typed<at::Tensor(TensorRef, TensorRef, const at::Scalar&)>();
  }
  return toJs(e, static_cast<double>(e.operators.size() - 1));
}

const Operator& operatorOf(Environment& e, napi_value value) {
  const double number = numberOf(e, value, "operator");
  if (!(number >= 0 && number < static_cast<double>(e.operators.size()))) {
    fail("unknown operator number");
  }
  return e.operators[static_cast<size_t>(number)];
}

// (operator, ...arguments); errors end with " [operands: Float[2, 3], Long[4]]"
napi_value Call(Environment& e, const Arguments& given) {
  const Operator& op = operatorOf(e, given[0]);
  if (stopAsked && slotOf(e, given[1]) != nullptr && stopAsked.exchange(false)) {
    napi_throw_error(e.env, "ERR_INTERRUPTED", "interrupted");
    return nullptr;
  }
  try {
    return invoke(e, op, given.count - 1, given.values + 1);
  } catch (...) {
    std::string operands;
    for (size_t i = 1; i < given.count; i++) {
      const Slot* slot = slotOf(e, given[i]);
      if (slot == nullptr) continue;
      operands += operands.empty() ? " [operands: " : ", ";
      operands += c10::str(slot->tensor.scalar_type(), slot->tensor.sizes());
    }
    fail(op.handle.operator_name(), ": ", currentError(), operands, operands.empty() ? "" : "]");
  }
}

napi_value Schema(Environment& e, const Arguments& given) {
  return toJs(e, c10::toString(operatorOf(e, given[0]).handle.schema()));
}
napi_value ListOperators(Environment& e, const Arguments&) {
  return arrayToJs(e, c10::Dispatcher::singleton().getAllOpNames(),
                   [&](const auto& name) { return toJs(e, c10::toString(name)); });
}

// ---- tensors: what no operator does -------------------------------------------------------------
napi_value IsLive(Environment& e, const Arguments& given) {
  return toJs(e, slotOf(e, given[0]) != nullptr);
}
napi_value Shape(Environment& e, const Arguments& given) {
  return toJs(e, tensorOf(e, given[0]).sizes());
}
napi_value Device(Environment& e, const Arguments& given) {
  return toJs(e, tensorOf(e, given[0]).device().str());
}
napi_value DType(Environment& e, const Arguments& given) {
  return toJs(e, int64_t(tensorOf(e, given[0]).scalar_type()));
}
napi_value RequiresGrad(Environment& e, const Arguments& given) {
  return toJs(e, tensorOf(e, given[0]).requires_grad());
}

// (dense CPU tensor, Uint8Array of its size, whether bytes go into the tensor or come out of it)
napi_value CopyBytes(Environment& e, const Arguments& given) {
  const at::Tensor& tensor = tensorOf(e, given[0], "data");
  const auto bytes = memoryOf<uint8_t, napi_uint8_array>(e, given[1], "data");
  if (tensor.layout() != at::kStrided || !tensor.is_cpu() || !tensor.is_contiguous()) {
    fail("only dense CPU tensors have bytes");
  }
  if (tensor.nbytes() != bytes.size()) {
    fail("a tensor of ", tensor.nbytes(), " bytes cannot be copied from or to ", bytes.size());
  }
  if (boolOf(e, given[2], "into")) {
    std::copy(bytes.begin(), bytes.end(), static_cast<uint8_t*>(tensor.mutable_data_ptr()));
  } else {
    const auto* from = static_cast<const uint8_t*>(tensor.const_data_ptr());
    std::copy_n(from, bytes.size(), const_cast<uint8_t*>(bytes.data()));
  }
  return undefined(e);
}

// (Float64Array of handles, from, to): the youngest first, since its memory is at hand for the next
napi_value Free(Environment& e, const Arguments& given) {
  const auto handles = memoryOf<double, napi_float64_array>(e, given[0], "handles");
  const auto from = static_cast<size_t>(intOf(e, given[1], "from"));
  const auto to = static_cast<size_t>(intOf(e, given[2], "to"));
  for (size_t i = std::min(to, handles.size()); i > from; i--) freeTensor(e, handles[i - 1]);
  return undefined(e);
}

// -> how many tensors there are, and the bytes of their distinct storages
napi_value Live(Environment& e, const Arguments&) {
  std::unordered_set<const void*> seen;
  int64_t tensors = 0, bytes = 0;
  for (const auto& [tensor, handle] : e.slots) {
    if (!tensor.defined()) continue;
    tensors++;
    if (!tensor.has_storage()) continue;
    const c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
    const bool isNew = seen.insert(storage).second;
    if (isNew) bytes += static_cast<int64_t>(storage->nbytes());
  }
  return toJs(e, std::vector<int64_t>{tensors, bytes});
}

}  // namespace

NAPI_MODULE_INIT() {
  auto* environment = new Environment{env};
  const auto end = [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); };
  napi_set_instance_data(env, environment, end, nullptr);
  const std::pair<const char*, napi_callback> functions[] = {
      {"resolve", funnel<Resolve>},
      {"call", funnel<Call>},
      {"schema", funnel<Schema>},
      {"listOperators", funnel<ListOperators>},
      {"isLive", funnel<IsLive>},
      {"shape", funnel<Shape>},
      {"device", funnel<Device>},
      {"dtype", funnel<DType>},
      {"requiresGrad", funnel<RequiresGrad>},
      {"copyBytes", funnel<CopyBytes>},
      {"free", funnel<Free>},
      {"live", funnel<Live>},
  };
  for (const auto& [name, callback] : functions) {
    napi_value function;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, environment, &function);
    napi_set_named_property(env, exports, name, function);
  }
  return exports;
}
