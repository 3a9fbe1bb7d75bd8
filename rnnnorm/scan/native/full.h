// What forward and backward share where all places and features are allowed: the normalizers of a step, and its elements.
#pragma once

#include "step.h"

// Rows first, first + step ... before `last`, and blocks of units.
struct Region {
  int64_t first, last, step;
  Span blocks;
};

template <typename Work> INLINE void each(const Region& g, Work&& work) {
  for (int64_t r = g.first; r < g.last; r += g.step)
    for (int64_t b = g.blocks.first; b < g.blocks.last; b++) work(r, b);
}

// One normalizer and the rows that it reads at one step.
template <typename T> struct View {
  const Shape<T>& s;
  const Norm<T>& norm;
  T* rows;
  int64_t stride, vectors;  // values from row to row; vectors of each block, the first ones of which are normalized
  bool own;                 // by moments of these very rows, where they are by column
  int64_t kind, groups;
  T *center, *scale;        // by row: from row to row `groups` values; by column: vectors
  T factor;                 // of a constant, or alpha

  View(const Shape<T>& shape, const Norm<T>& of, T* at, int64_t row, int64_t each, int64_t t, int64_t begin)
      : s(shape), norm(of), rows(at), stride(row), vectors(each), own(t < of.place->own), kind(of.kind), groups(of.place->groups) {
    const Place& place = *of.place;
    const int64_t first = kind == kRow ? begin * groups : kind == kColumn ? t * of.gates * s.padded : 0;
    center = place.center ? static_cast<T*>(place.center) + first : nullptr;
    scale = place.scale ? static_cast<T*>(place.scale) + first : nullptr;
    factor = kind == kSquash ? *static_cast<const T*>(place.alpha) : T(place.eps);
  }

  // 0 in the padding. Its zero weights and gains times what is infinite are NaN, which would get from there, by way of
  // the states, into sums over units.
  INLINE V<T> inside(V<T> x, int64_t b) const { return b + 1 < s.blocks ? x : s.mask > T(0) ? x : V<T>{}; }
  INLINE V<T> raw(int64_t r, int64_t b, int gate) const {
    return inside(load(rows + r * stride + (b * vectors + gate) * L<T>), b);
  }
  int64_t column(int64_t b, int gate) const { return (b * norm.gates + gate) * L<T>; }
  // Groups are neighbours in torch's order, where a gate's units follow each other.
  int64_t group(int64_t b, int gate, int64_t l) const {
    return std::min((gate * s.H + b * L<T> + l) * groups / (norm.gates * s.H), groups - 1);
  }
  bool by_gate() const { return groups == norm.gates; }
  INLINE V<T> of_group(const T* values, int64_t b, int gate) const {
    if (groups == 1) return splat(values[0]);
    if (by_gate()) return splat(values[gate]);
    V<T> v;
    for (int64_t l = 0; l < L<T>; l++) v[l] = values[group(b, gate, l)];
    return v;
  }
  INLINE V<T> hat(V<T> x, int64_t r, int64_t b, int gate) const {
    if (kind == kRow) return (x - of_group(center + r * groups, b, gate)) * of_group(scale + r * groups, b, gate);
    if (kind == kColumn) return (x - load(center + column(b, gate))) * load(scale + column(b, gate));
    return kind == kSquash ? tanh<T>(x * factor) : x * factor;
  }
  INLINE V<T> apply(V<T> x, int64_t r, int64_t b, int gate) const {
    if (!kind) return x;
    return inside(hat(x, r, b, gate) * load(norm.gain + column(b, gate)) + load(norm.bias + column(b, gate)), b);
  }
};

// Sums over one row, group by group, of a vector per block and gate; the padding adds 0.
template <typename T> struct RowSums {
  const View<T>& v;
  T* to;  // (groups)
  int64_t groups;
  V<T> gates[4]{};
  RowSums(const View<T>& view, T* target, int64_t count) : v(view), to(target), groups(count) { std::fill(to, to + groups, T(0)); }
  INLINE void add(V<T> x, int64_t b, int gate) {
    if (v.groups == 1 || v.by_gate()) gates[gate] += x;
    else
      for (int64_t l = 0; l < v.s.lanes(b) && l < L<T>; l++) to[v.group(b, gate, l)] += x[l];
  }
  void finish(T factor) {
    if (!groups) return;
    if (groups == 1) to[0] = sum<T>((gates[0] + gates[1]) + (gates[2] + gates[3]));
    else if (v.by_gate())
      for (int64_t k = 0; k < groups; k++) to[k] = sum<T>(gates[k]);
    for (int64_t k = 0; k < groups; k++) to[k] *= factor;
  }
};

template <typename T> struct Full : Scan<T> {
  using Base = Scan<T>;
  using Base::p, Base::s;
  T *bias_hn, *peepholes;  // (padded), (3 * padded)

  Full(const Problem& problem, Arena& arena) : Base(problem, arena) {
    bias_hn = arena.take<T>(s.padded);
    peepholes = arena.take<T>(3 * s.padded);
  }
  void prepare() {
    Base::prepare();
    regroup(s, p.bias_hn, 1, bias_hn);
    for (int k = 0; k < 3; k++) regroup(s, p.peepholes ? static_cast<const T*>(p.peepholes) + k * s.H : nullptr, 1, peepholes + k * s.padded);
    for (const Norm<T>* n : {&this->input, &this->hidden, &this->joint, &this->cell, &this->output})
      if (!n->place->gain) std::fill(n->gain, n->gain + n->gates * s.padded, T(1));
  }

  struct Views {
    View<T> input, hidden, joint, cell, output;
  };
  Views views(int64_t t) const {
    const int64_t at = this->begin(t), w = s.width, u = s.padded;
    T *x = this->split ? this->gates_x(t) : nullptr, *h = this->gates_h(t);
    return {{s, this->input, x, w, kGates, t, at},
            {s, this->hidden, h, w, kGates, t, at},
            {s, this->joint, h, w, kGates, t, at},
            {s, this->cell, this->cells(t), u, 1, t, at},
            {s, this->output, outputs(t), u, 1, t, at}};
  }
  T* rows_of(void* base, int64_t t, int64_t stride) const {
    return base ? static_cast<T*>(base) + this->begin(t) * stride : nullptr;
  }
  T* outputs(int64_t t) const { return rows_of(p.outputs, t, s.padded); }
  T* carried(int64_t t) const { return p.carried_states ? rows_of(p.carried_states, t, s.padded) : this->cells(t); }
  INLINE V<T> units(const T* row, int64_t b) const {  // of a row of H values
    const int64_t lanes = s.lanes(b);
    return lanes == L<T> ? load(row + b * L<T>) : load(row + b * L<T>, lanes);
  }
  INLINE V<T> noise(const void* masks, int64_t t, int64_t r, int64_t b) const {
    return units(static_cast<const T*>(masks) + (this->offsets[t] + r) * s.H, b);
  }
  INLINE V<T> old_h(int64_t t, int64_t r, int64_t b) const { return units(this->h_before(t) + r * s.H, b); }
  INLINE V<T> old_c(int64_t t, int64_t r, int64_t b) const {
    if (t == 0) return units(static_cast<const T*>(p.c_0) + r * s.H, b);
    return load(carried(t - 1) + r * s.padded + b * L<T>);
  }
  INLINE V<T> peephole(int k, int64_t b) const { return load(peepholes + k * s.padded + b * L<T>); }

  // Threads share the rows, or, where moments are by column, the units. Where some are by row and others by column, threads
  // have rows, and meet before and after moments by column, for which they have units.
  template <typename Work> void sweep(const Part<T>& part, int64_t rows, Work&& work) const {
    const Span all{0, s.blocks};
    if (this->mixed) return work(Region{part.me, rows, part.threads, all}, Region{0, rows, 1, part.mine});
    if (part.elements_by_column) {
      for (int64_t b = part.blocks.first; b < part.blocks.last; b++) {
        const Region g{0, rows, 1, {b, b + 1}};
        work(g, g);
      }
      return;
    }
    for (int64_t r = part.first; r < rows; r += part.step) {
      const Region g{r, r + 1, 1, all};
      work(g, g);
    }
  }
  void meet() const {
    if (this->mixed) this->gather();
  }

  // Arguments of the nonlinearities, without peepholes: of all gates; of a GRU r, z and the two parts of the candidate.
  INLINE void gates(const Views& v, int64_t r, int64_t b, V<T>* a) const {
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; gate++) {
      const bool both = v.joint.kind && !(kCell == kGRU && gate == 2);
      V<T> h = v.hidden.raw(r, b, gate), x{};
      h = both ? v.joint.apply(h, r, b, gate) : v.hidden.apply(h, r, b, gate);
      if (this->split && !both) x = v.input.apply(v.input.raw(r, b, gate), r, b, gate);
      if (kCell == kGRU && gate == 2) a[2] = x, a[3] = h + load(bias_hn + b * L<T>);
      else a[gate] = h + x + load(this->bias + (b * kGates + gate) * L<T>);
    }
  }
  // σ, exactly 0 where the true value rounds to it: times an infinite state it is NaN, not infinite.
  static INLINE V<T> gate(V<T> a) { return a < T(sizeof(T) == 8 ? -746 : -104) ? V<T>{} : sigmoid<T>(a); }
  // The sum of a GRU's candidate after its normalizer.
  INLINE V<T> candidate(const Views& v, V<T> sum, int64_t r, int64_t b) const {
    return v.cell.apply(sum, r, b, 0) + load(this->bias + (b * kGates + 2) * L<T>);
  }
};
