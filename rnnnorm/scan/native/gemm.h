// Products of row-major matrices with a matrix that was packed into panels beforehand.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "vector.h"

constexpr int kPanelVectors = 2;
constexpr int kTileRows = (kRegisters - 4) / kPanelVectors;  // accumulators, one row of the panel and a broadcast fit
template <typename T> constexpr int kPanel = kPanelVectors * L<T>;

constexpr int kLine = 64;  // bytes that the cache fetches at once

// c (rows, panel) = [c +] a (rows, K) * b (K, panel), a's entry (m, k) at a[m * a_row + k * a_col]. Of a panel's vectors
// only the first may be wanted. K lines from `next` on are fetched meanwhile.
template <typename T, int Rows, int Vectors>
static void tile(int64_t K, const T* a, int64_t a_row, int64_t a_col, const T* b, T* c, int64_t ldc, bool add, const T* next) {
  V<T> acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int m = 0; m < Rows; m++)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; v++) acc[m][v] = add ? load(c + m * ldc + v * L<T>) : V<T>{};
  for (int64_t k = 0; k < K; k++) {
    __builtin_prefetch(reinterpret_cast<const char*>(next) + k * kLine, 0, 2);
    V<T> row[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; v++) row[v] = load(b + k * kPanel<T> + v * L<T>);
#pragma GCC unroll 16
    for (int m = 0; m < Rows; m++)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; v++) acc[m][v] += row[v] * a[m * a_row + k * a_col];
  }
#pragma GCC unroll 16
  for (int m = 0; m < Rows; m++)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; v++) store(c + m * ldc + v * L<T>, acc[m][v]);
}

template <typename T> using Tile = void (*)(int64_t, const T*, int64_t, int64_t, const T*, T*, int64_t, bool, const T*);
template <typename T, int Vectors, size_t... R> constexpr std::array<Tile<T>, sizeof...(R)> tiles(std::index_sequence<R...>) {
  return {tile<T, R + 1, Vectors>...};
}
static_assert(kPanelVectors == 2, "a panel is whole or half");
template <typename T> constexpr std::array<Tile<T>, kTileRows> kTiles[] = {
    tiles<T, 1>(std::make_index_sequence<kTileRows>()), tiles<T, 2>(std::make_index_sequence<kTileRows>())};

// The kernel for some rows of panel p of a matrix of `vectors`.
template <typename T> Tile<T> tile_of(int64_t rows, int64_t p, int64_t vectors) {
  return kTiles<T>[vectors - p * kPanelVectors > 1][rows - 1];
}
// Where a product that goes through a chunk of a panel in `parts` parts reads ahead during one of them: the following chunk.
template <typename T> const T* ahead(const T* chunk, int64_t depth, int64_t part) {
  const int64_t values = depth * kPanel<T>, at = part * depth * int64_t(kLine / sizeof(T));
  return at < values ? chunk + values + at : chunk;
}

// Rows of a matrix as the products below see them.
template <typename T> struct Rows {
  T* data;
  int64_t stride;
  int64_t count;
};

constexpr int64_t kDepth = 512;  // rows of a panel that stay in the caches while a block of rows passes by

// One of the products that are added up: a (rows, K) times b, of which each panel holds K * kPanel values.
template <typename T> struct Factors {
  Rows<const T> a;
  int64_t K;
  const T* b;
};

// c[:, panels first..last) = sum of products, of matrices with so many vectors of columns; what is behind the last of them
// is not touched. A panel of c is finished before the next one is begun.
template <typename T, size_t Count>
static void multiply(const Factors<T> (&factors)[Count], int64_t first, int64_t last, int64_t vectors, Rows<T> c) {
  if (c.count == 0) return;
  const int64_t parts = (c.count + kTileRows - 1) / kTileRows;
  for (int64_t p = first; p < last; p++) {
    bool add = false;
    for (const Factors<T>& f : factors)
      for (int64_t k = 0; k < f.K; k += kDepth) {
        const int64_t depth = std::min(kDepth, f.K - k);
        for (int64_t part = 0, m = 0; part < parts; part++) {
          const int64_t rows = (c.count - m + parts - part - 1) / (parts - part);  // tiles of nearly the same height
          const T* chunk = f.b + (p * f.K + k) * kPanel<T>;
          tile_of<T>(rows, p, vectors)(depth, f.a.data + m * f.a.stride + k, f.a.stride, 1, chunk,
                                       c.data + m * c.stride + p * kPanel<T>, c.stride, add, ahead(chunk, depth, part));
          m += rows;
        }
        add = true;
      }
  }
}
