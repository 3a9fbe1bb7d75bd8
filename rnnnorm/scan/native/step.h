// What forward and backward share: the places as one row sees them, moments, and who works on what.
#pragma once

#include "problem.h"

// One normalizer as one row of one step sees it.
template <typename T> struct Seen {
  int64_t kind = kNone;
  bool per_gate = false, centered = true;
  T *center = nullptr, *scale = nullptr;  // by row: one value or one per gate; by column: vectors

  INLINE V<T> middle(long j, int gate) const { return kind == kRow ? splat(center[per_gate ? gate : 0]) : load(center + j); }
  INLINE V<T> inverse(long j, int gate) const { return kind == kRow ? splat(scale[per_gate ? gate : 0]) : load(scale + j); }
  INLINE V<T> normalize(V<T> x, long j, int gate) const {
    return kind == kNone ? x : (x - middle(j, gate)) * inverse(j, gate);
  }
};

template <typename T> struct Norm {
  const Place* place;
  int64_t kind;
  const T *gain, *bias;  // regrouped

  // `row`: where rows of this step begin in storage, plus the row; `t`: the step.
  Seen<T> seen(long row, long t, long width) const {
    const long groups = place->groups;
    const long at = kind == kRow ? row * groups : kind == kColumn ? t * width : 0;
    T *center = static_cast<T*>(place->center), *scale = static_cast<T*>(place->scale);
    return {kind, groups == 4, place->centered != 0, center ? center + at : nullptr, scale ? scale + at : nullptr};
  }
};

// The sum over `count` vectors `stride` apart of their deviations from `mean`, squared or not. Four sums at a time, since
// each addition waits for the one before.
template <typename T, bool Squared> static V<T> reduce(const T* row, long count, long stride, T mean) {
  const auto term = [&](long i) {
    const V<T> d = load(row + i * stride * L<T>) - mean;
    return Squared ? d * d : d;
  };
  V<T> a{}, b{}, c{}, d{};
  long i = 0;
  for (; i + 4 <= count; i += 4) a += term(i), b += term(i + 1), c += term(i + 2), d += term(i + 3);
  for (; i < count; i++) a += term(i);
  return (a + b) + (c + d);
}

// Mean and root of one row of `gates` vectors per block; what lies in the padding is 0 and does not count.
template <typename T>
static void row_moments(const Shape<T>& s, const T* row, int gates, const Place& place, const Seen<T>& to) {
  const int groups = to.per_gate ? 4 : 1, vectors = gates / groups;
  const T count = T(s.H) * vectors;
  const long whole = s.lanes(s.blocks - 1) == L<T> ? s.blocks : s.blocks - 1;  // blocks without padding
  for (int group = 0; group < groups; group++) {
    // A group is all vectors, or one of four in each block.
    const T* first = row + group * L<T>;
    const long stride = groups == 4 ? 4 : 1, each = groups == 4 ? 1 : gates;
    T mean = 0;
    if (to.centered) mean = sum<T>(reduce<T, false>(first, s.blocks * each, stride, T(0))) / count;
    V<T> squares = reduce<T, true>(first, whole * each, stride, mean);
    for (long i = whole * each; i < s.blocks * each; i++) {
      const V<T> d = (load(first + i * stride * L<T>) - mean) * s.mask;
      squares += d * d;
    }
    to.center[group] = mean;
    to.scale[group] = 1 / std::sqrt(sum<T>(squares) / count + T(place.eps));
  }
}

// Mean and biased variance of one vector of columns over rows, in two passes.
template <typename T> static void column_moments(const T* first, long stride, long rows, V<T>& mean, V<T>& var) {
  V<T> total{}, squares{};
  for (long r = 0; r < rows; r++) total += load(first + r * stride);
  mean = total / T(rows);
  for (long r = 0; r < rows; r++) {
    const V<T> d = load(first + r * stride) - mean;
    squares += d * d;
  }
  var = squares / T(rows);
}

template <typename T> static V<T> root(V<T> x) {
  for (int l = 0; l < L<T>; l++) x[l] = std::sqrt(x[l]);
  return x;
}

// Moments of step t in torch's order <-> center and scale of one vector of columns.
template <typename T> struct ColumnMoments {
  const Place& place;
  const Shape<T>& s;
  int gates;

  long at(long t, long b, int gate) const { return t * gates * s.H + gate * s.H + b * L<T>; }
  void give(long t, long b, int gate, V<T> mean, V<T> var) const {
    store(static_cast<T*>(place.mean) + at(t, b, gate), mean, s.lanes(b));
    store(static_cast<T*>(place.var) + at(t, b, gate), var, s.lanes(b));
  }
  void take(long t, long b, int gate, V<T>& mean, V<T>& var) const {
    mean = load(static_cast<const T*>(place.given_mean) + at(t, b, gate), s.lanes(b));
    var = load(static_cast<const T*>(place.given_var) + at(t, b, gate), s.lanes(b));
  }
  void keep(long b, int gate, V<T> mean, V<T> var, const Seen<T>& to) const {
    const long j = (b * gates + gate) * L<T>;
    store(to.center + j, mean);
    store(to.scale + j, T(1) / root<T>(var + T(place.eps)));
  }
};

// Who works on what. Elements: with moments by column a thread owns hidden units of all rows; otherwise it owns rows,
// every n-th one, so that sequences of all lengths are spread evenly. Products: by the same division, unless the weights
// do not fit into a core's cache; then each thread has its own columns of them, too, whoever owns the elements.
template <typename T> struct Part {
  int me, threads;
  bool elements_by_column, products_by_column;
  Span blocks;        // of units: elements
  Span gates, pairs;  // panels of gates, and of units: products
  long first, step;   // rows: elements
  long product_first, product_step;

  Part(const Shape<T>& s, bool elements, bool products, int me_, int n)
      : me(me_), threads(n), elements_by_column(elements), products_by_column(products) {
    const Span all{0, s.pairs}, mine = share(s.pairs, me, n);
    const auto units = [&](Span of) { return Span{of.first * 2, std::min(of.last * 2, s.blocks)}; };
    blocks = units(elements ? mine : all);
    pairs = products ? mine : all;
    gates = {units(pairs).first * 4 / kPanelVectors, units(pairs).last * 4 / kPanelVectors};
    first = elements ? 0 : me, step = elements ? 1 : n;
    product_first = products ? 0 : me, product_step = products ? 1 : n;
  }
  Rows<const T> rows(const T* base, long stride, long count) const {
    return {base + product_first * stride, stride * product_step, share_of(count)};
  }
  Rows<T> rows(T* base, long stride, long count) const {
    return {base + product_first * stride, stride * product_step, share_of(count)};
  }
  // After elements, before products that read those of other threads; and the other way round.
  bool meet() const { return products_by_column; }
  bool meet_again() const { return products_by_column && !elements_by_column; }

 private:
  long share_of(long count) const {
    return count > product_first ? (count - product_first + product_step - 1) / product_step : 0;
  }
};

constexpr long kWeightsInCache = 2 << 20;  // bytes that a core's second cache and a share of the third hold

// All that is prepared once per call, and the addresses of rows.
template <typename T> struct Scan {
  const Problem& p;
  Shape<T> s;
  bool split;  // W_ih x stands alone
  bool by_column, products_by_column;
  int threads;
  Norm<T> input, hidden, joint, cell;
  T *bias, *packed_x, *packed_h;
  long* offsets;

  Scan(const Problem& problem, Arena& arena)
      : p(problem), s(problem), split(problem.input.kind || problem.hidden.kind) {
    by_column = p.input.kind == kColumn || p.hidden.kind == kColumn || p.joint.kind == kColumn || p.cell.kind == kColumn;
    const bool by_row = p.input.kind == kRow || p.hidden.kind == kRow || p.joint.kind == kRow || p.cell.kind == kRow;
    // Few rows per thread would leave the products without reuse of the weights.
    if (!by_row && s.B < 4 * p.threads) by_column = true;
    products_by_column = by_column || s.width * s.H * long(sizeof(T)) > kWeightsInCache;
    if (products_by_column && !by_row) by_column = true;
    threads = int(std::max<long>(1, std::min<long>(p.threads, products_by_column ? s.pairs : (s.B + 3) / 4)));
    offsets = arena.take<long>(s.T_ + 1);
    bias = arena.take<T>(s.width);
    input = norm(p.input, 4, arena), hidden = norm(p.hidden, 4, arena), joint = norm(p.joint, 4, arena);
    cell = norm(p.cell, 1, arena);
  }
  Norm<T> norm(const Place& place, int gates, Arena& arena) {
    return {&place, place.kind, arena.take<T>(gates * s.padded), arena.take<T>(gates * s.padded)};
  }
  void prepare() {  // by one thread
    offsets[0] = 0;
    for (long t = 0; t < s.T_; t++) offsets[t + 1] = offsets[t] + s.sizes[t];
    regroup(s, p.bias, 4, bias);
    for (const Norm<T>* n : {&input, &hidden, &joint, &cell}) {
      regroup(s, n->place->gain, n == &cell ? 1 : 4, const_cast<T*>(n->gain));
      regroup(s, n->place->bias, n == &cell ? 1 : 4, const_cast<T*>(n->bias));
    }
  }
  Part<T> part() const {  // of the thread that asks
#ifdef _OPENMP
    return {s, by_column, products_by_column, omp_get_thread_num(), omp_get_num_threads()};
#else
    return {s, by_column, products_by_column, 0, 1};
#endif
  }
  long begin(long t) const { return p.save ? offsets[t] : (t & 1) * s.B; }
  T* gates_x(long t) const { return static_cast<T*>(p.gates_x) + begin(t) * s.width; }
  T* gates_h(long t) const { return static_cast<T*>(p.gates_h) + begin(t) * s.width; }
  T* cells(long t) const { return static_cast<T*>(p.cell_states) + begin(t) * s.padded; }
  const T* x(long t) const { return static_cast<const T*>(p.x) + offsets[t] * s.I; }
  T* out(long t) const { return static_cast<T*>(p.out) + offsets[t] * s.H; }
  const T* h_before(long t) const { return t ? out(t - 1) : static_cast<const T*>(p.h_0); }

  // One block of gates of one row, before the nonlinearities; also what was normalized on the way, without gain.
  struct Gates {
    V<T> a[4], x[4], h[4];
  };
  INLINE Gates gates(const T* gx, const T* gh, long b, const Seen<T>& in, const Seen<T>& hid, const Seen<T>& both) const {
    Gates out;
#pragma GCC unroll 4
    for (int gate = 0; gate < 4; gate++) {
      const long j = (b * 4 + gate) * L<T>;
      V<T> h = load(gh + j);
      if (both.kind) h = both.normalize(h, j, gate), out.a[gate] = h * load(joint.gain + j);
      else if (hid.kind) h = hid.normalize(h, j, gate), out.a[gate] = h * load(hidden.gain + j);
      else out.a[gate] = h;
      out.h[gate] = h;
      if (split) {
        V<T> x = load(gx + j);
        if (in.kind) x = in.normalize(x, j, gate), out.a[gate] += x * load(input.gain + j);
        else out.a[gate] += x;
        out.x[gate] = x;
      }
      out.a[gate] += load(bias + j);
    }
    // Zero weights of the padding times an infinite input are NaN, which would get from there into every sum over units.
    if (s.lanes(b) < L<T>)
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; gate++) out.a[gate] = s.mask > T(0) ? out.a[gate] : V<T>{};
    return out;
  }
  // c_{t-1} as it was carried on: (row) of step t, block b.
  INLINE V<T> cell_before(long t, long row, long b) const {
    if (t == 0) return p.c_0 ? load(static_cast<const T*>(p.c_0) + row * s.H + b * L<T>, s.lanes(b)) : V<T>{};
    const V<T> c = load(cells(t - 1) + row * s.padded + b * L<T>);
    return p.carried ? show(c, b, cell.seen(begin(t - 1) + row, t - 1, s.padded)) : c;
  }
  // N_cell(c_t).
  INLINE V<T> show(V<T> c, long b, const Seen<T>& as) const {
    const long j = b * L<T>;
    return as.kind ? as.normalize(c, j, 0) * load(cell.gain + j) + load(cell.bias + j) : c;
  }
};
