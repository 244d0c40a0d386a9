// Ctrl-C and SIGTERM while an operator computes: JavaScript is not served then, so a handler of the
// system's sees to it. And standard output, which a module of the user's must not write to.
#include <atomic>
#include <csignal>

#include <fcntl.h>
#include <unistd.h>

#include <torch/library.h>

std::atomic<bool> stopAsked{false};  // addon.cc: the next operator on tensors throws, once

namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};
constexpr unsigned kSecondsToSave = 5;
std::atomic<int> received{0};
std::atomic<bool> watching{false}, stoppable{false};
struct sigaction before[2];  // libuv's, which tells JavaScript

[[noreturn]] void end(int signal) {
  constexpr char text[] = "\nrldf: ended at once\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text, sizeof text - 1);
  _exit(128 + signal);
}

// The first asks to stop; SIGTERM waits for that only where there is something to save, and not for
// long.
void handle(int signal, siginfo_t* info, void* context) {
  if (received.fetch_add(1) > 0 || (signal == SIGTERM && stoppable)) end(signal);
  if (signal == SIGTERM) alarm(kSecondsToSave);
  stopAsked = stoppable.load();
  const struct sigaction& old = before[signal == SIGTERM];
  if (old.sa_flags & SA_SIGINFO)
    old.sa_sigaction(signal, info, context);
  else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN)
    old.sa_handler(signal);
}

// May be called again, to change what is stoppable: whether there is nothing to save between two
// operators.
void watch(bool canStop) {
  stoppable = canStop;
  if (watching.exchange(true)) return;
  received = 0;
  struct sigaction own = {};
  own.sa_sigaction = handle;
  own.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&own.sa_mask);
  for (int i = 0; i < 2; i++) sigaction(kSignals[i], &own, &before[i]);
  signal(SIGALRM, [](int) { end(SIGTERM); });
}

void unwatch() {
  if (!watching.exchange(false)) return;
  stopAsked = false;
  for (int i = 0; i < 2; i++) sigaction(kSignals[i], &before[i], nullptr);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(rldf, library) {
  library.def("watch_signals(bool stoppable) -> ()", &watch);
  library.def("unwatch_signals() -> ()", &unwatch);
  // Whatever writes to standard output writes to standard error from now on; -> where standard
  // output is instead
  library.def("move_stdout() -> int", [] {
    const int moved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (moved >= 0) dup2(STDERR_FILENO, STDOUT_FILENO);
    return int64_t{moved};
  });
}
