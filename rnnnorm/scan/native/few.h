// Gradients of W_ih and of x where x has few columns: whole panels would be almost empty.
#pragma once

#include "problem.h"

constexpr int kFew = kTileRows < 8 ? kTileRows : 8;  // as many columns at most

// W_ih (G * H, I) with its columns as rows over the regrouped gates, and its gradient so far likewise; (I, width).
template <typename T> struct FewColumns {
  const Shape<T>& s;
  int64_t I;  // 0: there are many, and this stays empty
  int64_t size;  // of one gradient; each thread may have one, which are added up in the end
  T *weights, *total;

  FewColumns(const Shape<T>& shape, int copies, Arena& arena)
      : s(shape), I(shape.I <= kFew ? shape.I : 0), size(I * s.width + kPanel<T>), weights(arena.take<T>(I * s.width)),
        total(arena.take<T>(copies * size)) {}

  void prepare(const T* W, int me, int threads) {  // threads share the blocks
    const Span mine = share(s.blocks, me, threads);
    for (int64_t b = mine.first; b < mine.last; b++)
      for (int64_t i = 0; i < I; i++)
        for (int gate = 0; gate < kGates; gate++)
          for (int64_t l = 0; l < L<T>; l++)
            weights[i * s.width + (b * kGates + gate) * L<T> + l] = l < s.lanes(b) ? W[(gate * s.H + b * L<T> + l) * I + i] : T(0);
  }

  // d_x = d_gates W_ih, for rows of gates `width` apart, into rows of x `stride` apart.
  void inputs(const T* d_gates, int64_t rows, T* d_x, int64_t stride) const {
    for (int64_t r = 0; r < rows; r++) {
      const T* d = d_gates + r * s.width;
      for (int64_t i = 0; i < I; i++) {
        const T* w = weights + i * s.width;
        V<T> a{}, b{}, c{}, e{};  // four sums at a time, since each addition waits for the one before
        int64_t j = 0;
        for (; j + 4 * L<T> <= s.depth; j += 4 * L<T>) {
          a += load(d + j) * load(w + j), b += load(d + j + L<T>) * load(w + j + L<T>);
          c += load(d + j + 2 * L<T>) * load(w + j + 2 * L<T>), e += load(d + j + 3 * L<T>) * load(w + j + 3 * L<T>);
        }
        for (; j < s.depth; j += L<T>) a += load(d + j) * load(w + j);
        d_x[r * stride + i] = sum<T>((a + b) + (c + e));
      }
    }
  }

  // The `copy`-th total (+)= x^T d_gates, for rows of x `stride` apart; threads share the gates.
  void add(const T* x, int64_t stride, const T* d_gates, int64_t rows, bool first, int64_t copy, int me, int threads) {
    static constexpr auto kSums = sums(std::make_index_sequence<kFew>());
    const Span mine = share(s.width / kPanel<T>, me, threads);
    for (int64_t p = mine.first; p < mine.last; p++)
      kSums[I - 1](rows, x, stride, d_gates + p * kPanel<T>, s.width, total + copy * size + p * kPanel<T>, !first);
  }

  // The gradient in torch's order, (G * H, I).
  void give(T* to, int me, int threads, int count) const {
    const Span mine = share(s.depth, me, threads);
    for (int64_t j = mine.first; j < mine.last; j++) {
      const int64_t b = j / (kGates * L<T>), gate = j / L<T> % kGates, l = j % L<T>;
      if (l < s.lanes(b))
        for (int64_t i = 0; i < I; i++) {
          T sum = total[i * s.width + j];
          for (int k = 1; k < count; k++) sum += total[k * size + i * s.width + j];
          to[(gate * s.H + b * L<T> + l) * I + i] = sum;
        }
    }
  }

 private:
  template <int Columns>
  static void sum_rows(int64_t rows, const T* x, int64_t stride, const T* d_gates, int64_t width, T* total, bool add) {
    V<T> acc[Columns][kPanelVectors];
#pragma GCC unroll 8
    for (int i = 0; i < Columns; i++)
#pragma GCC unroll 4
      for (int v = 0; v < kPanelVectors; v++) acc[i][v] = add ? load(total + i * width + v * L<T>) : V<T>{};
    for (int64_t r = 0; r < rows; r++) {
#pragma GCC unroll 4
      for (int v = 0; v < kPanelVectors; v++) {
        const V<T> d = load(d_gates + r * width + v * L<T>);
#pragma GCC unroll 8
        for (int i = 0; i < Columns; i++) acc[i][v] += d * x[r * stride + i];
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < Columns; i++)
#pragma GCC unroll 4
      for (int v = 0; v < kPanelVectors; v++) store(total + i * width + v * L<T>, acc[i][v]);
  }
  using Sum = void (*)(int64_t, const T*, int64_t, const T*, int64_t, T*, bool);
  template <size_t... C> static constexpr std::array<Sum, kFew> sums(std::index_sequence<C...>) {
    return {sum_rows<C + 1>...};
  }
};
