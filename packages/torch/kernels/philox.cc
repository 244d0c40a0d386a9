// Random numbers by counter: Philox 4x32-10 (Salmon et al. 2011) with ATen's engine. Each sample
// has a key of its own.
#include <cmath>

#include <ATen/core/PhiloxRNGEngine.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

namespace {

// In (0, 1): neither end, of which the logarithm would be infinite or zero.
double uniform(at::Philox4_32& engine) { return (engine() + 0.5) / 4294967296.0; }

// Keys of four 32-bit words: seed and subsequence, the low word first -> float64 [keys, count],
// standard normal or uniform
at::Tensor philox(at::IntArrayRef keys, int64_t count, bool normal) {
  TORCH_CHECK(keys.size() % 4 == 0, "a noise key has four 32-bit words");
  const at::Tensor samples = at::empty({static_cast<int64_t>(keys.size() / 4), count}, at::kDouble);
  auto* to = samples.mutable_data_ptr<double>();
  for (size_t i = 0; i < keys.size(); i += 4) {
    at::Philox4_32 engine(keys[i + 1] << 32 | keys[i], keys[i + 3] << 32 | keys[i + 2]);
    for (const double* end = to + count; to < end;) {
      double first = uniform(engine);
      double second = uniform(engine);
      if (normal) {  // Box-Muller
        const double radius = std::sqrt(-2.0 * std::log(first));
        const double angle = 2.0 * M_PI * second;
        first = radius * std::cos(angle);
        second = radius * std::sin(angle);
      }
      *to++ = first;
      if (to < end) *to++ = second;
    }
  }
  return samples;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(rldf, library) {
  library.def("philox(int[] keys, int count, bool normal) -> Tensor", &philox);
}
