// What a process needs of libtorch beside its operators, registered as operators: gradients, modes,
// threads, memory.
#include <atomic>
#include <climits>
#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <unistd.h>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/library.h>
#include <torch/version.h>

namespace {

// Bytes of all CPU tensors, those inside the autograd graph and inside operators included; and the
// most there were.
std::atomic<int64_t> allocated{0}, peak{0};

// Blocks begin at cache lines, as with libtorch's own allocator; but the heap is asked for plain
// memory, of which it keeps small pieces at hand, and not for aligned memory, which it cuts out of
// a larger piece every time.
struct CountingAllocator final : at::Allocator {
  // Lies before each block: what is to be given back to the heap.
  struct Header {
    void* memory;
    size_t bytes;
  };
  static constexpr size_t line = 64;
  const size_t pages = static_cast<size_t>(sysconf(_SC_PHYS_PAGES));
  const size_t limit = pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));

  // A tensor larger than the machine's memory is an error, not an allocation that the kernel grants
  // and kills us for later.
  at::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &release, at::kCPU};
    TORCH_CHECK(bytes <= limit, "a tensor of ", bytes,
                " bytes was asked for, but this machine has ", limit, " bytes of memory");
    void* memory = std::malloc(bytes + sizeof(Header) + line);
    TORCH_CHECK(memory != nullptr, "not enough memory for a tensor of ", bytes, " bytes");
    const auto end = reinterpret_cast<uintptr_t>(memory) + sizeof(Header) + line;
    void* block = reinterpret_cast<void*>(end & ~(line - 1));  // the last line that begins before
    static_cast<Header*>(block)[-1] = {memory, bytes};
    raisePeak(allocated += static_cast<int64_t>(bytes));
    return {block, block, &release, at::kCPU};
  }
  static void raisePeak(int64_t now) {
    int64_t most = peak;
    while (now > most && !peak.compare_exchange_weak(most, now)) continue;
  }
  static void release(void* block) {
    if (block == nullptr) return;
    const auto [memory, bytes] = static_cast<Header*>(block)[-1];
    allocated -= static_cast<int64_t>(bytes);
    std::free(memory);
  }
  at::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

// Narrows on this thread to the dtype, or no more; the cache of narrowed weights goes with the
// mode.
void autocast(c10::Device device, std::optional<at::ScalarType> dtype) {
  if (dtype) {
    at::autocast::set_autocast_dtype(device.type(), *dtype);
  } else {
    at::autocast::clear_cache();
  }
  at::autocast::set_autocast_enabled(device.type(), dtype.has_value());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(rldf, library) {  // runs once a process, when the addon is loaded
  static CountingAllocator allocator;
  at::SetCPUAllocator(&allocator, 1);
  // Activations of megabytes would go back to the kernel after every operator and come back as page
  // faults: a third of a training step. Keep the heap instead. Few arenas: with one for each of the
  // threads that encode pictures, the resident memory of a long run creeps up by fragments, 5 % in
  // 1,000 updates. No list of unmerged small pieces: all would be merged whenever a large one is
  // freed.
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
  mallopt(M_MXFAST, 0);
#endif
  library.def("allocated_bytes() -> int", [] { return allocated.load(); });
  library.def("peak_bytes() -> int", [] { return peak.load(); });
  library.def("reset_peak_bytes() -> ()", [] { peak = allocated.load(); });
  library.def(
      "grad(Tensor[] outputs, Tensor[] inputs, Tensor[] gradients, bool retain, bool create, bool "
      "unused) -> Tensor[]",
      [](at::TensorList outputs, at::TensorList inputs, at::TensorList gradients, bool retain,
         bool create, bool unused) {
        return torch::autograd::grad(outputs.vec(), inputs.vec(), gradients.vec(), retain, create,
                                     unused);
      });
  library.def("grad_enabled() -> bool", &c10::GradMode::is_enabled);
  library.def("set_grad_enabled(bool on) -> ()", &c10::GradMode::set_enabled);
  library.def("autocast(Device device, ScalarType? dtype) -> ()", &autocast);
  library.def("threads() -> int", [] { return int64_t{at::get_num_threads()}; });
  library.def("set_threads(int threads) -> ()",
              [](int64_t threads) { at::set_num_threads(static_cast<int>(threads)); });
  library.def("cuda_devices() -> int",
              [] { return at::hasCUDA() ? static_cast<int64_t>(at::getNumGPUs()) : 0; });
  library.def("version() -> str", [] { return std::string(TORCH_VERSION); });
}
