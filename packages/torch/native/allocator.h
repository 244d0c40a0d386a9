// The process's memory for CPU tensors: bounded by the machine, counted, and kept instead of handed back to the kernel.
#pragma once

#include <atomic>
#include <climits>
#include <cstdint>

#ifdef __APPLE__
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif
#include <unistd.h>

#include <c10/core/CPUAllocator.h>

namespace rldf {

// Bytes of all CPU tensors, those inside the autograd graph and inside operators included; and the most there were.
inline std::atomic<int64_t> allocated{0}, peak{0};

// What the heap set aside for a block: its size need not be remembered to be known when it is freed.
inline int64_t sizeOf(void* block) {
#ifdef __APPLE__
  return static_cast<int64_t>(malloc_size(block));
#else
  return static_cast<int64_t>(malloc_usable_size(block));
#endif
}

struct CountingAllocator final : at::Allocator {
  static inline at::Allocator* const inner = at::GetCPUAllocator();
  size_t limit = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));

  // A tensor larger than the machine's memory is an error, not an allocation that the kernel grants and kills us for later.
  at::DataPtr allocate(size_t bytes) override {
    TORCH_CHECK(bytes <= limit, "a tensor of ", bytes, " bytes was asked for, but this machine has ", limit, " bytes of memory");
    at::DataPtr data = inner->allocate(bytes);
    if (!data.compare_exchange_deleter(inner->raw_deleter(), &release)) return data;  // counted only if its end is seen
    const int64_t now = allocated += sizeOf(data.get());
    for (int64_t most = peak; now > most && !peak.compare_exchange_weak(most, now);) {
    }
    return data;
  }
  static void release(void* block) {
    allocated -= sizeOf(block);
    inner->raw_deleter()(block);
  }
  at::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { inner->copy_data(to, from, bytes); }
};

inline void boundAllocations() {
  static CountingAllocator allocator;  // one a process, for all environments
  static const bool installed = (at::SetCPUAllocator(&allocator, 1), true);
  static_cast<void>(installed);
}

// Activations of megabytes would go back to the kernel after every operator and come back as page faults: a third
// of a training step. Keep the heap instead. Few arenas: with one for each of the threads that encode pictures, the
// resident memory of a long run creeps up by fragments, 5 % in 1,000 updates.
inline void keepHeap() {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

}  // namespace rldf
