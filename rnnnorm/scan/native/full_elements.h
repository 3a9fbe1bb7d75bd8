// Forward, at the elements of one step, with all places and features.
#pragma once

#include "full.h"

template <typename T> struct FullElements : Full<T> {
  using Base = Full<T>;
  using Base::p, Base::s;
  using typename Base::Views;
  T* held;  // (B, padded): o's argument or z, where `cell` must be normalized first

  FullElements(const Problem& problem, Arena& arena) : Base(problem, arena) { held = arena.take<T>(s.B * s.padded); }

  void begin_with(const Part<T>& part, int64_t t) {
    if (p.masked) each(Region{part.first, s.size(t), part.step, part.blocks}, [&](int64_t r, int64_t b) { hide(t, r, b, this->old_h(t, r, b)); });
  }

  void elements(const Part<T>& part, int64_t t) {
    const Views v = this->views(t);
    this->sweep(part, s.size(t), [&](const Region& rows, const Region& columns) {
      if (kCell == kGRU && v.joint.kind) each(rows, [&](int64_t r, int64_t b) { add(v, r, b); });
      measure({&v.input, &v.hidden, &v.joint}, t, rows, columns);
      each(rows, [&](int64_t r, int64_t b) { update(v, t, r, b); });
      if (v.cell.kind) {
        measure({&v.cell}, t, rows, columns);
        each(rows, [&](int64_t r, int64_t b) { emit(v, t, r, b, v.cell.raw(r, b, 0), load(held + r * s.padded + b * L<T>)); });
      }
      if (v.output.kind) {
        measure({&v.output}, t, rows, columns);
        each(rows, [&](int64_t r, int64_t b) { leave_with(t, r, b, v.output.apply(v.output.raw(r, b, 0), r, b, 0)); });
      }
    });
  }

  // Moments.
  void measure(std::initializer_list<const View<T>*> views, int64_t t, const Region& rows, const Region& columns) const {
    this->meet();
    for (const View<T>* v : views) {
      if (v->kind == kRow)
        for (int64_t r = rows.first; r < rows.last; r += rows.step) row_moments(*v, r);
      if (v->kind == kColumn)
        for (int64_t b = columns.blocks.first; b < columns.blocks.last; b++)
          this->moments(v->norm, v->center, v->scale, t, b, v->rows, v->stride, v->vectors);
    }
    this->meet();
  }
  void row_moments(const View<T>& v, int64_t r) const {
    T *center = v.center + r * v.groups, *scale = v.scale + r * v.groups;
    const T share = T(v.groups) / T(v.norm.gates * s.H);
    RowSums<T> total(v, center, v.groups);
    for (int64_t b = 0; v.norm.place->centered && b < s.blocks; b++)
      for (int gate = 0; gate < v.norm.gates; gate++) total.add(v.raw(r, b, gate), b, gate);
    total.finish(share);
    RowSums<T> squares(v, scale, v.groups);
    for (int64_t b = 0; b < s.blocks; b++)
      for (int gate = 0; gate < v.norm.gates; gate++) {
        const V<T> d = v.raw(r, b, gate) - v.of_group(center, b, gate);
        squares.add(v.inside(d * d, b), b, gate);
      }
    squares.finish(share);
    for (int64_t k = 0; k < v.groups; k++) scale[k] = 1 / std::sqrt(scale[k] + T(v.norm.place->eps));
  }

  // W_ih x + W_hh h of r and z, which are normalized together.
  INLINE void add(const Views& v, int64_t r, int64_t b) const {
#pragma GCC unroll 2
    for (int gate = 0; gate < 2; gate++) {
      T* to = v.hidden.rows + r * s.width + (b * kGates + gate) * L<T>;
      store(to, load(to) + v.input.raw(r, b, gate));
    }
  }

  // What `cell` normalizes, and h_t where nothing has to be known of it first.
  INLINE void update(const Views& v, int64_t t, int64_t r, int64_t b) {
    V<T> a[4];
    this->gates(v, r, b, a);
    if constexpr (kCell == kRNN) return show(v, t, r, b, nonlinearity(a[0]));
    V<T> inner, hold;
    if constexpr (kCell == kGRU) {
      inner = a[2] + this->gate(a[0]) * a[3], hold = this->gate(a[1]);
    } else {
      const V<T> c = this->old_c(t, r, b);
      if (p.peepholes) a[0] += this->peephole(0, b) * c, a[1] += this->peephole(1, b) * c;
      V<T> n = tanh<T>(a[2]);
      if (p.update) n *= this->noise(p.update, t, r, b);
      inner = this->gate(a[1]) * c + this->gate(a[0]) * n, hold = a[3];
    }
    store(this->cells(t) + r * s.padded + b * L<T>, inner);
    if (v.cell.kind) store(held + r * s.padded + b * L<T>, hold);
    else emit(v, t, r, b, inner, hold);
  }
  INLINE V<T> nonlinearity(V<T> a) const {
    if (p.nonlinearity == kIdentity) return a;
    return p.nonlinearity == kRelu ? (a < T(0) ? V<T>{} : a) : tanh<T>(a);
  }

  // h_t before its normalizer, and c_t as the next step sees it.
  INLINE void emit(const Views& v, int64_t t, int64_t r, int64_t b, V<T> inner, V<T> hold) {
    if constexpr (kCell == kGRU) {
      V<T> n = tanh<T>(this->candidate(v, inner, r, b));
      if (p.update) n *= this->noise(p.update, t, r, b);
      return show(v, t, r, b, (T(1) - hold) * n + hold * this->old_h(t, r, b));
    }
    const V<T> shown = v.cell.apply(inner, r, b, 0), c = p.carried ? shown : inner;
    if (p.peepholes) hold += this->peephole(2, b) * c;
    if (p.carried_states)
      store(this->carried(t) + r * s.padded + b * L<T>, zone(p.zone_c, p.keep_c, t, r, b, this->old_c(t, r, b), c));
    show(v, t, r, b, this->gate(hold) * tanh<T>(shown));
  }
  INLINE void show(const Views& v, int64_t t, int64_t r, int64_t b, V<T> h) {
    if (v.output.kind) store(v.output.rows + r * s.padded + b * L<T>, h);
    else leave_with(t, r, b, h);
  }
  INLINE void leave_with(int64_t t, int64_t r, int64_t b, V<T> h) {
    if (p.zone_h || p.keep_h != 0) h = zone(p.zone_h, p.keep_h, t, r, b, this->old_h(t, r, b), h);
    if (p.W_hr) return store(this->rows_of(p.emitted, t, s.padded) + r * s.padded + b * L<T>, h);
    this->put(this->out(t) + r * s.H, b, h);
    if (p.masked && r < s.size(t + 1)) hide(t + 1, r, b, h);
  }
  // The state before, where the mask says so; without a mask, a share of it.
  INLINE V<T> zone(const void* masks, double keep, int64_t t, int64_t r, int64_t b, V<T> before, V<T> after) const {
    if (masks) return this->noise(masks, t, r, b) > T(0) ? before : after;
    return keep != 0 ? after + T(keep) * (before - after) : after;
  }
  // h_{t-1} as W_hh reads it.
  INLINE void hide(int64_t t, int64_t r, int64_t b, V<T> h) const {
    this->put(this->rows_of(p.masked, t, s.H) + r * s.H, b, h * this->units(static_cast<const T*>(p.mask) + r * s.H, b));
  }

  INLINE V<T> last_cell(int64_t t, int64_t r, int64_t b) const { return load(this->carried(t) + r * s.padded + b * L<T>); }
};
