// What is to be computed, as Python hands it over, and how it lies in memory.
//
// The 4H features of the gates are regrouped: block b holds lanes b * L ... of i, then of f, g and o, so that all that
// one hidden unit needs lies together. A row of gates has `width` = 4 * padded values, `padded` being H rounded up to
// whole vectors; weights, gains and biases of the padding are 0, so nothing leaks out of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "gemm.h"

enum Kind : int64_t { kNone = 0, kRow = 1, kColumn = 2 };

// One normalizer, y = gain * (x - mean) / sqrt(var + eps) + bias.
struct Place {
  int64_t kind, groups, centered;
  double eps;
  const void *gain, *bias;  // (F)
  const void *given_mean, *given_var;  // stored moments in torch's order, (T, F)
  void *mean, *var;         // moments of the rows themselves, likewise
  void *center, *scale;     // what was subtracted and divided by: (rows, groups) or (T, width)
  void *d_gain, *d_bias;    // (F)
};

struct Problem {
  int64_t T, N, I, H;
  int64_t start, stop;        // steps to run now
  int64_t own;                // steps before this one are normalized by moments of their own rows, the others by given ones
  int64_t observe;            // return the rows' own moments also where given ones are used
  int64_t save;               // keep every row for backward; otherwise rows of one step take turns
  int64_t carried, threads;
  const int64_t* batch_sizes; // (T)
  const void *x, *W_ih, *W_hh, *bias, *h_0, *c_0;
  void *out, *h_n, *c_n;      // (N, H), (B, H), (B, H)
  void *gates_x, *gates_h;    // (N, width): W_ih x where it must stand alone; W_hh h, or the sum
  void* cell_states;          // (N, padded): c_t before its normalizer
  Place input, hidden, joint, cell;
  const void *d_out, *d_h_n, *d_c_n;
  void *d_x, *d_W_ih, *d_W_hh, *d_bias, *d_h_0, *d_c_0;
  void* workspace;
};

// Hands out aligned pieces of one block of memory; without a block it only counts. Pieces are apart by an odd number of
// lines: arrays that begin at the same place of a page push each other out of the cache. What is between them is out of
// bounds for a sanitizer. Nothing overflows: each count is that of numbers that exist already, times at most the threads.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
#ifdef __SANITIZE_ADDRESS__
  ~Arena() {
    if (base_) __asan_unpoison_memory_region(base_, used_);
  }
#endif
  template <typename T> T* take(long count) {
    char* piece = base_ ? base_ + used_ : nullptr;
    const long bytes = count * sizeof(T);
    used_ += (bytes + 127) / 128 * 128 + 384;
#ifdef __SANITIZE_ADDRESS__
    if (base_) __asan_poison_memory_region(piece + bytes, base_ + used_ - (piece + bytes));
#endif
    return reinterpret_cast<T*>(piece);
  }
  long used() const { return used_; }

 private:
  char* base_;
  long used_ = 0;
};

template <typename T> struct Shape {
  long T_, B, N, I, H, blocks, padded, width, pairs;
  const int64_t* sizes;
  V<T> mask{};  // 1 where the last block has units, 0 in the padding
  explicit Shape(const Problem& p)
      : T_(p.T), B(p.batch_sizes[0]), N(p.N), I(p.I), H(p.H), blocks((H + L<T> - 1) / L<T>), padded(blocks * L<T>),
        width(4 * padded), pairs((blocks + 1) / 2), sizes(p.batch_sizes) {
    for (long l = 0; l < lanes(blocks - 1); l++) mask[l] = 1;
  }
  long lanes(long block) const { return std::min<long>(L<T>, H - block * L<T>); }
  long size(long t) const { return t < T_ ? sizes[t] : 0; }
};

template <typename T> static long panels(long columns) { return (columns + kPanel<T> - 1) / kPanel<T>; }

// A vector over the gates in torch's order (4H) or over the units (H), regrouped; 0 in the padding.
template <typename T> static void regroup(const Shape<T>& s, const void* from, int gates, T* to) {
  const T* source = static_cast<const T*>(from);
  for (long b = 0; b < s.blocks; b++)
    for (int gate = 0; gate < gates; gate++)
      for (long l = 0; l < L<T>; l++)
        to[(b * gates + gate) * L<T> + l] = source && l < s.lanes(b) ? source[gate * s.H + b * L<T> + l] : T(0);
}

// The other way round, for row-major results.
template <typename T> static void ungroup(const Shape<T>& s, const T* from, int gates, T* to) {
  for (long b = 0; b < s.blocks; b++)
    for (int gate = 0; gate < gates; gate++)
      std::memcpy(to + gate * s.H + b * L<T>, from + (b * gates + gate) * L<T>, s.lanes(b) * sizeof(T));
}

// W (4H, K) as panels over the regrouped gates: panel p, depth k, column of the panel.
template <typename T>
static void pack_gates(const Shape<T>& s, const T* W, long K, T* to, long first, long last) {
  for (long p = first; p < last; p++)
    for (int v = 0; v < kPanelVectors; v++) {
      const long vector = p * kPanelVectors + v, b = vector / 4, gate = vector % 4, lanes = s.lanes(b);
      T* base = to + p * K * kPanel<T> + v * L<T>;
      for (long l = 0; l < L<T>; l++) {
        const bool padding = l >= lanes;
        const T* row = W + (padding ? 0 : (gate * s.H + b * L<T> + l) * K);
        for (long k = 0; k < K; k++) base[k * kPanel<T> + l] = padding ? T(0) : row[k];
      }
    }
}

// W (4H, K) as panels over its K columns, whose depth runs over the regrouped gates.
template <typename T>
static void pack_columns(const Shape<T>& s, const T* W, long K, T* to, long first, long last) {
  for (long p = first; p < last; p++) {
    const long columns = std::min<long>(kPanel<T>, K - p * kPanel<T>);
    for (long j = 0; j < s.width; j++) {
      const long b = j / (4 * L<T>), gate = j / L<T> % 4, l = j % L<T>;
      T* row = to + (p * s.width + j) * kPanel<T>;
      const bool padding = l >= s.lanes(b);
      const T* source = W + (padding ? 0 : (gate * s.H + b * L<T> + l) * K) + p * kPanel<T>;
      for (long i = 0; i < kPanel<T>; i++) row[i] = padding || i >= columns ? T(0) : source[i];
    }
  }
}

struct Span {
  long first, last;
};
// The share of thread `me` of `n` in 0 ... count - 1.
inline Span share(long count, int me, int n) { return {count * me / n, count * (me + 1) / n}; }
