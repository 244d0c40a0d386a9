// Processes that compute together: the store of PyTorch's c10d, where they meet, and the group that
// its collectives name. Those are operators themselves (_c10d_functional::all_reduce_ and others).
#define USE_C10D_GLOO
#include <cstdlib>

#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#include <torch/library.h>

namespace {

using std::chrono::milliseconds;
using Gloo = c10d::ProcessGroupGloo;

// never destroyed: a process ends without waiting for a collective
auto& store = *new c10::intrusive_ptr<c10d::Store>;         // under the prefix of this attempt
auto& group = *new c10::intrusive_ptr<c10d::ProcessGroup>;  // the registry only points at it

// -> the port, which the system chooses for port 0
int64_t openStore(const std::string& host, int64_t port, bool serves, const std::string& prefix,
                  int64_t timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = serves;
  options.waitWorkers = false;
  options.timeout = milliseconds(timeout);
  const auto tcp = c10::make_intrusive<c10d::TCPStore>(host, options);
  store = c10::make_intrusive<c10d::PrefixStore>(prefix, tcp);
  return tcp->getPort();
}

auto& opened() {
  TORCH_CHECK(store, "call open_store first");
  return store;
}

// Gloo binds to the interface that the environment names, as in Python; else to the address `host`;
// else to that of this machine's name. All have come: connecting takes seconds, and who ends now is
// not waited for longer. -> whether tensors on GPUs go over NCCL
bool openGroup(const std::string& name, int64_t rank, int64_t size, const std::string& host,
               int64_t timeout, bool nccl) {
  const auto of = [&](const char* kind) {
    return c10::make_intrusive<c10d::PrefixStore>(name + kind, opened());
  };
  const int at = static_cast<int>(rank), all = static_cast<int>(size);
  group = c10::make_intrusive<c10d::ProcessGroup>(of("/group"), at, all);
  auto gloo =
      Gloo::Options::create(std::min(milliseconds(timeout), milliseconds(5000 + 50 * size)));
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  gloo->devices.push_back(interface      ? Gloo::createDeviceForInterface(interface)
                          : host.empty() ? Gloo::createDefaultDevice()
                                         : Gloo::createDeviceForHostname(host));
  using Kind = c10d::ProcessGroup::BackendType;
  const auto backend = c10::make_intrusive<Gloo>(of("/gloo"), at, all, gloo);
  backend->setTimeout(milliseconds(timeout));
  group->setBackend(c10::kCPU, Kind::GLOO, backend);
  opened()->setTimeout(milliseconds(timeout));  // NCCL's ranks meet there with their first tensor
#ifdef USE_C10D_NCCL
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = milliseconds(timeout);
  if (nccl)
    group->setBackend(c10::kCUDA, Kind::NCCL,
                      c10::make_intrusive<c10d::ProcessGroupNCCL>(of("/nccl"), at, all, options));
#else
  nccl = false;
#endif
  group->setDefaultBackend(nccl ? Kind::NCCL : Kind::GLOO);
  group->setGroupName(name);
  c10d::register_process_group(name, group);
  return nccl;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(rldf, library) {
  library.def("open_store(str host, int port, bool serves, str prefix, int timeout) -> int",
              &openStore);
  library.def("store_set(str key, str value) -> ()",
              [](const std::string& key, const std::string& value) { opened()->set(key, value); });
  library.def("store_get(str key) -> str?", [](const std::string& key) {
    return opened()->check({key}) ? std::optional(opened()->get_to_str(key)) : std::nullopt;
  });
  library.def("open_group(str name, int rank, int size, str host, int timeout, bool nccl) -> bool",
              &openGroup);
  library.def("close_group(str name) -> ()", [](const std::string& name) {
    c10d::unregister_process_group(name);
    group.reset();
    store.reset();
  });
}
