// One layer forward.
#pragma once

#include "step.h"

template <typename T> struct Forward : Scan<T> {
  using Base = Scan<T>;
  using Base::p, Base::s;
  T* output_gates;   // (B, padded): o_t, where c_t must be normalized first

  Forward(const Problem& problem, Arena& arena) : Base(problem, arena) {
    this->packed_x = arena.take<T>(s.width * s.I);
    this->packed_h = arena.take<T>(s.width * s.H);
    output_gates = arena.take<T>(s.B * s.padded);
  }

  void run() {
    this->prepare();
#pragma omp parallel num_threads(this->threads)
    {
      const Part<T> part = this->part();
      const Span mine = share(s.width / kPanel<T>, part.me, part.threads);
      pack_gates(s, static_cast<const T*>(p.W_ih), s.I, this->packed_x, mine.first, mine.last);
      pack_gates(s, static_cast<const T*>(p.W_hh), s.H, this->packed_h, mine.first, mine.last);
#pragma omp barrier
      for (long t = p.start; t < p.stop; t++) {
        products(part, t);
        if (part.meet_again()) {
#pragma omp barrier
        }
        if (part.elements_by_column) columns(part, t);
        else rows(part, t);
        leave(part, t);
        if (part.meet()) {
#pragma omp barrier
        }
      }
    }
  }

  void products(const Part<T>& part, long t) {
    const long B = s.size(t), w = s.width;
    const Factors<T> x{part.rows(this->x(t), s.I, B), s.I, this->packed_x};
    const Factors<T> h{part.rows(this->h_before(t), s.H, B), s.H, this->packed_h};
    const Rows<T> to = part.rows(this->gates_h(t), w, B);
    const long first = part.gates.first, last = part.gates.last;
    if (!this->split) return multiply<T>({x, h}, first, last, to);
    multiply<T>({x}, first, last, part.rows(this->gates_x(t), w, B));
    multiply<T>({h}, first, last, to);
  }

  void rows(const Part<T>& part, long t) {
    for (long r = part.first; r < s.size(t); r += part.step) {
      const long at = this->begin(t) + r;
      const T *gx = this->split ? this->gates_x(t) + r * s.width : nullptr, *gh = this->gates_h(t) + r * s.width;
      const Seen<T> in = this->input.seen(at, t, s.width), hid = this->hidden.seen(at, t, s.width),
                    both = this->joint.seen(at, t, s.width), c = this->cell.seen(at, t, s.padded);
      if (in.kind == kRow) row_moments(s, gx, 4, p.input, in);
      if (hid.kind == kRow) row_moments(s, gh, 4, p.hidden, hid);
      if (both.kind == kRow) row_moments(s, gh, 4, p.joint, both);
      for (long b = 0; b < s.blocks; b++) update(t, r, b, gx, gh, in, hid, both, c);
      if (c.kind) {
        row_moments(s, this->cells(t) + r * s.padded, 1, p.cell, c);
        for (long b = 0; b < s.blocks; b++) emit(t, r, b, c);
      }
    }
  }

  void columns(const Part<T>& part, long t) {
    const long B = s.size(t);
    const Seen<T> in = this->input.seen(0, t, s.width), hid = this->hidden.seen(0, t, s.width),
                  both = this->joint.seen(0, t, s.width), c = this->cell.seen(0, t, s.padded);
    for (long b = part.blocks.first; b < part.blocks.last; b++) {
      if (in.kind == kColumn) moments(p.input, in, t, b, 4, this->gates_x(t), s.width);
      if (hid.kind) moments(p.hidden, hid, t, b, 4, this->gates_h(t), s.width);
      if (both.kind) moments(p.joint, both, t, b, 4, this->gates_h(t), s.width);
      for (long r = 0; r < B; r++)
        update(t, r, b, this->split ? this->gates_x(t) + r * s.width : nullptr, this->gates_h(t) + r * s.width, in, hid, both, c);
      if (c.kind) {
        moments(p.cell, c, t, b, 1, this->cells(t), s.padded);
        for (long r = 0; r < B; r++) emit(t, r, b, c);
      }
    }
  }

  void moments(const Place& place, const Seen<T>& to, long t, long b, int gates, const T* rows, long stride) {
    const ColumnMoments<T> moments{place, s, gates};
    for (int gate = 0; gate < gates; gate++) {
      V<T> mean, var;
      if (t < p.own || p.observe) {
        column_moments<T>(rows + (b * gates + gate) * L<T>, stride, s.size(t), mean, var);
        moments.give(t, b, gate, mean, var);
      }
      if (t >= p.own) moments.take(t, b, gate, mean, var);
      moments.keep(b, gate, mean, var, to);
    }
  }

  // c_t, and h_t where nothing has to be known of c_t first.
  INLINE void update(long t, long r, long b, const T* gx, const T* gh, const Seen<T>& in, const Seen<T>& hid,
              const Seen<T>& both, const Seen<T>& cell) {
    const auto g = this->gates(gx, gh, b, in, hid, both);
    const V<T> i = sigmoid<T>(g.a[0]), f = sigmoid<T>(g.a[1]), n = tanh<T>(g.a[2]), o = sigmoid<T>(g.a[3]);
    const V<T> c = f * this->cell_before(t, r, b) + i * n;
    store(this->cells(t) + r * s.padded + b * L<T>, c);
    if (cell.kind) store(output_gates + r * s.padded + b * L<T>, o);
    else put(this->out(t) + r * s.H, b, o * tanh<T>(c));
  }

  INLINE void emit(long t, long r, long b, const Seen<T>& as) {
    const V<T> c = load(this->cells(t) + r * s.padded + b * L<T>);
    const V<T> o = load(output_gates + r * s.padded + b * L<T>);
    put(this->out(t) + r * s.H, b, o * tanh<T>(this->show(c, b, as)));
  }

  INLINE void put(T* row, long b, V<T> v) const {
    if (s.lanes(b) == L<T>) store(row + b * L<T>, v);
    else store(row + b * L<T>, v, s.lanes(b));
  }

  // The last states of sequences that end with step t.
  void leave(const Part<T>& part, long t) {
    for (long r = part.first; r < s.size(t); r += part.step) {
      if (r < s.size(t + 1)) continue;
      const Seen<T> as = this->cell.seen(this->begin(t) + r, t, s.padded);
      for (long b = part.blocks.first; b < part.blocks.last; b++) {
        const T* h = this->out(t) + r * s.H;
        put(static_cast<T*>(p.h_n) + r * s.H, b, load(h + b * L<T>, s.lanes(b)));
        const V<T> c = load(this->cells(t) + r * s.padded + b * L<T>);
        put(static_cast<T*>(p.c_n) + r * s.H, b, p.carried ? this->show(c, b, as) : c);
      }
    }
  }
};
