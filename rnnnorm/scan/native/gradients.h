// From the gradients of h_t and c_t to those of the products, at the elements of one step.
#pragma once

#include "step.h"

template <typename T> struct Gradients : Scan<T> {
  using Base = Scan<T>;
  using Base::p, Base::s;
  int64_t wide;        // whole panels over H
  T *d_h, *d_c;     // (B, wide) and (B, padded): what later steps say about h_t and c_t
  T* sums;          // per thread: gradients of b, of the gains at the gates, of gain and bias of the cell
  int64_t sums_size;
  T* scratch;       // per thread: what is between the gates and the cell

  Gradients(const Problem& problem, Arena& arena) : Base(problem, arena) {
    wide = s.pairs * kPanel<T>;
    d_h = arena.take<T>(s.B * wide);
    d_c = arena.take<T>(s.B * s.padded);
    sums_size = 4 * (s.width + kApart * L<T>) + 2 * s.padded;
    sums = arena.take<T>(this->threads * sums_size);
    scratch = arena.take<T>(this->threads * (this->by_column ? s.B * kKept * L<T> : s.blocks * kKept * L<T>));
  }

  static constexpr int kApart = 6;  // vectors between sums, so that they do not begin at the same place of a page
  static constexpr int kKept = 6;  // vectors per block and row: i, f, g, o or their gradients; N_cell's output's; c's hat

  struct Sums {
    T *bias, *input, *hidden, *joint, *gain, *shift;
  };
  Sums sums_of(int thread) const {
    T* at = sums + thread * sums_size;
    const int64_t w = s.width + kApart * L<T>;
    return {at, at + w, at + 2 * w, at + 3 * w, at + 4 * w, at + 4 * w + s.padded};
  }

  static INLINE void add(T* to, V<T> v) { store(to, load(to) + v); }

  // What is known of h_t and c_t from outside: gradients of the output, and of the last states where sequences end.
  void arrive(const Part<T>& part, int64_t t) {
    const T *out = static_cast<const T*>(p.d_out), *h_n = static_cast<const T*>(p.d_h_n), *c_n = static_cast<const T*>(p.d_c_n);
    for (int64_t r = part.first; r < s.size(t); r += part.step) {
      const bool last = r >= s.size(t + 1);
      const T* row = out ? out + (this->offsets[t] + r) * s.H : nullptr;
      for (int64_t b = part.blocks.first; b < part.blocks.last; b++) {
        const int64_t j = b * L<T>, lanes = s.lanes(b);
        T *h = d_h + r * wide + j, *c = d_c + r * s.padded + j;
        V<T> d = last ? (h_n ? load(h_n + r * s.H + j, lanes) : V<T>{}) : load(h);
        if (row) d += lanes == L<T> ? load(row + j) : load(row + j, lanes);
        store(h, d);
        if (last) store(c, c_n ? load(c_n + r * s.H + j, lanes) : V<T>{});
      }
    }
  }

  // The nonlinearities again: i, f, g and the gradient of o's preactivation, that of N_cell's output (complete if the
  // cell is carried), and the normalized cell.
  INLINE void recompute(int64_t t, int64_t r, int64_t b, const V<T>* a, const Seen<T>& as, T* kept) const {
    const V<T> o = sigmoid<T>(a[3]), c = load(this->cells(t) + r * s.padded + b * L<T>), hat = as.normalize(c, b * L<T>, 0);
    const V<T> y = as.kind ? hat * load(this->cell.gain + b * L<T>) + load(this->cell.bias + b * L<T>) : c;
    const V<T> squashed = tanh<T>(y), d = load(d_h + r * wide + b * L<T>);
    V<T> d_shown = d * o * (T(1) - squashed * squashed);
    if (p.carried) d_shown += load(d_c + r * s.padded + b * L<T>);
    const V<T> kept_now[kKept] = {sigmoid<T>(a[0]), sigmoid<T>(a[1]), tanh<T>(a[2]), d * squashed * o * (T(1) - o), d_shown, hat};
#pragma GCC unroll 6
    for (int k = 0; k < kKept; k++) store(kept + k * L<T>, kept_now[k]);
  }

  // Gradients of the gates' preactivations, in place, from that of c_t before its normalizer; c_{t-1} gets its own.
  INLINE void gate_gradients(int64_t t, int64_t r, int64_t b, V<T> d_cell, T* kept, V<T>* d) const {
    const V<T> i = load(kept), f = load(kept + L<T>), n = load(kept + 2 * L<T>);
    T* d_before = d_c + r * s.padded + b * L<T>;
    if (!p.carried) d_cell += load(d_before);
    d[0] = d_cell * n * i * (T(1) - i);
    d[1] = d_cell * this->cell_before(t, r, b) * f * (T(1) - f);
    d[2] = d_cell * i * (T(1) - n * n);
    d[3] = load(kept + 3 * L<T>);
    store(d_before, d_cell * f);
#pragma GCC unroll 3
    for (int gate = 0; gate < 3; gate++) store(kept + gate * L<T>, d[gate]);
  }

  // What a normalizer by row needs: per group the means of q and of q times the normalized row, q = gain * gradient.
  struct RowSums {
    V<T> plain[4]{}, weighted[4]{};
    T mean[4], mean_weighted[4];
    INLINE void add(int group, V<T> q, V<T> hat) { plain[group] += q, weighted[group] += q * hat; }
    void finish(const Seen<T>& seen, int64_t features) {
      if (!seen.per_gate) {
        plain[0] += plain[1] + (plain[2] + plain[3]);
        weighted[0] += weighted[1] + (weighted[2] + weighted[3]);
      }
      const int groups = seen.per_gate ? 4 : 1;
      const T share = T(groups) / T(features);
      for (int k = 0; k < 4; k++) {
        const bool own = k < groups;
        mean[k] = !seen.centered ? T(0) : own ? sum<T>(plain[k]) * share : mean[0];
        mean_weighted[k] = own ? sum<T>(weighted[k]) * share : mean_weighted[0];
      }
    }
    INLINE V<T> back(V<T> q, V<T> hat, int group, V<T> scale) const {
      return (q - mean[group] - hat * mean_weighted[group]) * scale;
    }
  };

  void row(const Part<T>& part, int64_t t, int64_t r) {
    const int64_t at = this->begin(t) + r, w = s.width;
    const T *gx = this->split ? this->gates_x(t) + r * w : nullptr, *gh = this->gates_h(t) + r * w;
    const Seen<T> in = this->input.seen(at, t, w), hid = this->hidden.seen(at, t, w), both = this->joint.seen(at, t, w),
                  as = this->cell.seen(at, t, s.padded);
    const Seen<T>& lower = both.kind ? both : hid;
    const T* lower_gain = both.kind ? this->joint.gain : this->hidden.gain;
    const Sums to = sums_of(part.me);
    T* lower_sums = both.kind ? to.joint : to.hidden;
    T* kept = scratch + part.me * s.blocks * kKept * L<T>;
    T *to_h = part.chunk_h + part.in_chunk(t, r) * w, *to_x = part.chunk_x + part.in_chunk(t, r) * w;
    RowSums of_in, of_lower, of_cell;
    if (as.kind) {
      for (int64_t b = 0; b < s.blocks; b++) {
        T* now = kept + b * kKept * L<T>;
        recompute(t, r, b, this->gates(gx, gh, b, in, hid, both).a, as, now);
        const V<T> d_shown = load(now + 4 * L<T>), hat = load(now + 5 * L<T>);
        add(to.gain + b * L<T>, d_shown * hat);
        add(to.shift + b * L<T>, d_shown);
        of_cell.add(b & 3, d_shown * load(this->cell.gain + b * L<T>), hat);
      }
      of_cell.finish(as, s.H);
    }
    // The gradients of the sum, with the sums over the row that its normalizers need, and then those of the products.
    for (int64_t b = 0; b < s.blocks; b++) {
      T* now = kept + b * kKept * L<T>;
      V<T> d[4];
      if (as.kind) {
        const V<T> q = load(now + 4 * L<T>) * load(this->cell.gain + b * L<T>);
        gate_gradients(t, r, b, of_cell.back(q, load(now + 5 * L<T>), 0, as.inverse(0, 0)), now, d);
      } else {
        recompute(t, r, b, this->gates(gx, gh, b, in, hid, both).a, as, now);
        gate_gradients(t, r, b, load(now + 4 * L<T>), now, d);
      }
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; gate++) {
        const int64_t j = (b * 4 + gate) * L<T>;
        add(to.bias + j, d[gate]);
        if (in.kind) {
          const V<T> hat = in.normalize(load(gx + j), j, gate);
          add(to.input + j, d[gate] * hat);
          of_in.add(gate, d[gate] * load(this->input.gain + j), hat);
        }
        if (lower.kind) {
          const V<T> hat = lower.normalize(load(gh + j), j, gate);
          add(lower_sums + j, d[gate] * hat);
          of_lower.add(gate, d[gate] * load(lower_gain + j), hat);
        } else {
          store(to_h + j, d[gate]);
        }
        if (this->split && !in.kind) store(to_x + j, d[gate]);
      }
    }
    if (in.kind) {
      of_in.finish(in, 4 * s.H);
      back(kept, gx, in, this->input.gain, of_in, to_x);
    }
    if (lower.kind) {
      of_lower.finish(lower, 4 * s.H);
      back(kept, gh, lower, lower_gain, of_lower, to_h);
    }
  }

  // Through a normalizer by row, from the gradients that are kept.
  void back(const T* kept, const T* row, const Seen<T>& seen, const T* gain, const RowSums& means, T* to) const {
    for (int64_t b = 0; b < s.blocks; b++)
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; gate++) {
        const int64_t j = (b * 4 + gate) * L<T>;
        const V<T> hat = seen.normalize(load(row + j), j, gate), q = load(kept + (b * kKept + gate) * L<T>) * load(gain + j);
        store(to + j, means.back(q, hat, gate, seen.inverse(j, gate)));
      }
  }

  void columns(const Part<T>& part, int64_t t) {
    const int64_t B = s.size(t), w = s.width;
    const int64_t last_own = std::max({p.input.own, p.hidden.own, p.joint.own, p.cell.own});  // those that stand agree
    const bool own = t < last_own;
    const Seen<T> in = this->input.seen(0, t, w), hid = this->hidden.seen(0, t, w), both = this->joint.seen(0, t, w),
                  as = this->cell.seen(0, t, s.padded);
    const Seen<T>& lower = both.kind ? both : hid;
    const T* lower_gain = both.kind ? this->joint.gain : this->hidden.gain;
    const Sums to = sums_of(part.me);
    T* kept = scratch + part.me * s.B * kKept * L<T>;
    const T *gx = this->split ? this->gates_x(t) : nullptr, *gh = this->gates_h(t);
    for (int64_t b = part.blocks.first; b < part.blocks.last; b++) {
      V<T> gain{}, shift{};
      for (int64_t r = 0; r < B; r++) {
        T* now = kept + r * kKept * L<T>;
        recompute(t, r, b, this->gates(gx ? gx + r * w : nullptr, gh + r * w, b, in, hid, both).a, as, now);
        const V<T> d_shown = load(now + 4 * L<T>);
        gain += d_shown * load(now + 5 * L<T>), shift += d_shown;
      }
      if (as.kind) add(to.gain + b * L<T>, gain), add(to.shift + b * L<T>, shift);
      V<T> bias[4]{}, of_in[4]{}, of_lower[4]{};
      for (int64_t r = 0; r < B; r++) {
        T* now = kept + r * kKept * L<T>;
        V<T> d[4], d_cell = load(now + 4 * L<T>);
        if (as.kind) {
          if (own) d_cell -= (shift + load(now + 5 * L<T>) * gain) / T(B);
          d_cell *= load(this->cell.gain + b * L<T>) * as.inverse(b * L<T>, 0);
        }
        gate_gradients(t, r, b, d_cell, now, d);
#pragma GCC unroll 4
        for (int gate = 0; gate < 4; gate++) {
          const int64_t j = (b * 4 + gate) * L<T>;
          bias[gate] += d[gate];
          if (in.kind) of_in[gate] += d[gate] * in.normalize(load(gx + r * w + j), j, gate);
          if (lower.kind) of_lower[gate] += d[gate] * lower.normalize(load(gh + r * w + j), j, gate);
        }
      }
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; gate++) {
        const int64_t j = (b * 4 + gate) * L<T>;
        add(to.bias + j, bias[gate]);
        if (in.kind) add(to.input + j, of_in[gate]);
        if (lower.kind) add((both.kind ? to.joint : to.hidden) + j, of_lower[gate]);
      }
      for (int64_t r = 0; r < B; r++) {
        T *to_h = part.chunk_h + part.in_chunk(t, r) * w, *to_x = part.chunk_x + part.in_chunk(t, r) * w;
#pragma GCC unroll 4
        for (int gate = 0; gate < 4; gate++) {
          const int64_t j = (b * 4 + gate) * L<T>;
          const V<T> d = load(kept + (r * kKept + gate) * L<T>);
          store(to_h + j, lower.kind ? step_back(load(gh + r * w + j), j, gate, lower, lower_gain, d, own, bias[gate], of_lower[gate], B) : d);
          if (this->split)
            store(to_x + j, in.kind ? step_back(load(gx + r * w + j), j, gate, in, this->input.gain, d, own, bias[gate], of_in[gate], B) : d);
        }
      }
    }
  }

  void elements(const Part<T>& part, int64_t t) {
    if (part.elements_by_column) columns(part, t);
    else
      for (int64_t r = part.first; r < s.size(t); r += part.step) row(part, t, r);
  }

  void give_sums() const {
    const Sums all = sums_of(0);
    this->give(all.bias, kGates, p.d_bias);
    this->give(all.input, kGates, p.input.d_gain);
    this->give(all.hidden, kGates, p.hidden.d_gain);
    this->give(all.joint, kGates, p.joint.d_gain);
    this->give(all.gain, 1, p.cell.d_gain);
    this->give(all.shift, 1, p.cell.d_bias);
  }

  void first_states(const Part<T>& part) const {
    for (int64_t r = part.first; r < s.B; r += part.step)
      for (int64_t b = part.blocks.first; b < part.blocks.last; b++) {
        const int64_t j = b * L<T>;
        if (p.d_h_0) store(static_cast<T*>(p.d_h_0) + r * s.H + j, load(d_h + r * wide + j), s.lanes(b));
        if (p.d_c_0) store(static_cast<T*>(p.d_c_0) + r * s.H + j, load(d_c + r * s.padded + j), s.lanes(b));
      }
  }

  // From the gradient behind a normalizer by column to the one before it; x is what was normalized.
  static INLINE V<T> step_back(V<T> x, int64_t j, int gate, const Seen<T>& seen, const T* gain, V<T> d, bool own, V<T> total,
                        V<T> weighted, int64_t rows) {
    if (own) d -= (total + seen.normalize(x, j, gate) * weighted) * (T(1) / T(rows));
    return d * load(gain + j) * seen.inverse(j, gate);
  }
};
