// Gradients of weight matrices: products over packed rows, some rows at a time while they are still in the cache.
#pragma once

#include "problem.h"

// Values of a chunk of gradients with some rows: `add_products` may read some behind it, and the next one begins with a vector.
template <typename T> static int64_t chunk_of(int64_t rows, int64_t stride) { return (rows * stride + kTileRows + L<T> - 1) / L<T> * L<T>; }

// Rows of what `depth` features are made of, packed, and the gradient of the weights so far: one for all threads, or one
// for each, which are added up in the end.
template <typename T> struct Weights {
  int64_t K, depth, panels, vectors;
  int copies;
  int64_t packed_size, total_size;
  T *packed, *total;  // (panels, rows, kPanel); (depth, panels * kPanel)

  Weights(int64_t columns, int64_t rows, int64_t capacity, int count, Arena& arena)
      : K(columns), depth(rows), panels(::panels<T>(columns)), vectors((columns + L<T> - 1) / L<T>), copies(count),
        packed_size(panels * kPanel<T> * capacity + L<T>), total_size(depth * panels * kPanel<T> + L<T>) {
    packed = arena.take<T>(copies * packed_size), total = arena.take<T>(copies * total_size);
  }
  Weights copy(int64_t which) const {
    Weights of = *this;
    of.packed += which * packed_size, of.total += which * total_size;
    return of;
  }

  // `input(k)` is the k-th of these rows; threads share the panels.
  template <typename Input> void pack(Input&& input, int64_t rows, int me, int threads) {
    const Span mine = share(panels, me, threads);
    for (int64_t k = 0; k < rows; k++) {
      const T* row = input(k);
      for (int64_t p = mine.first; p < mine.last; p++) {
        const int64_t columns = std::min<int64_t>(kPanel<T>, K - p * kPanel<T>);
        T* at = packed + (p * rows + k) * kPanel<T>;
        if (columns == kPanel<T>) {
          std::memcpy(at, row + p * kPanel<T>, sizeof(T) * kPanel<T>);
          continue;
        }
        for (int64_t i = 0; i < kPanel<T>; i++) at[i] = i < columns ? row[p * kPanel<T> + i] : T(0);
      }
    }
  }

  // Adds the first `count` copies up, in their order.
  void add_up(int count, Span features) const {
    const int64_t first = features.first * panels * kPanel<T>, last = features.last * panels * kPanel<T>;
    for (int i = 1; i < count; i++)
      for (int64_t j = first; j < last; j += L<T>) store(total + j, load(total + j) + load(total + i * total_size + j));
  }
  // The gradient in torch's order, (G * H, K).
  void give(const Shape<T>& s, T* to, int me, int threads, int count) const {
    const Span mine = share(depth, me, threads);
    add_up(count, mine);
    for (int64_t j = mine.first; j < mine.last; j++) {
      const int64_t b = j / (kGates * L<T>), gate = j / L<T> % kGates, l = j % L<T>;
      if (l < s.lanes(b)) std::memcpy(to + (gate * s.H + b * L<T> + l) * K, total + j * panels * kPanel<T>, K * sizeof(T));
    }
  }
  // Likewise (depth, K), where the features were in torch's order all along.
  void give(T* to, int me, int threads, int count) const {
    const Span mine = share(depth, me, threads);
    add_up(count, mine);
    for (int64_t j = mine.first; j < mine.last; j++) std::memcpy(to + j * K, total + j * panels * kPanel<T>, K * sizeof(T));
  }
};

// total += d^T packed for up to two inputs of the same features, rows of which are `width` apart; threads share the features. `tile` has room for
// kTileRows * kDepth values, and kTileRows values behind `d` may be read.
template <typename T>
static void add_products(int64_t width, const T* d, int64_t rows, Weights<T>* const* inputs, int count, bool first,
                         T* tile, int me, int threads) {
  const Span mine = share(inputs[0]->depth, me, threads);
  const int64_t parts = (mine.last - mine.first + kTileRows - 1) / kTileRows;
  for (int64_t k = 0; k < rows; k += kDepth) {
    const int64_t depth = std::min(kDepth, rows - k);
    for (int64_t part = 0, m = mine.first; part < parts; part++) {
      const int64_t height = (mine.last - m + parts - part - 1) / (parts - part);
      for (int64_t i = 0; i < depth; i++)
        std::memcpy(tile + i * kTileRows, d + (k + i) * width + m, kTileRows * sizeof(T));
      for (int which = 0; which < count; which++) {
        const Weights<T>& input = *inputs[which];
        const int64_t columns = input.panels * kPanel<T>;
        for (int64_t p = 0; p < input.panels; p++)
          tile_of<T>(height, p, input.vectors)(depth, tile, 1, kTileRows, input.packed + (p * rows + k) * kPanel<T>,
                                               input.total + m * columns + p * kPanel<T>, columns, !(first && k == 0),
                                               input.packed + ((p + 1) * rows + k) * kPanel<T>);
      }
      m += height;
    }
  }
}
