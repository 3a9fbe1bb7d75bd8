// Forward, at the elements of one step of a plain LSTM: gates, moments, c_t and h_t.
#pragma once

#include "step.h"

template <typename T> struct Elements : Scan<T> {
  using Base = Scan<T>;
  using Base::p, Base::s;
  T* output_gates;   // (B, padded): o_t, where c_t must be normalized first

  Elements(const Problem& problem, Arena& arena) : Base(problem, arena) { output_gates = arena.take<T>(s.B * s.padded); }

  void begin_with(const Part<T>&, int64_t) {}
  void elements(const Part<T>& part, int64_t t) {
    if (part.elements_by_column) columns(part, t);
    else rows(part, t);
  }

  void rows(const Part<T>& part, int64_t t) {
    for (int64_t r = part.first; r < s.size(t); r += part.step) {
      const int64_t at = this->begin(t) + r;
      const T *gx = this->split ? this->gates_x(t) + r * s.width : nullptr, *gh = this->gates_h(t) + r * s.width;
      const Seen<T> in = this->input.seen(at, t, s.width), hid = this->hidden.seen(at, t, s.width),
                    both = this->joint.seen(at, t, s.width), c = this->cell.seen(at, t, s.padded);
      if (in.kind == kRow) row_moments(s, gx, 4, p.input, in);
      if (hid.kind == kRow) row_moments(s, gh, 4, p.hidden, hid);
      if (both.kind == kRow) row_moments(s, gh, 4, p.joint, both);
      for (int64_t b = 0; b < s.blocks; b++) update(t, r, b, gx, gh, in, hid, both, c);
      if (c.kind) {
        row_moments(s, this->cells(t) + r * s.padded, 1, p.cell, c);
        for (int64_t b = 0; b < s.blocks; b++) emit(t, r, b, c);
      }
    }
  }

  void columns(const Part<T>& part, int64_t t) {
    const int64_t B = s.size(t);
    const Seen<T> in = this->input.seen(0, t, s.width), hid = this->hidden.seen(0, t, s.width),
                  both = this->joint.seen(0, t, s.width), c = this->cell.seen(0, t, s.padded);
    for (int64_t b = part.blocks.first; b < part.blocks.last; b++) {
      if (in.kind == kColumn) moments(this->input, in, t, b, this->gates_x(t), s.width);
      if (hid.kind) moments(this->hidden, hid, t, b, this->gates_h(t), s.width);
      if (both.kind) moments(this->joint, both, t, b, this->gates_h(t), s.width);
      for (int64_t r = 0; r < B; r++)
        update(t, r, b, this->split ? this->gates_x(t) + r * s.width : nullptr, this->gates_h(t) + r * s.width, in, hid, both, c);
      if (c.kind) {
        moments(this->cell, c, t, b, this->cells(t), s.padded);
        for (int64_t r = 0; r < B; r++) emit(t, r, b, c);
      }
    }
  }

  void moments(const Norm<T>& norm, const Seen<T>& to, int64_t t, int64_t b, const T* rows, int64_t stride) const {
    Base::moments(norm, to.center, to.scale, t, b, rows, stride, norm.gates);
  }

  // c_t, and h_t where nothing has to be known of c_t first.
  INLINE void update(int64_t t, int64_t r, int64_t b, const T* gx, const T* gh, const Seen<T>& in, const Seen<T>& hid,
              const Seen<T>& both, const Seen<T>& cell) {
    const auto g = this->gates(gx, gh, b, in, hid, both);
    const V<T> i = sigmoid<T>(g.a[0]), f = sigmoid<T>(g.a[1]), n = tanh<T>(g.a[2]), o = sigmoid<T>(g.a[3]);
    const V<T> c = f * this->cell_before(t, r, b) + i * n;
    store(this->cells(t) + r * s.padded + b * L<T>, c);
    if (cell.kind) store(output_gates + r * s.padded + b * L<T>, o);
    else this->put(this->out(t) + r * s.H, b, o * tanh<T>(c));
  }

  INLINE void emit(int64_t t, int64_t r, int64_t b, const Seen<T>& as) {
    const V<T> c = load(this->cells(t) + r * s.padded + b * L<T>);
    const V<T> o = load(output_gates + r * s.padded + b * L<T>);
    this->put(this->out(t) + r * s.H, b, o * tanh<T>(this->show(c, b, as)));
  }

  // c_t as it is returned.
  INLINE V<T> last_cell(int64_t t, int64_t r, int64_t b) const {
    const V<T> c = load(this->cells(t) + r * s.padded + b * L<T>);
    return p.carried ? this->show(c, b, this->cell.seen(this->begin(t) + r, t, s.padded)) : c;
  }
};
