// Where the threads of a team wait for each other. OpenMP's own barrier keeps a processor busy for milliseconds while it
// waits for a thread that another process has put to sleep, and which could have run there.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(SYS_futex) && defined(FUTEX_WAIT_PRIVATE)
#define RNNNORM_FUTEX 1
#endif

constexpr auto kPatience = std::chrono::microseconds(50);  // several times what threads of equal work differ by

// Tells the processor that this thread only waits.
static inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Barrier {
 public:
  // Returns when `threads` threads have called it.
  void wait(int threads) {
    if (threads < 2) return;
    const int32_t before = round.load(std::memory_order_acquire);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived.store(0, std::memory_order_relaxed);
      round.store(before + 1);  // in one order with `asleep`: either it is seen here, or the new round is seen there
      if (asleep.load()) wake();
      return;
    }
    const auto until = std::chrono::steady_clock::now() + kPatience;
    do {
      for (int k = 0; k < 64; k++) {
        if (round.load(std::memory_order_acquire) != before) return;
        relax();
      }
    } while (std::chrono::steady_clock::now() < until);
    asleep.fetch_add(1);
    while (round.load() == before) sleep(before);
    asleep.fetch_sub(1);
  }

 private:
  std::atomic<int32_t> round{0}, arrived{0}, asleep{0};

#ifdef RNNNORM_FUTEX
  // As long as no round has ended since.
  void sleep(int32_t before) { syscall(SYS_futex, &round, FUTEX_WAIT_PRIVATE, before, nullptr, nullptr, 0); }
  void wake() { syscall(SYS_futex, &round, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0); }
#else
  void sleep(int32_t) { std::this_thread::yield(); }
  void wake() {}
#endif
};
