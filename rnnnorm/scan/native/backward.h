// One layer backward: from the last step to the first, some steps at a time.
//
// The gradients of the products never exist for all rows at once: those of some steps are made, used for W_ih, W_hh and
// x, and forgotten, all within the caches; what forward kept stays as it is.
#pragma once

#include "few.h"
#include "projection.h"
#include "step.h"
#include "weights.h"

// Rows whose gradients are made before they are used: all threads together, or each of them where they have rows of their own.
constexpr int64_t kChunk = 256, kOwnChunk = 128;
constexpr int64_t kGradientsInCache = 1 << 20;  // bytes of the weights' gradients, of which a thread may have a copy

template <typename T, template <typename> class Of> struct Backward : Of<T> {
  using Base = Of<T>;
  using Base::p, Base::s;
  // Threads that have rows in the products have them throughout, if the weights are small: each uses the gradients of its
  // rows for gradients of the weights of its own. They never wait for each other, nor read what another one has written.
  bool apart;
  int copies;
  int64_t capacity;     // rows of a chunk; a step's rows are in one
  FewColumns<T> few;    // takes the place of `of_x` where x has few columns
  Weights<T> of_x, of_h;
  ProjectionBackward<T> projection;
  int64_t chunk_size, rows_size;
  T *tiles, *rows_of_x, *chunks;  // per thread; per thread; per copy
  int64_t* begins;                // per thread: see Part

  Backward(const Problem& problem, Arena& arena)
      : Base(problem, arena), apart(!this->products_by_column && s.depth * (s.P + s.I) * int64_t(sizeof(T)) <= kGradientsInCache),
        copies(apart ? this->threads : 1), capacity(std::max(apart ? kOwnChunk : kChunk, s.B)), few(s, copies, arena),
        of_x(few.I ? 0 : s.I, s.depth, capacity, copies, arena), of_h(s.P, s.depth, capacity, copies, arena),
        projection(*this, capacity, copies, arena), chunk_size(chunk_of<T>(capacity, s.width)), rows_size(capacity * of_x.panels * kPanel<T>) {
    this->packed_h = arena.take<T>(of_h.panels * kPanel<T> * s.depth);
    this->packed_x = arena.take<T>(of_x.panels * kPanel<T> * s.depth);
    tiles = arena.take<T>(this->threads * kTileRows * kDepth);
    rows_of_x = arena.take<T>(this->threads * rows_size);
    chunks = arena.take<T>(copies * chunk_size * (this->split ? 2 : 1));
    begins = arena.take<int64_t>(this->threads * (s.T_ + 1));
  }

  void run() {
    this->prepare();
#pragma omp parallel num_threads(this->threads)
    {
      Part<T> part = this->part();
      const int me = part.me, n = part.threads;
      Span mine = share(of_h.panels, me, n);
      pack_columns(s, static_cast<const T*>(p.W_hh), s.P, this->packed_h, mine.first, mine.last);
      mine = share(of_x.panels, me, n);
      if (p.d_x) pack_columns(s, static_cast<const T*>(p.W_ih), s.I, this->packed_x, mine.first, mine.last);
      projection.prepare(me, n);
      if (p.d_x) few.prepare(static_cast<const T*>(p.W_ih), me, n);
      std::fill(this->sums + me * this->sums_size, this->sums + (me + 1) * this->sums_size, T(0));
      claim(part);
      this->gather();
      bool first = true;
      for (int64_t high = s.T_ - 1; high >= 0;) {
        const Steps steps = before(part, high);
        part.base = part.begins[steps.low];
        for (int64_t t = high; t >= steps.low; t--) step(part, t);
        if (steps.rows) {
          use(part, steps, first);
          first = false;
        }
        if (!apart) this->gather();  // the next chunk takes the place of this one
        high = steps.low - 1;
      }
      this->gather();
      this->first_states(part);
      if (p.W_hr) projection.first_state(me, n);
      if (me == 0) collect(n);
      this->gather();
      const int count = std::min(copies, n);
      if (p.d_W_hh) of_h.give(s, static_cast<T*>(p.d_W_hh), me, n, count);
      if (p.d_W_hr) projection.of_hr.give(static_cast<T*>(p.d_W_hr), me, n, count);
      if (p.d_W_ih && few.I) few.give(static_cast<T*>(p.d_W_ih), me, n, count);
      else if (p.d_W_ih) of_x.give(s, static_cast<T*>(p.d_W_ih), me, n, count);
    }
  }

  // The chunk of a thread, and where its rows begin.
  void claim(Part<T>& part) {
    part.apart = apart;
    part.chunk_h = chunks + (apart ? part.me * chunk_size : 0);
    part.chunk_x = this->split ? part.chunk_h + copies * chunk_size : part.chunk_h;
    int64_t* at = begins + part.me * (s.T_ + 1);
    at[0] = 0;
    for (int64_t t = 0; t < s.T_; t++) at[t + 1] = at[t] + (apart ? part.share_of(s.size(t)) : s.size(t));
    part.begins = at;
  }

  // Steps low ... high, whose rows fill a chunk.
  struct Steps {
    int64_t low, high, rows;
  };
  Steps before(const Part<T>& part, int64_t high) const {
    const int64_t most = apart ? kOwnChunk : kChunk, *begins = part.begins;
    int64_t low = high;
    while (low > 0 && begins[high + 1] - begins[low - 1] <= most) low--;
    return {low, high, begins[high + 1] - begins[low]};
  }

  void step(const Part<T>& part, int64_t t) {
    this->arrive(part, t);
    if (p.W_hr) {
      projection.arrive(part, t);
      if (part.meet()) this->gather();
      projection.through(part, t, this->d_h);
      if (part.meet_again()) this->gather();
    }
    this->elements(part, t);
    if (part.meet()) this->gather();
    const Span mine = p.W_hr ? projection.own(part) : part.pairs;
    const Rows<T> to = p.W_hr ? part.rows(projection.d_h, projection.stride, s.size(t)) : part.rows(this->d_h, this->wide, s.size(t));
    multiply<T>({Factors<T>{part.chunk_rows(part.chunk_h, s.width, t, s.size(t)), s.depth, this->packed_h}}, mine.first, mine.last, of_h.vectors, to);
    if (part.meet_again()) this->gather();
  }

  // Where a row of packed rows is, for the rows of a chunk in their order.
  struct Walk {
    const Scan<T>& scan;
    const Part<T>& part;
    int64_t t, row = 0;  // of the step
    Walk(const Scan<T>& of, const Part<T>& one, int64_t low) : scan(of), part(one), t(low) {}
    void go(int64_t k) {
      while (part.base + k >= part.begins[t + 1]) t++;
      row = part.base + k - part.begins[t];
      if (part.apart) row = part.product_first + row * part.product_step;
    }
    int64_t packed(int64_t k) { return go(k), scan.offsets[t] + row; }
    const T* h_before(int64_t k) { return go(k), scan.h_read(t) + row * scan.s.P; }
  };

  // What the gradients of the products of some rows are for.
  void use(const Part<T>& part, const Steps& steps, bool first) {
    const int me = apart ? 0 : part.me, n = apart ? 1 : part.threads, copy = apart ? part.me : 0;
    const int64_t rows = steps.rows;
    T* tile = tiles + part.me * kTileRows * kDepth;
    Weights<T> h = of_h.copy(copy), x = of_x.copy(copy), hr = projection.of_hr.copy(copy);
    Weights<T>* each[] = {&h, &x, &hr};
    Walk of_rows(*this, part, steps.low), of_emitted = of_rows, of_inputs = of_rows;
    if (p.d_W_hh) h.pack([&](int64_t k) { return of_rows.h_before(k); }, rows, me, n);
    if (p.d_W_hr) hr.pack([&](int64_t k) { return projection.emitted(0) + of_emitted.packed(k) * s.padded; }, rows, me, n);
    if (p.d_W_ih && !few.I) x.pack([&](int64_t k) { return this->x(0) + of_inputs.packed(k) * s.I; }, rows, me, n);
    if (!apart) this->gather();
    if (!this->split && p.d_W_hh && p.d_W_ih && !few.I) add_products(s.width, part.chunk_h, rows, each, 2, first, tile, me, n);
    else {
      if (p.d_W_hh) add_products(s.width, part.chunk_h, rows, each, 1, first, tile, me, n);
      if (p.d_W_ih && !few.I) add_products(s.width, part.chunk_x, rows, each + 1, 1, first, tile, me, n);
    }
    if (p.d_W_hr) add_products(projection.stride, projection.chunk(part), rows, each + 2, 1, first, tile, me, n);
    if (few.I) {
      const Span own = apart ? Span{0, rows} : share(rows, me, n);
      for (int64_t t = steps.low; t <= steps.high; t++) {
        const int64_t at = part.begins[t] - part.base, count = part.begins[t + 1] - part.begins[t];
        const int64_t from = (this->offsets[t] + (apart ? part.product_first : 0)) * s.I, stride = (apart ? part.product_step : 1) * s.I;
        const T* d = part.chunk_x + at * s.width;
        if (p.d_W_ih && count) few.add(this->x(0) + from, stride, d, count, first && t == steps.low, copy, me, n);
        const int64_t low = std::max(own.first, at) - at, high = std::min(own.last, at + count) - at;
        if (p.d_x && low < high) few.inputs(d + low * s.width, high - low, static_cast<T*>(p.d_x) + from + low * stride, stride);
      }
    } else if (p.d_x) {
      const Span own = apart ? Span{0, rows} : share(rows, me, n);
      const int64_t columns = of_x.panels * kPanel<T>;
      T* temporary = rows_of_x + part.me * rows_size;
      const Factors<T> gates{{part.chunk_x + own.first * s.width, s.width, own.last - own.first}, s.depth, this->packed_x};
      if (s.I == columns && !apart) {
        T* to = static_cast<T*>(p.d_x) + (this->offsets[steps.low] + own.first) * s.I;
        return multiply<T>({gates}, 0, of_x.panels, of_x.vectors, {to, s.I, own.last - own.first});
      }
      multiply<T>({gates}, 0, of_x.panels, of_x.vectors, {temporary, columns, own.last - own.first});
      Walk to(*this, part, steps.low);
      for (int64_t k = own.first; k < own.last; k++)
        std::memcpy(static_cast<T*>(p.d_x) + to.packed(k) * s.I, temporary + (k - own.first) * columns, s.I * sizeof(T));
    }
  }

  // Adds up what the threads found, in a fixed order.
  void collect(int threads) {
    for (int i = 1; i < threads; i++)
      for (int64_t j = 0; j < this->sums_size; j += L<T>)
        this->add(this->sums + j, load(this->sums + i * this->sums_size + j));
    this->give_sums();
  }
};
