// One layer backward: from the last step to the first, some steps at a time.
//
// The gradients of the products never exist for all rows at once: those of some steps are made, used for W_ih, W_hh and
// x, and forgotten, all within the caches; what forward kept stays as it is.
#pragma once

#include "few.h"
#include "projection.h"
#include "step.h"
#include "weights.h"

constexpr int64_t kChunk = 256;  // rows whose gradients are made before they are used

template <typename T, template <typename> class Of> struct Backward : Of<T> {
  using Base = Of<T>;
  using Base::p, Base::s;
  FewColumns<T> few;  // takes the place of `of_x` where x has few columns
  Weights<T> of_x, of_h;
  ProjectionBackward<T> projection;
  T *tiles, *rows_of_x;  // per thread

  static int64_t capacity(const Problem& problem) { return kChunk + problem.batch_sizes[0]; }
  Backward(const Problem& problem, Arena& arena)
      : Base(problem, arena, capacity(problem)), few(s, arena), of_x(few.I ? 0 : s.I, s.depth, capacity(problem), arena),
        of_h(s.P, s.depth, capacity(problem), arena), projection(*this, capacity(problem), arena) {
    this->packed_h = arena.take<T>(of_h.panels * kPanel<T> * s.depth);
    this->packed_x = arena.take<T>(of_x.panels * kPanel<T> * s.depth);
    tiles = arena.take<T>(this->threads * kTileRows * kDepth);
    rows_of_x = arena.take<T>(this->threads * capacity(problem) * of_x.panels * kPanel<T>);
  }

  void run() {
    this->prepare();
#pragma omp parallel num_threads(this->threads)
    {
      const Part<T> part = this->part();
      const int me = part.me, n = part.threads;
      Span mine = share(of_h.panels, me, n);
      pack_columns(s, static_cast<const T*>(p.W_hh), s.P, this->packed_h, mine.first, mine.last);
      mine = share(of_x.panels, me, n);
      if (p.d_x) pack_columns(s, static_cast<const T*>(p.W_ih), s.I, this->packed_x, mine.first, mine.last);
      projection.prepare(me, n);
      if (p.d_x) few.prepare(static_cast<const T*>(p.W_ih), me, n);
      std::fill(this->sums + me * this->sums_size, this->sums + (me + 1) * this->sums_size, T(0));
      this->gather();
      for (int64_t high = s.T_ - 1; high >= 0;) {
        int64_t low = high, rows = s.size(high);
        while (low > 0 && rows + s.size(low - 1) <= kChunk) rows += s.size(--low);
        const int64_t base = this->offsets[low];
        if (me == 0) this->base = base;
        this->gather();
        for (int64_t t = high; t >= low; t--) step(part, t);
        if (p.d_W_hh) of_h.pack(Before{*this, base, low}, rows, me, n);
        if (p.d_W_hr) projection.of_hr.pack([&](int64_t k) { return projection.emitted(0) + (base + k) * s.padded; }, rows, me, n);
        if (p.d_W_ih && !few.I) of_x.pack([&](int64_t k) { return this->x(0) + (base + k) * s.I; }, rows, me, n);
        this->gather();
        use(me, n, base, rows, high == s.T_ - 1);
        high = low - 1;
      }
      this->gather();
      this->first_states(part);
      if (p.W_hr) projection.first_state(me, n);
      if (me == 0) collect(n);
      this->gather();
      if (p.d_W_hh) of_h.give(s, static_cast<T*>(p.d_W_hh), me, n);
      if (p.d_W_hr) projection.of_hr.give(static_cast<T*>(p.d_W_hr), me, n);
      if (p.d_W_ih && few.I) few.give(static_cast<T*>(p.d_W_ih), me, n);
      else if (p.d_W_ih) of_x.give(s, static_cast<T*>(p.d_W_ih), me, n);
    }
  }

  void step(const Part<T>& part, int64_t t) {
    this->arrive(part, t);
    if (p.W_hr) {
      const int64_t at = this->offsets[t] - this->base;
      projection.arrive(part, t, at);
      if (part.meet()) this->gather();
      projection.through(part, t, at, this->d_h);
      if (part.meet_again()) this->gather();
    }
    this->elements(part, t);
    if (part.meet()) this->gather();
    const T* gates = this->chunk_h + this->in_chunk(t, 0);
    const Span mine = p.W_hr ? projection.own(part) : part.pairs;
    const Rows<T> to = p.W_hr ? part.rows(projection.d_h, projection.stride, s.size(t)) : part.rows(this->d_h, this->wide, s.size(t));
    multiply<T>({Factors<T>{part.rows(gates, s.width, s.size(t)), s.depth, this->packed_h}}, mine.first, mine.last, of_h.vectors, to);
    if (part.meet_again()) this->gather();
  }

  // h_{t-1} of the k-th row behind packed row `base`, for rows asked for in their order.
  struct Before {
    const Scan<T>& scan;
    int64_t base, t;
    const T* operator()(int64_t k) {
      while (base + k >= scan.offsets[t + 1]) t++;
      return scan.h_read(t) + (base + k - scan.offsets[t]) * scan.s.P;
    }
  };

  // What the gradients of the products of some rows are for.
  void use(int me, int n, int64_t base, int64_t rows, bool first) {
    T* tile = tiles + me * kTileRows * kDepth;
    Weights<T>* both[] = {&of_h, &of_x};
    if (!this->split && p.d_W_hh && p.d_W_ih && !few.I) add_products(s.width, this->chunk_h, rows, both, 2, first, tile, me, n);
    else {
      if (p.d_W_hh) add_products(s.width, this->chunk_h, rows, both, 1, first, tile, me, n);
      if (p.d_W_ih && few.I) few.add(this->x(0) + base * s.I, this->chunk_x, rows, first, me, n);
      else if (p.d_W_ih) add_products(s.width, this->chunk_x, rows, both + 1, 1, first, tile, me, n);
    }
    Weights<T>* of_hr[] = {&projection.of_hr};
    if (p.d_W_hr) add_products(projection.stride, projection.chunk, rows, of_hr, 1, first, tile, me, n);
    if (!p.d_x) return;
    const Span mine = share(rows, me, n);
    if (few.I)
      return few.inputs(this->chunk_x + mine.first * s.width, mine.last - mine.first, static_cast<T*>(p.d_x) + (base + mine.first) * s.I);
    const int64_t count = mine.last - mine.first, columns = of_x.panels * kPanel<T>;
    T *to = static_cast<T*>(p.d_x) + (base + mine.first) * s.I, *temporary = rows_of_x + me * capacity(p) * columns;
    const Factors<T> gates{{this->chunk_x + mine.first * s.width, s.width, count}, s.depth, this->packed_x};
    if (s.I == columns) return multiply<T>({gates}, 0, of_x.panels, of_x.vectors, {to, s.I, count});
    multiply<T>({gates}, 0, of_x.panels, of_x.vectors, {temporary, columns, count});
    for (int64_t r = 0; r < count; r++) std::memcpy(to + r * s.I, temporary + r * columns, s.I * sizeof(T));
  }

  // Adds up what the threads found, in a fixed order.
  void collect(int threads) {
    for (int i = 1; i < threads; i++)
      for (int64_t j = 0; j < this->sums_size; j += L<T>)
        this->add(this->sums + j, load(this->sums + i * this->sums_size + j));
    this->give_sums();
  }
};
