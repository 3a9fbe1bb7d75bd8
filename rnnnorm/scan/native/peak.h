// The processor's speed of multiplying and adding, as no product of matrices can exceed it: the tile of gemm.h without
// its matrices.
#pragma once

#include "gemm.h"

// Multiplies and adds count numbers, shared among the threads, in registers alone.
template <typename T> static T multiply_and_add(int64_t count, int threads) {
  constexpr int64_t kAtOnce = int64_t(kTileRows) * kPanelVectors * L<T>;
  const int64_t rounds = (count / kAtOnce + threads - 1) / threads;
  T sum = 0;
#ifdef _OPENMP
#pragma omp parallel num_threads(threads) reduction(+ : sum)
#endif
  {
    V<T> acc[kTileRows][kPanelVectors] = {};
    V<T> row[kPanelVectors];
    for (int v = 0; v < kPanelVectors; v++) row[v] = splat(T(0.5));
    T factor[kTileRows];
    for (int m = 0; m < kTileRows; m++) factor[m] = T(0.5);
    for (int64_t k = 0; k < rounds; k++) {
      // The compiler must not know what is multiplied, or it would do so once.
      asm volatile("" : "+m"(row), "+m"(factor));
#pragma GCC unroll 16
      for (int m = 0; m < kTileRows; m++)
#pragma GCC unroll 4
        for (int v = 0; v < kPanelVectors; v++) acc[m][v] += row[v] * factor[m];
    }
    V<T> all{};
#pragma GCC unroll 16
    for (int m = 0; m < kTileRows; m++)
#pragma GCC unroll 4
      for (int v = 0; v < kPanelVectors; v++) all += acc[m][v];
    sum += all[0];
  }
  return sum;
}
