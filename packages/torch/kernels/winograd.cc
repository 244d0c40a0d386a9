// 3x3 convolutions by Winograd's F(2x2, 3x3) (Lavin & Gray 2016): 16 products where the definition
// needs 36, as accurate in float32. For frozen weights on CPUs with AVX-512; all else goes to
// libtorch. Differentiable in the input.
//
// Each 2x2 tile of the output is Aᵀ [(G w Gᵀ) · (Bᵀ d B)] A, with d the 4x4 pixels around it. The
// weight's part, G w Gᵀ, is computed once a weight (`pack`). The product between them is, for each
// of the 16 places, a matrix product over channels: [tiles, in] x [in, out].
#include <algorithm>
#include <atomic>
#include <memory>

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace {

using OptionalTensor = std::optional<at::Tensor>;
using torch::autograd::AutogradContext, torch::autograd::variable_list;

std::atomic<bool> switchedOn{true};
constexpr int64_t kVector = 16;  // floats
constexpr int64_t kTiles = 24;   // 2x2 pixels each: their products fit into the L2 cache

struct Convolution {
  // x and y channels last, the weight as `pack` makes it, the bias null if there is none
  const float *x, *weight, *bias;
  float* y;
  int64_t height, width, in, out;
  // tiles of a picture; the last ones may stick out
  int64_t down = (height + 1) / 2, across = (width + 1) / 2;

  int64_t pixel(int64_t b, int64_t row, int64_t column) const {
    return (b * height + row) * width + column;
  }
  // A tile by its first pixel.
  struct Tile {
    int64_t b, row, column;
  };
  Tile tile(int64_t i) const {
    return {i / (down * across), i / across % down * 2, i % across * 2};
  }
  bool holds(int64_t row, int64_t column) const {
    return row >= 0 && row < height && column >= 0 && column < width;
  }
};

// Floats from one of the 16 planes to the next: a cache line more than they hold, or all would fall
// into one cache set.
int64_t plane(int64_t count, int64_t channels) { return count * channels + kVector; }

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
bool runsHere() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl")  // with arch=, what is above would not be inlined

typedef float Vector __attribute__((vector_size(64)));
typedef float Unaligned __attribute__((vector_size(64), aligned(4), may_alias));
inline Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

// Bᵀ d of four values that lie `next` apart, in place
template <int next>
inline void applyB(Vector* d) {
  const Vector d1 = d[next];
  d[0] = d[0] - d[2 * next];
  d[next] = d1 + d[2 * next];
  d[2 * next] = d[2 * next] - d1;
  d[3 * next] = d1 - d[3 * next];
}

// Aᵀ m: two of four values
template <int next>
inline void applyA(Vector* m) {
  m[0] = m[0] + m[next] + m[2 * next];
  m[next] = m[next] - m[2 * next] - m[3 * next];
}

// `rows` rows of a times 16 · `vectors` columns of b, which are packed as [vectors, in, 16]
template <int rows, int vectors>
void block(const float* a, const float* b, float* c, int64_t in, int64_t out) {
  Vector sum[rows][vectors] = {};
  for (int64_t k = 0; k < in; k++) {
    for (int i = 0; i < rows; i++) {
      for (int v = 0; v < vectors; v++) {
        sum[i][v] += a[i * in + k] * load(b + (v * in + k) * kVector);
      }
    }
  }
  for (int i = 0; i < rows; i++) {
    for (int v = 0; v < vectors; v++) store(c + i * out + v * kVector, sum[i][v]);
  }
}

template <int vectors>
void columns(const float* a, const float* b, float* c, int64_t count, int64_t in, int64_t out) {
  int64_t i = 0;
  for (; i + 12 <= count; i += 12) block<12, vectors>(a + i * in, b, c + i * out, in, out);
  for (; i + 4 <= count; i += 4) block<4, vectors>(a + i * in, b, c + i * out, in, out);
  for (; i < count; i++) block<1, vectors>(a + i * in, b, c + i * out, in, out);
}

// `c` is a copy, which no store may alias. `scratch` holds the planes of both sides of the product.
void convolveTiles(Convolution c, int64_t begin, int64_t count, float* scratch) {
  const int64_t left = plane(count, c.in), right = plane(count, c.out);
  float* products = scratch + 16 * left;

  // the 4x4 pixels d around each tile -> Bᵀ d B, 16 planes [count, in]
  for (int64_t t = 0; t < count; t++) {
    const auto [b, row, column] = c.tile(begin + t);
    for (int64_t k = 0; k < c.in; k += kVector) {
      Vector d[16];
      for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
          const int64_t y = row + i - 1, x = column + j - 1;
          d[4 * i + j] = c.holds(y, x) ? load(c.x + c.pixel(b, y, x) * c.in + k) : Vector{};
        }
      }
      for (int j = 0; j < 4; j++) applyB<4>(d + j);
      for (int i = 0; i < 4; i++) {
        applyB<1>(d + 4 * i);
        float* to = scratch + 4 * i * left + t * c.in + k;
        for (int j = 0; j < 4; j++) store(to + j * left, d[4 * i + j]);
      }
    }
  }

  // times the weight's planes -> 16 planes [count, out]
  for (int64_t i = 0; i < 16; i++) {
    const float *a = scratch + i * left, *b = c.weight + i * c.in * c.out;
    int64_t j = 0;
    for (; j + 2 * kVector <= c.out; j += 2 * kVector) {
      columns<2>(a, b + j * c.in, products + i * right + j, count, c.in, c.out);
    }
    if (j < c.out) columns<1>(a, b + j * c.in, products + i * right + j, count, c.in, c.out);
  }

  // each tile's products m -> Aᵀ m A + bias, its 2x2 pixels
  for (int64_t t = 0; t < count; t++) {
    const auto [b, row, column] = c.tile(begin + t);
    for (int64_t k = 0; k < c.out; k += kVector) {
      const Vector shift = c.bias == nullptr ? Vector{} : load(c.bias + k);
      Vector m[16];
      for (int i = 0; i < 16; i++) m[i] = load(products + i * right + t * c.out + k);
      for (int j = 0; j < 4; j++) applyA<4>(m + j);
      for (int i = 0; i < 2; i++) {
        applyA<1>(m + 4 * i);
        for (int j = 0; j < 2; j++) {
          if (!c.holds(row + i, column + j)) continue;  // the tile sticks out
          store(c.y + c.pixel(b, row + i, column + j) * c.out + k, m[4 * i + j] + shift);
        }
      }
    }
  }
}

#pragma GCC pop_options
#else
bool runsHere() { return false; }
void convolveTiles(Convolution, int64_t, int64_t, float*) {}
#endif

at::Tensor run(const at::Tensor& input, const at::Tensor& weight, const OptionalTensor& bias) {
  const at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor shift = bias ? bias->contiguous() : at::Tensor();
  const int64_t out = weight.size(1) * kVector;
  at::Tensor y = at::empty({x.size(0), out, x.size(2), x.size(3)},
                           x.options().memory_format(at::MemoryFormat::ChannelsLast));
  const Convolution c{.x = x.const_data_ptr<float>(),
                      .weight = weight.const_data_ptr<float>(),
                      .bias = bias ? shift.const_data_ptr<float>() : nullptr,
                      .y = y.data_ptr<float>(),
                      .height = x.size(2),
                      .width = x.size(3),
                      .in = x.size(1),
                      .out = out};
  at::parallel_for(0, x.size(0) * c.down * c.across, 4, [&](int64_t begin, int64_t end) {
    const int64_t most = std::min(kTiles, end - begin);
    const int64_t floats = 16 * (plane(most, c.in) + plane(most, c.out));
    const auto scratch = std::make_unique_for_overwrite<float[]>(floats);
    for (int64_t i = begin; i < end; i += kTiles) {
      convolveTiles(c, i, std::min(kTiles, end - i), scratch.get());
    }
  });
  return y;
}

// weight [out, in, 3, 3] -> G w Gᵀ in double precision, packed as [16, out / 16, in, 16]
at::Tensor pack(const at::Tensor& weight) {
  const at::Tensor g =
      at::tensor({1., 0., 0., .5, .5, .5, .5, -.5, .5, 0., 0., 1.}, at::kDouble).view({4, 3});
  const at::Tensor u = at::matmul(at::matmul(g, weight.to(at::kDouble)), g.t());  // [out, in, 4, 4]
  const at::Tensor planes =
      u.permute({2, 3, 0, 1}).reshape({16, weight.size(0) / kVector, kVector, weight.size(1)});
  return planes.transpose(2, 3).to(at::kFloat).contiguous();
}

// Hangs on a frozen weight, but not on its views: its packed form, and that of the convolution
// which its gradient is.
struct Packed final : c10::BackendMeta {
  const int64_t version;
  at::Tensor forward, backward;
  explicit Packed(int64_t of) : version(of) {}
  c10::intrusive_ptr<BackendMeta> clone(const c10::intrusive_ptr<BackendMeta>&) const override {
    return {};
  }
};

// made anew once the weight was written
at::Tensor packed(const at::Tensor& weight, bool backward) {
  const at::NoGradGuard noGrad;
  c10::TensorImpl& impl = *weight.unsafeGetTensorImpl();
  auto* known = dynamic_cast<Packed*>(impl.get_backend_meta());
  if (known == nullptr || known->version != weight._version()) {
    impl.set_backend_meta(c10::make_intrusive<Packed>(weight._version()));
    known = static_cast<Packed*>(impl.get_backend_meta());
  }
  at::Tensor& wanted = backward ? known->backward : known->forward;
  if (!wanted.defined()) wanted = pack(backward ? weight.flip({2, 3}).transpose(0, 1) : weight);
  return wanted;
}

struct Differentiable : torch::autograd::Function<Differentiable> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const OptionalTensor& bias) {
    context->save_for_backward({weight});
    return run(x, packed(weight, false), bias);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor weight = context->get_saved_variables()[0], &gradient = gradients[0];
    if (!c10::GradMode::is_enabled()) return {run(gradient, packed(weight, true), {}), {}, {}};
    // to be differentiated again: by what autograd knows
    return {at::conv2d(gradient, weight.flip({2, 3}).transpose(0, 1), {}, 1, 1), {}, {}};
  }
};

// Whether this file's kernel can compute it; else libtorch does, and says what is wrong, if
// anything.
bool fits(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias) {
  const auto plain = [](const at::Tensor& tensor) {
    return tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat;
  };
  const auto frozen = [&](const at::Tensor& tensor) {
    return plain(tensor) && !tensor.requires_grad();
  };
  if (!switchedOn || !runsHere() || at::autocast::is_autocast_enabled(at::kCPU)) return false;
  if (!plain(x) || !frozen(weight) || (bias && !frozen(*bias))) return false;
  if (x.dim() != 4 || weight.dim() != 4 || x.numel() == 0) return false;
  const int64_t out = weight.size(0), in = weight.size(1);
  if (x.size(1) != in || weight.size(2) != 3 || weight.size(3) != 3) return false;
  return out % kVector == 0 && in % kVector == 0;
}

// 3x3, stride 1, padding 1: x [B, in, H, W], weight [out, in, 3, 3], bias [out] -> [B, out, H, W]
at::Tensor conv3x3(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias) {
  if (!fits(x, weight, bias)) return at::conv2d(x, weight, bias, 1, 1);
  if (c10::GradMode::is_enabled() && x.requires_grad())
    return Differentiable::apply(x, weight, bias);
  return run(x, packed(weight, false), bias);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(rldf, library) {
  library.def("conv3x3(Tensor x, Tensor weight, Tensor? bias) -> Tensor", &conv3x3);
  library.def("set_winograd(bool on) -> bool", [](bool on) {  // -> whether this machine has it
    switchedOn = on;
    return runsHere();
  });
}
