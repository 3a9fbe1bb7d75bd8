// h_t = W_hr m_t, of what a cell emits, and its gradients. Threads share them as they share the other products.
#pragma once

#include "step.h"
#include "weights.h"

template <typename T> struct Projection {
  const Scan<T>& scan;
  const Problem& p;
  const Shape<T>& s;
  int64_t panels, vectors, stride;  // of P values: whole panels, vectors, values of the panels

  explicit Projection(const Scan<T>& of)
      : scan(of), p(of.p), s(of.s), panels(p.W_hr ? ::panels<T>(s.P) : 0), vectors((s.P + L<T> - 1) / L<T>), stride(panels * kPanel<T>) {}

  Span own(const Part<T>& part) const { return part.products_by_column ? share(panels, part.me, part.threads) : Span{0, panels}; }
  T* emitted(int64_t t) const { return static_cast<T*>(p.emitted) + scan.begin(t) * s.padded; }

  // Those of the P values of a row that a thread has, for each row of `count` that it has.
  template <typename Work> void each(const Part<T>& part, int64_t count, Work&& work) const {
    const Span mine = own(part);
    const int64_t first = std::min(mine.first * kPanel<T>, s.P), values = std::min(mine.last * kPanel<T>, s.P) - first;
    for (int64_t r = part.product_first; r < count; r += part.product_step) work(r, first, values);
  }
};

template <typename T> struct ProjectionForward : Projection<T> {
  using Projection<T>::p, Projection<T>::s, Projection<T>::stride;
  T *packed, *rows;  // W_hr as panels over its rows; (B, stride)

  ProjectionForward(const Scan<T>& of, Arena& arena)
      : Projection<T>(of), packed(arena.take<T>(stride * s.H)), rows(arena.take<T>(s.B * stride)) {}

  void prepare(int me, int threads) {
    const Span mine = share(this->panels, me, threads);
    const T* W = static_cast<const T*>(p.W_hr);
    for (int64_t panel = mine.first; panel < mine.last; panel++)
      for (int64_t i = 0, j = panel * kPanel<T>; i < kPanel<T>; i++, j++)
        for (int64_t k = 0; k < s.H; k++) packed[(panel * s.H + k) * kPanel<T> + i] = j < s.P ? W[j * s.H + k] : T(0);
  }

  // h_t, once all of m_t is there; and h_n of the sequences that end.
  void step(const Part<T>& part, int64_t t) {
    const Span mine = this->own(part);
    const Rows<const T> m = part.rows(static_cast<const T*>(this->emitted(t)), s.padded, s.size(t));
    multiply<T>({Factors<T>{m, s.H, packed}}, mine.first, mine.last, this->vectors, part.rows(rows, stride, s.size(t)));
    this->each(part, s.size(t), [&](int64_t r, int64_t first, int64_t values) {
      const T* from = rows + r * stride + first;
      std::memcpy(this->scan.out(t) + r * s.P + first, from, values * sizeof(T));
      if (r >= s.size(t + 1)) std::memcpy(static_cast<T*>(p.h_n) + r * s.P + first, from, values * sizeof(T));
    });
  }
};

template <typename T> struct ProjectionBackward : Projection<T> {
  using Projection<T>::p, Projection<T>::s, Projection<T>::stride;
  T *packed, *d_h, *chunks;  // W_hr as panels over its columns; (B, stride): what later steps say; gradients of some steps' h_t
  int64_t chunk_size;
  Weights<T> of_hr;

  ProjectionBackward(const Scan<T>& of, int64_t capacity, int copies, Arena& arena)
      : Projection<T>(of), packed(arena.take<T>(units() * kPanel<T> * s.P)), d_h(arena.take<T>(s.B * stride)),
        chunk_size(p.W_hr ? chunk_of<T>(capacity, stride) : 0), of_hr(p.W_hr ? s.H : 0, s.P, capacity, copies, arena) {
    chunks = arena.take<T>(copies * chunk_size);
  }
  T* chunk(const Part<T>& part) const { return chunks + (part.apart ? part.me * chunk_size : 0); }

  int64_t units() const { return p.W_hr ? s.pairs : 0; }  // panels over H

  void prepare(int me, int threads) {
    const Span mine = share(units(), me, threads);
    const T* W = static_cast<const T*>(p.W_hr);
    for (int64_t panel = mine.first; panel < mine.last; panel++)
      for (int64_t k = 0; k < s.P; k++)
        for (int64_t i = 0, j = panel * kPanel<T>; i < kPanel<T>; i++, j++)
          packed[(panel * s.P + k) * kPanel<T> + i] = j < s.H ? W[k * s.H + j] : T(0);
  }

  // The gradient of h_t: from later steps, from the output, and from the last states where sequences end.
  void arrive(const Part<T>& part, int64_t t) {
    const T *out = static_cast<const T*>(p.d_out), *h_n = static_cast<const T*>(p.d_h_n);
    this->each(part, s.size(t), [&](int64_t r, int64_t first, int64_t values) {
      T* to = chunk(part) + part.in_chunk(t, r) * stride + first;
      const T* from = r < s.size(t + 1) ? d_h + r * stride + first : h_n ? h_n + r * s.P + first : nullptr;
      if (from) std::memcpy(to, from, values * sizeof(T));
      else std::fill(to, to + values, T(0));
      if (!out) return;
      const T* more = out + (this->scan.offsets[t] + r) * s.P + first;
      for (int64_t i = 0; i < values; i++) to[i] += more[i];
    });
  }
  // That of m_t, once all of h_t's is there: into rows of whole panels over H.
  void through(const Part<T>& part, int64_t t, T* to) const {
    const Rows<const T> d = part.chunk_rows(chunk(part), stride, t, s.size(t));
    multiply<T>({Factors<T>{d, s.P, packed}}, part.pairs.first, part.pairs.last, s.blocks, part.rows(to, s.pairs * kPanel<T>, s.size(t)));
  }

  void first_state(int me, int threads) const {
    for (int64_t r = me; p.d_h_0 && r < s.B; r += threads)
      std::memcpy(static_cast<T*>(p.d_h_0) + r * s.P, d_h + r * stride, s.P * sizeof(T));
  }
};
