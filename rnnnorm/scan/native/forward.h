// One layer forward: products, elements, last states, step after step.
#pragma once

#include "projection.h"
#include "step.h"

template <typename T, template <typename> class Of> struct Forward : Of<T> {
  using Base = Of<T>;
  using Base::p, Base::s;
  ProjectionForward<T> projection;

  Forward(const Problem& problem, Arena& arena) : Base(problem, arena), projection(*this, arena) {
    this->packed_x = arena.take<T>(s.width * s.I);
    this->packed_h = arena.take<T>(s.width * s.P);
  }

  void run() {
    this->prepare();
#pragma omp parallel num_threads(this->threads)
    {
      const Part<T> part = this->part();
      const Span mine = share(s.width / kPanel<T>, part.me, part.threads);
      pack_gates(s, static_cast<const T*>(p.W_ih), s.I, this->packed_x, mine.first, mine.last);
      pack_gates(s, static_cast<const T*>(p.W_hh), s.P, this->packed_h, mine.first, mine.last);
      projection.prepare(part.me, part.threads);
      this->begin_with(part, p.start);
      this->gather();
      for (int64_t t = p.start; t < p.stop; t++) {
        products(part, t);
        if (part.meet_again()) this->gather();
        this->elements(part, t);
        if (p.W_hr) {
          if (part.meet()) this->gather();
          projection.step(part, t);
        }
        leave(part, t);
        if (part.meet()) this->gather();
      }
    }
  }

  void products(const Part<T>& part, int64_t t) {
    const int64_t B = s.size(t), w = s.width;
    const Factors<T> x{part.rows(this->x(t), s.I, B), s.I, this->packed_x};
    const Factors<T> h{part.rows(this->h_read(t), s.P, B), s.P, this->packed_h};
    const Rows<T> to = part.rows(this->gates_h(t), w, B);
    const int64_t first = part.gates.first, last = part.gates.last, vectors = s.depth / L<T>;
    if (!this->split) return multiply<T>({x, h}, first, last, vectors, to);
    multiply<T>({x}, first, last, vectors, part.rows(this->gates_x(t), w, B));
    multiply<T>({h}, first, last, vectors, to);
  }

  // The last states of sequences that end with step t.
  void leave(const Part<T>& part, int64_t t) {
    for (int64_t r = part.first; r < s.size(t); r += part.step) {
      if (r < s.size(t + 1)) continue;
      for (int64_t b = part.blocks.first; b < part.blocks.last; b++) {
        if (!p.W_hr) this->put(static_cast<T*>(p.h_n) + r * s.H, b, load(this->out(t) + r * s.H + b * L<T>, s.lanes(b)));
        if (p.c_n) this->put(static_cast<T*>(p.c_n) + r * s.H, b, this->last_cell(t, r, b));
      }
    }
  }
};
