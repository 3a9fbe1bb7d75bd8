// One layer backward: from the last step to the first, some steps at a time.
//
// The gradients of the products never exist for all rows at once: those of some steps are made, used for W_ih, W_hh and
// x, and forgotten, all within the caches; what forward kept stays as it is.
#pragma once

#include "few.h"
#include "step.h"
#include "weights.h"

constexpr int64_t kChunk = 256;  // rows whose gradients are made before they are used

template <typename T, template <typename> class Of> struct Backward : Of<T> {
  using Base = Of<T>;
  using Base::p, Base::s;
  FewColumns<T> few;  // takes the place of `of_x` where x has few columns
  Weights<T> of_x, of_h;
  T *tiles, *rows_of_x;  // per thread

  static int64_t capacity(const Problem& problem) { return kChunk + problem.batch_sizes[0]; }
  Backward(const Problem& problem, Arena& arena)
      : Base(problem, arena, capacity(problem)), few(s, arena), of_x(s, few.I ? 0 : s.I, capacity(problem), arena), of_h(s, s.H, capacity(problem), arena) {
    this->packed_h = arena.take<T>(this->wide * s.depth);
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
      Span mine = share(this->wide / kPanel<T>, me, n);
      pack_columns(s, static_cast<const T*>(p.W_hh), s.H, this->packed_h, mine.first, mine.last);
      mine = share(of_x.panels, me, n);
      if (p.d_x) pack_columns(s, static_cast<const T*>(p.W_ih), s.I, this->packed_x, mine.first, mine.last);
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
        if (p.d_W_ih && !few.I) of_x.pack([&](int64_t k) { return this->x(0) + (base + k) * s.I; }, rows, me, n);
        this->gather();
        use(me, n, base, rows, high == s.T_ - 1);
        high = low - 1;
      }
      this->gather();
      this->first_states(part);
      if (me == 0) collect(n);
      this->gather();
      if (p.d_W_hh) of_h.give(s, static_cast<T*>(p.d_W_hh), me, n);
      if (p.d_W_ih && few.I) few.give(static_cast<T*>(p.d_W_ih), me, n);
      else if (p.d_W_ih) of_x.give(s, static_cast<T*>(p.d_W_ih), me, n);
    }
  }

  void step(const Part<T>& part, int64_t t) {
    this->arrive(part, t);
    this->elements(part, t);
    if (part.meet()) this->gather();
    const T* gates = this->chunk_h + this->in_chunk(t, 0);
    multiply<T>({Factors<T>{part.rows(gates, s.width, s.size(t)), s.depth, this->packed_h}}, part.pairs.first,
                part.pairs.last, s.blocks, part.rows(this->d_h, this->wide, s.size(t)));
    if (part.meet_again()) this->gather();
  }

  // h_{t-1} of the k-th row behind packed row `base`, for rows asked for in their order.
  struct Before {
    const Scan<T>& scan;
    int64_t base, t;
    const T* operator()(int64_t k) {
      while (base + k >= scan.offsets[t + 1]) t++;
      return scan.h_read(t) + (base + k - scan.offsets[t]) * scan.s.H;
    }
  };

  // What the gradients of the products of some rows are for.
  void use(int me, int n, int64_t base, int64_t rows, bool first) {
    T* tile = tiles + me * kTileRows * kDepth;
    Weights<T>* both[] = {&of_h, &of_x};
    if (!this->split && p.d_W_hh && p.d_W_ih && !few.I) add_products(s, this->chunk_h, rows, both, 2, first, tile, me, n);
    else {
      if (p.d_W_hh) add_products(s, this->chunk_h, rows, both, 1, first, tile, me, n);
      if (p.d_W_ih && few.I) few.add(this->x(0) + base * s.I, this->chunk_x, rows, first, me, n);
      else if (p.d_W_ih) add_products(s, this->chunk_x, rows, both + 1, 1, first, tile, me, n);
    }
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
