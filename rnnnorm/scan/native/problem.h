// What is to be computed, as Python hands it over, and how it lies in memory.
//
// The G * H features of the gates are regrouped: block b holds lanes b * L ... of the first gate, then of the second and so
// on, so that all that one hidden unit needs lies together. These are `depth` = G * padded values, `padded` being H rounded
// up to whole vectors, and a row of gates has `width` of them, whole panels. Weights, gains and biases of the padding are 0,
// so nothing leaks out of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "cell.h"
#include "gemm.h"

enum Kind : int64_t { kNone = 0, kRow = 1, kColumn = 2, kConstant = 3, kSquash = 4 };

// One normalizer: y = gain * (x - mean) / sqrt(var + eps) + bias with moments by row or by column, y = gain * eps * x + bias
// by a constant, or y = gain * tanh(alpha * x) + bias.
struct Place {
  int64_t kind, groups, centered;
  int64_t own;              // steps before this one are normalized by moments of their own rows, the others by given ones
  double eps;
  double skipped;           // by column: variances up to this, in units of the type's precision, are rounding; or < 0
  const void *gain, *bias, *alpha;  // (F), (F), (1)
  const void *given_mean, *given_var;  // stored moments in torch's order, (T, F)
  void *mean, *var;         // moments of the rows themselves, likewise
  void *center, *scale;     // what was subtracted and divided by: (rows, groups) or (T, width)
  void *d_gain, *d_bias, *d_alpha;  // as above
};

struct Problem {
  int64_t T, N, I, H, P;        // h_t has P features: those of W_hr, or H
  int64_t start, stop;        // steps to run now
  int64_t observe;            // return the rows' own moments also where given ones are used
  int64_t save;               // keep every row for backward; otherwise rows of one step take turns
  int64_t carried, threads;
  int64_t nonlinearity;       // of an RNN
  double keep_h, keep_c;      // zoneout without masks: the share of the state before that is kept
  const int64_t* batch_sizes; // (T)
  const void *x, *W_ih, *W_hh, *bias, *bias_hn, *peepholes, *W_hr, *h_0, *c_0;
  const void* second_bias;    // of one step alone: (G * H), outside but for a GRU's candidate
  const void *length_ih, *length_hh;  // of one step alone: (G * H), the lengths that rows of W_ih and W_hh are meant to have
  const void *mask, *update, *zone_h, *zone_c;  // (B, H): factors of h_{t-1}; (N, H): of the update; 1: the old state stays
  void *out, *h_n, *c_n;      // (N, P), (B, P), (B, H)
  void *gates_x, *gates_h;    // (N, width): W_ih x where it must stand alone; W_hh h, or the sum
  void* cell_states;          // (N, padded): what `cell` normalizes: c_t, or the sum of a GRU's candidate
  void* carried_states;       // (N, padded): c_t as the next step sees it, where that is something else
  void* outputs;              // (N, padded): h_t before its normalizer
  void* masked;               // (N, H): h_{t-1} with its mask
  void* emitted;              // (N, padded): what W_hr reads
  Place input, hidden, joint, cell, output;
  const void *d_out, *d_h_n, *d_c_n;
  void *d_x, *d_W_ih, *d_W_hh, *d_bias, *d_bias_hn, *d_peepholes, *d_W_hr, *d_h_0, *d_c_0;
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
  template <typename T> T* take(int64_t count) {
    char* piece = base_ ? base_ + used_ : nullptr;
    const int64_t bytes = count * sizeof(T);
    used_ += (bytes + 127) / 128 * 128 + 384;
#ifdef __SANITIZE_ADDRESS__
    if (base_) __asan_poison_memory_region(piece + bytes, base_ + used_ - (piece + bytes));
#endif
    return reinterpret_cast<T*>(piece);
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

template <typename T> static int64_t panels(int64_t columns) { return (columns + kPanel<T> - 1) / kPanel<T>; }

// Values of one row per unit, and of one row of gates.
template <typename T> static int64_t padding(int64_t H) { return (H + L<T> - 1) / L<T> * L<T>; }
template <typename T> static int64_t row_of_gates(int64_t H) { return panels<T>(kGates * padding<T>(H)) * kPanel<T>; }

template <typename T> struct Shape {
  int64_t T_, B, N, I, H, P, blocks, padded, depth, width, pairs;
  const int64_t* sizes;
  V<T> mask{};  // 1 where the last block has units, 0 in the padding
  explicit Shape(const Problem& p)
      : T_(p.T), B(p.batch_sizes[0]), N(p.N), I(p.I), H(p.H), P(p.P), blocks((H + L<T> - 1) / L<T>), padded(padding<T>(H)),
        depth(kGates * padded), width(row_of_gates<T>(H)), pairs((blocks + 1) / 2), sizes(p.batch_sizes) {
    for (int64_t l = 0; l < lanes(blocks - 1); l++) mask[l] = 1;
  }
  int64_t lanes(int64_t block) const { return std::min<int64_t>(L<T>, H - block * L<T>); }
  int64_t size(int64_t t) const { return t < T_ ? sizes[t] : 0; }
};

// A vector over some gates in torch's order, regrouped; 0 in the padding.
template <typename T> static void regroup(const Shape<T>& s, const void* from, int gates, T* to) {
  const T* source = static_cast<const T*>(from);
  for (int64_t b = 0; b < s.blocks; b++)
    for (int gate = 0; gate < gates; gate++)
      for (int64_t l = 0; l < L<T>; l++)
        to[(b * gates + gate) * L<T> + l] = source && l < s.lanes(b) ? source[gate * s.H + b * L<T> + l] : T(0);
}

// The other way round, for row-major results.
template <typename T> static void ungroup(const Shape<T>& s, const T* from, int gates, T* to) {
  for (int64_t b = 0; b < s.blocks; b++)
    for (int gate = 0; gate < gates; gate++)
      std::memcpy(to + gate * s.H + b * L<T>, from + (b * gates + gate) * L<T>, s.lanes(b) * sizeof(T));
}

// W (G * H, K) as panels over the regrouped gates: panel p, depth k, column of the panel.
template <typename T>
static void pack_gates(const Shape<T>& s, const T* W, int64_t K, T* to, int64_t first, int64_t last) {
  for (int64_t p = first; p < last; p++)
    for (int v = 0; v < kPanelVectors; v++) {
      const int64_t vector = p * kPanelVectors + v, b = vector / kGates, gate = vector % kGates, lanes = s.lanes(b);
      T* base = to + p * K * kPanel<T> + v * L<T>;
      for (int64_t l = 0; l < L<T>; l++) {
        const bool padding = l >= lanes;
        const T* row = W + (padding ? 0 : (gate * s.H + b * L<T> + l) * K);
        for (int64_t k = 0; k < K; k++) base[k * kPanel<T> + l] = padding ? T(0) : row[k];
      }
    }
}

// W (G * H, K) as panels over its K columns, whose depth runs over the regrouped gates.
template <typename T>
static void pack_columns(const Shape<T>& s, const T* W, int64_t K, T* to, int64_t first, int64_t last) {
  for (int64_t p = first; p < last; p++) {
    const int64_t columns = std::min<int64_t>(kPanel<T>, K - p * kPanel<T>);
    for (int64_t j = 0; j < s.depth; j++) {
      const int64_t b = j / (kGates * L<T>), gate = j / L<T> % kGates, l = j % L<T>;
      T* row = to + (p * s.depth + j) * kPanel<T>;
      const bool padding = l >= s.lanes(b);
      const T* source = W + (padding ? 0 : (gate * s.H + b * L<T> + l) * K) + p * kPanel<T>;
      for (int64_t i = 0; i < kPanel<T>; i++) row[i] = padding || i >= columns ? T(0) : source[i];
    }
  }
}

struct Span {
  int64_t first, last;
};
// The share of thread `me` of `n` in 0 ... count - 1.
inline Span share(int64_t count, int me, int n) { return {count * me / n, count * (me + 1) / n}; }
