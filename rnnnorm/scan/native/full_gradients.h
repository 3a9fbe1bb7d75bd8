// From the gradients of h_t and c_t to those of the products, at the elements of one step, with all places and features.
#pragma once

#include "full.h"

template <typename T> struct FullGradients : Full<T> {
  using Base = Full<T>;
  using Base::p, Base::s;
  using typename Base::Views;
  int64_t wide;         // whole panels over H
  T *d_h, *d_c, *rest;  // (B, wide), (B, padded): what later steps say about W_hh's h_t, c_t, and h_t apart from W_hh
  T* sums;              // per thread: see `Sums`
  int64_t sums_size;
  T* scratch;           // what is between the stages, for each element
  struct Means {
    T *plain, *weighted;  // of q = gain * gradient, and of q times the normalized value; by column sums, without gain
  };
  Means of_input, of_hidden, of_joint, of_cell, of_output;

  static constexpr int kKept = 7;  // vectors for each element

  FullGradients(const Problem& problem, Arena& arena) : Base(problem, arena) {
    wide = s.pairs * kPanel<T>;
    d_h = arena.take<T>(s.B * wide);
    d_c = arena.take<T>(s.B * s.padded), rest = arena.take<T>(s.B * s.padded);
    sums_size = 4 * s.depth + 8 * s.padded + 5 * L<T>;
    sums = arena.take<T>(this->threads * sums_size);
    const int64_t elements = this->mixed ? s.B * s.blocks : this->threads * (this->by_column ? s.B : s.blocks);
    scratch = arena.take<T>(elements * kKept * L<T>);
    of_input = means_of(this->input, arena), of_hidden = means_of(this->hidden, arena), of_joint = means_of(this->joint, arena);
    of_cell = means_of(this->cell, arena), of_output = means_of(this->output, arena);
  }
  Means means_of(const Norm<T>& norm, Arena& arena) const {
    const int64_t count = norm.kind == kRow ? s.B * norm.place->groups : norm.kind == kColumn ? norm.gates * s.padded : 0;
    return {arena.take<T>(count), arena.take<T>(count)};
  }

  // Gradients of b, of gain, bias and alpha of the places, of a GRU's inner bias, and of peepholes.
  struct Sums {
    struct Affine {
      T *gain, *bias, *alpha;
    };
    T* bias;
    Affine input, hidden, joint, cell, output;
    T *bias_hn, *peepholes;
  };
  Sums sums_of(int thread) const {
    T *at = sums + thread * sums_size, *units = at + 4 * s.depth, *alpha = units + 8 * s.padded;
    const int64_t w = s.depth, u = s.padded;
    return {at,
            {at + w, nullptr, alpha},
            {at + 2 * w, nullptr, alpha + L<T>},
            {at + 3 * w, nullptr, alpha + 2 * L<T>},
            {units, units + u, alpha + 3 * L<T>},
            {units + 2 * u, units + 3 * u, alpha + 4 * L<T>},
            units + 4 * u,
            units + 5 * u};
  }
  static INLINE void add(T* to, V<T> v) { store(to, load(to) + v); }

  // What is known of h_t and c_t: from later steps, from the output, and from the last states where sequences end.
  void arrive(const Part<T>& part, int64_t t) {
    const T *out = static_cast<const T*>(p.d_out), *h_n = static_cast<const T*>(p.d_h_n), *c_n = static_cast<const T*>(p.d_c_n);
    each({part.first, s.size(t), part.step, part.blocks}, [&](int64_t r, int64_t b) {
      T *h = d_h + r * wide + b * L<T>, *c = d_c + r * s.padded + b * L<T>;
      V<T> d{};
      if (r < s.size(t + 1)) d = later(r, b);
      else {
        if (h_n && !p.W_hr) d = this->units(h_n + r * s.H, b);
        store(c, c_n ? this->units(c_n + r * s.H, b) : V<T>{});
      }
      if (p.W_hr) return;
      if (out) d += this->units(out + (this->offsets[t] + r) * s.H, b);
      store(h, d);
    });
  }
  // Through W_hh and past it. Its product has zeros of the padding times what may be infinite.
  INLINE V<T> later(int64_t r, int64_t b) const {
    V<T> d = load(d_h + r * wide + b * L<T>);
    if (p.mask) d *= this->units(static_cast<const T*>(p.mask) + r * s.H, b);
    d += load(rest + r * s.padded + b * L<T>);
    return b + 1 < s.blocks ? d : s.mask > T(0) ? d : V<T>{};
  }

  void elements(const Part<T>& part, int64_t t) {
    const Views v = this->views(t);
    const Sums to = sums_of(part.me);
    const int64_t B = s.size(t), one = kKept * L<T>;
    const bool columns_only = part.elements_by_column;
    T* own = scratch + (this->mixed ? 0 : part.me * (columns_only ? s.B : s.blocks) * one);
    const int64_t row = this->mixed ? s.blocks * one : columns_only ? one : 0, block = columns_only ? 0 : one;
    const auto kept = [=](int64_t r, int64_t b) { return own + r * row + b * block; };
    this->sweep(part, B, [&](const Region& rows, const Region& columns) {
      const auto at = [&](int slot) {
        return [=](int64_t r, int64_t b, int gate) { return load(kept(r, b) + (slot + gate) * L<T>); };
      };
      const bool gates_normalized = v.input.kind || v.hidden.kind || v.joint.kind;
      each(rows, [&](int64_t r, int64_t b) { recompute(v, t, r, b, kept(r, b)); });
      if (v.output.kind) means(v.output, of_output, to.output, rows, columns, at(4));
      each(rows, [&](int64_t r, int64_t b) { shown(v, to, t, r, b, B, kept(r, b)); });
      if (v.cell.kind) means(v.cell, of_cell, to.cell, rows, columns, at(4));
      each(rows, [&](int64_t r, int64_t b) { arguments(v, to, t, r, b, B, kept(r, b)); });
      if (gates_normalized) {
        means(v.input, of_input, to.input, rows, columns, at(0));
        means(v.joint, of_joint, to.joint, rows, columns, at(0));
        means(v.hidden, of_hidden, to.hidden, rows, columns,
              [=](int64_t r, int64_t b, int gate) { return load(kept(r, b) + of_h(gate) * L<T>); });
      }
      each(rows, [&](int64_t r, int64_t b) { products(part, v, t, r, b, B, kept(r, b)); });
    });
  }
  // A GRU's W_hh h enters the candidate through r, W_ih x directly.
  static constexpr int of_h(int gate) { return kCell == kGRU && gate == 2 ? 3 : gate; }

  // Sums over the rows or columns of a normalizer, and the gradients of what it learns; d: those of its output.
  template <typename Gradient>
  void means(const View<T>& v, const Means& to, const typename Sums::Affine& affine, const Region& rows, const Region& columns, Gradient&& d) const {
    if (!v.kind) return;
    const int gates = v.norm.gates;
    if (v.kind == kColumn) {
      this->meet();
      for (int64_t b = columns.blocks.first; b < columns.blocks.last; b++)
        for (int gate = 0; gate < gates; gate++) {
          V<T> total{}, weighted{};
          for (int64_t r = columns.first; r < columns.last; r += columns.step) {
            const V<T> g = d(r, b, gate);
            total += g, weighted += g * v.hat(v.raw(r, b, gate), r, b, gate);
          }
          const int64_t j = v.column(b, gate);
          store(to.plain + j, total), store(to.weighted + j, weighted);
          add(affine.gain + j, weighted);
          if (affine.bias) add(affine.bias + j, total);
        }
      this->meet();
      return;
    }
    for (int64_t r = rows.first; r < rows.last; r += rows.step) {
      const int64_t groups = v.kind == kRow ? v.groups : 0;
      RowSums<T> plain(v, to.plain + r * groups, groups), weighted(v, to.weighted + r * groups, groups);
      for (int64_t b = rows.blocks.first; b < rows.blocks.last; b++)
        for (int gate = 0; gate < gates; gate++) {
          const int64_t j = v.column(b, gate);
          const V<T> x = v.raw(r, b, gate), hat = v.hat(x, r, b, gate), g = d(r, b, gate), q = g * load(v.norm.gain + j);
          add(affine.gain + j, g * hat);
          if (affine.bias) add(affine.bias + j, g);
          if (v.kind == kRow) {
            if (v.norm.place->centered) plain.add(q, b, gate);
            weighted.add(q * hat, b, gate);
          }
          if (v.kind == kSquash) add(affine.alpha, q * (T(1) - hat * hat) * x);
        }
      const T share = T(groups) / T(gates * s.H);
      plain.finish(share), weighted.finish(share);
    }
  }
  // Through a normalizer, from the gradient behind it.
  INLINE V<T> through(const View<T>& v, const Means& m, V<T> d, int64_t r, int64_t b, int gate, int64_t rows) const {
    if (!v.kind) return d;
    const int64_t j = v.column(b, gate);
    const V<T> gain = load(v.norm.gain + j);
    if (v.kind == kConstant) return d * gain * v.factor;
    if (v.kind == kColumn && !v.own) return d * gain * load(v.scale + j);
    const V<T> hat = v.hat(v.raw(r, b, gate), r, b, gate);
    if (v.kind == kSquash) return d * gain * (T(1) - hat * hat) * v.factor;
    if (v.kind == kColumn) return (d - (load(m.plain + j) + hat * load(m.weighted + j)) * (T(1) / T(rows))) * gain * load(v.scale + j);
    const int64_t k = r * v.groups;
    return (d * gain - v.of_group(m.plain + k, b, gate) - hat * v.of_group(m.weighted + k, b, gate)) * v.of_group(v.scale + k, b, gate);
  }
  // The shares of a gradient that belong to the new state and to the one before.
  INLINE V<T> zone(const void* masks, double keep, int64_t t, int64_t r, int64_t b, V<T> d, V<T>& before) const {
    if (!masks && keep == 0) return before = V<T>{}, d;  // not d times 0, which may be infinite
    if (!masks) return before = d * T(keep), d - before;
    const V<T> kept = this->noise(masks, t, r, b);
    before = kept > T(0) ? d : V<T>{};
    return kept > T(0) ? V<T>{} : d;
  }

  // The nonlinearities again, and the gradient of h_t before zoneout. Kept are for an LSTM i, f, g, o, that gradient, that of
  // c_t, tanh(N_cell(c_t)); for a GRU r, z, n, W_hh h's part of the candidate, that gradient; for an RNN h and that gradient.
  INLINE void recompute(const Views& v, int64_t t, int64_t r, int64_t b, T* kept) {
    V<T> a[4], before;
    this->gates(v, r, b, a);
    const V<T> d = zone(p.zone_h, p.keep_h, t, r, b, v.output.inside(load(d_h + r * wide + b * L<T>), b), before);
    store(rest + r * s.padded + b * L<T>, before);
    store(kept + 4 * L<T>, d);
    if constexpr (kCell == kRNN) {
      store(kept, p.nonlinearity == kTanh ? tanh<T>(a[0]) : a[0]);
    } else if constexpr (kCell == kGRU) {
      const V<T> reset = this->gate(a[0]), sum = v.cell.kind ? v.cell.raw(r, b, 0) : a[2] + reset * a[3];
      store(kept, reset), store(kept + L<T>, this->gate(a[1])), store(kept + 2 * L<T>, tanh<T>(this->candidate(v, sum, r, b)));
      store(kept + 3 * L<T>, a[3]);
    } else {
      const V<T> c = v.cell.raw(r, b, 0), seen = v.cell.apply(c, r, b, 0);
      if (p.peepholes) {
        const V<T> old = this->old_c(t, r, b);
        a[0] += this->peephole(0, b) * old, a[1] += this->peephole(1, b) * old, a[3] += this->peephole(2, b) * (p.carried ? seen : c);
      }
      store(kept, this->gate(a[0])), store(kept + L<T>, this->gate(a[1])), store(kept + 2 * L<T>, tanh<T>(a[2]));
      store(kept + 3 * L<T>, this->gate(a[3])), store(kept + 6 * L<T>, tanh<T>(seen));
      T* cell = d_c + r * s.padded + b * L<T>;
      store(kept + 5 * L<T>, zone(p.zone_c, p.keep_c, t, r, b, load(cell), before));
      store(cell, before);
    }
  }

  // Gradients behind the normalizer at `cell`, and of what sees h_t or c_t beside it.
  INLINE void shown(const Views& v, const Sums& to, int64_t t, int64_t r, int64_t b, int64_t B, T* kept) {
    const V<T> d = through(v.output, of_output, load(kept + 4 * L<T>), r, b, 0, B);
    if constexpr (kCell == kRNN) {
      const V<T> h = load(kept);
      const V<T> slope = p.nonlinearity == kTanh ? T(1) - h * h : splat(T(1));
      store(kept, p.nonlinearity == kRelu ? (h <= T(0) ? V<T>{} : d) : d * slope);
    } else if constexpr (kCell == kGRU) {
      const V<T> z = load(kept + L<T>), n = load(kept + 2 * L<T>);
      const V<T> m = p.update ? this->noise(p.update, t, r, b) : splat(T(1));
      const V<T> d_n = d * (T(1) - z) * m * (T(1) - n * n);
      store(kept + L<T>, d * (this->old_h(t, r, b) - n * m) * z * (T(1) - z)), store(kept + 4 * L<T>, d_n);
      add(rest + r * s.padded + b * L<T>, d * z);
      add(to.bias + (b * kGates + 2) * L<T>, d_n);
    } else {
      const V<T> o = load(kept + 3 * L<T>), squashed = load(kept + 6 * L<T>), d_o = d * squashed * o * (T(1) - o);
      V<T> d_shown = d * o * (T(1) - squashed * squashed), d_state = load(kept + 5 * L<T>);
      if (p.peepholes) {
        const V<T> c = v.cell.raw(r, b, 0);
        d_state += d_o * this->peephole(2, b);
        add(to.peepholes + 2 * s.padded + b * L<T>, d_o * (p.carried ? v.cell.apply(c, r, b, 0) : c));
      }
      if (p.carried) d_shown += d_state, d_state = V<T>{};
      store(kept + 3 * L<T>, d_o), store(kept + 4 * L<T>, d_shown), store(kept + 5 * L<T>, d_state);
    }
  }

  // Gradients of the nonlinearities' arguments; the states before get theirs, as far as they do not go through W_hh.
  INLINE void arguments(const Views& v, const Sums& to, int64_t t, int64_t r, int64_t b, int64_t B, T* kept) {
    T* bias = to.bias + b * kGates * L<T>;
    if constexpr (kCell == kRNN) {
      add(bias, load(kept));
    } else if constexpr (kCell == kGRU) {
      const V<T> reset = load(kept), d = through(v.cell, of_cell, load(kept + 4 * L<T>), r, b, 0, B), d_u = d * reset;
      const V<T> d_r = d * load(kept + 3 * L<T>) * reset * (T(1) - reset);
      store(kept, d_r), store(kept + 2 * L<T>, d), store(kept + 3 * L<T>, d_u);
      add(bias, d_r), add(bias + L<T>, load(kept + L<T>)), add(to.bias_hn + b * L<T>, d_u);
    } else {
      const V<T> i = load(kept), f = load(kept + L<T>), n = load(kept + 2 * L<T>), old = this->old_c(t, r, b);
      const V<T> d = through(v.cell, of_cell, load(kept + 4 * L<T>), r, b, 0, B) + load(kept + 5 * L<T>);
      const V<T> m = p.update ? this->noise(p.update, t, r, b) : splat(T(1));
      const V<T> all[4] = {d * n * m * i * (T(1) - i), d * old * f * (T(1) - f), d * i * m * (T(1) - n * n), load(kept + 3 * L<T>)};
      V<T> d_old = d * f;
      if (p.peepholes) {
        d_old += all[0] * this->peephole(0, b) + all[1] * this->peephole(1, b);
        for (int k = 0; k < 2; k++) add(to.peepholes + k * s.padded + b * L<T>, all[k] * old);
      }
      add(d_c + r * s.padded + b * L<T>, v.cell.inside(d_old, b));
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; gate++) store(kept + gate * L<T>, all[gate]), add(bias + gate * L<T>, all[gate]);
    }
  }

  // Gradients of the products.
  INLINE void products(const Part<T>& part, const Views& v, int64_t t, int64_t r, int64_t b, int64_t B, const T* kept) const {
    const int64_t at = part.in_chunk(t, r) * s.width;
    T *to_h = part.chunk_h + at, *to_x = part.chunk_x + at;
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; gate++) {
      const bool both = v.joint.kind && !(kCell == kGRU && gate == 2);
      const int64_t j = (b * kGates + gate) * L<T>;
      V<T> d = load(kept + of_h(gate) * L<T>);
      d = both ? through(v.joint, of_joint, d, r, b, gate, B) : through(v.hidden, of_hidden, d, r, b, gate, B);
      store(to_h + j, v.hidden.inside(d, b));
      if (!this->split) continue;
      if (!both) d = through(v.input, of_input, load(kept + gate * L<T>), r, b, gate, B);
      store(to_x + j, v.input.inside(d, b));
    }
  }
  void first_states(const Part<T>& part) const {
    each({part.first, s.B, part.step, part.blocks}, [&](int64_t r, int64_t b) {
      if (p.d_h_0 && !p.W_hr) this->put(static_cast<T*>(p.d_h_0) + r * s.H, b, later(r, b));
      if (p.d_c_0) this->put(static_cast<T*>(p.d_c_0) + r * s.H, b, load(d_c + r * s.padded + b * L<T>));
    });
  }

  void give_sums() const {
    const Sums all = sums_of(0);
    this->give(all.bias, kGates, p.d_bias);
    this->give(all.bias_hn, 1, p.d_bias_hn);
    for (int k = 0; k < 3 && p.d_peepholes; k++) ungroup(s, all.peepholes + k * s.padded, 1, static_cast<T*>(p.d_peepholes) + k * s.H);
    const Norm<T>* norms[] = {&this->input, &this->hidden, &this->joint, &this->cell, &this->output};
    const typename Sums::Affine* affine[] = {&all.input, &all.hidden, &all.joint, &all.cell, &all.output};
    for (int k = 0; k < 5; k++) {
      const Place& place = *norms[k]->place;
      this->give(affine[k]->gain, norms[k]->gates, place.d_gain);
      if (affine[k]->bias) this->give(affine[k]->bias, norms[k]->gates, place.d_bias);
      if (place.d_alpha) *static_cast<T*>(place.d_alpha) = sum<T>(load(affine[k]->alpha));
    }
  }
};
