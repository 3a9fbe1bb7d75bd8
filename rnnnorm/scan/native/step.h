// What forward and backward share: the places as one row sees them, moments, and who works on what.
#pragma once

#include <limits>

#include "barrier.h"
#include "problem.h"

// One normalizer as one row of one step sees it.
template <typename T> struct Seen {
  int64_t kind = kNone;
  bool per_gate = false, centered = true;
  T *center = nullptr, *scale = nullptr;  // by row: one value or one per gate; by column: vectors

  INLINE V<T> middle(int64_t j, int gate) const { return kind == kRow ? splat(center[per_gate ? gate : 0]) : load(center + j); }
  INLINE V<T> inverse(int64_t j, int gate) const { return kind == kRow ? splat(scale[per_gate ? gate : 0]) : load(scale + j); }
  INLINE V<T> normalize(V<T> x, int64_t j, int gate) const {
    return kind == kNone ? x : (x - middle(j, gate)) * inverse(j, gate);
  }
};

template <typename T> struct Norm {
  const Place* place;
  int64_t kind;
  int gates;  // vectors of each block that it normalizes
  T *gain, *bias;  // regrouped

  // `row`: where rows of this step begin in storage, plus the row; `t`: the step.
  Seen<T> seen(int64_t row, int64_t t, int64_t width) const {
    const int64_t groups = place->groups;
    const int64_t at = kind == kRow ? row * groups : kind == kColumn ? t * width : 0;
    T *center = static_cast<T*>(place->center), *scale = static_cast<T*>(place->scale);
    return {kind, groups == 4, place->centered != 0, center ? center + at : nullptr, scale ? scale + at : nullptr};
  }
};

// The sum over `count` vectors `stride` apart of their deviations from `mean`, squared or not. Four sums at a time, since
// each addition waits for the one before.
template <typename T, bool Squared> static V<T> reduce(const T* row, int64_t count, int64_t stride, T mean) {
  const auto term = [&](int64_t i) {
    const V<T> d = load(row + i * stride * L<T>) - mean;
    return Squared ? d * d : d;
  };
  V<T> a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) a += term(i), b += term(i + 1), c += term(i + 2), d += term(i + 3);
  for (; i < count; i++) a += term(i);
  return (a + b) + (c + d);
}

// Mean and root of one row of `gates` vectors per block; what lies in the padding is 0 and does not count.
template <typename T>
static void row_moments(const Shape<T>& s, const T* row, int gates, const Place& place, const Seen<T>& to) {
  const int groups = to.per_gate ? 4 : 1, vectors = gates / groups;
  const T count = T(s.H) * vectors;
  const int64_t whole = s.lanes(s.blocks - 1) == L<T> ? s.blocks : s.blocks - 1;  // blocks without padding
  for (int group = 0; group < groups; group++) {
    // A group is all vectors, or one of four in each block.
    const T* first = row + group * L<T>;
    const int64_t stride = groups == 4 ? 4 : 1, each = groups == 4 ? 1 : gates;
    T mean = 0;
    if (to.centered) mean = sum<T>(reduce<T, false>(first, s.blocks * each, stride, T(0))) / count;
    V<T> squares = reduce<T, true>(first, whole * each, stride, mean);
    for (int64_t i = whole * each; i < s.blocks * each; i++) {
      const V<T> d = (load(first + i * stride * L<T>) - mean) * s.mask;
      squares += d * d;
    }
    to.center[group] = mean;
    to.scale[group] = 1 / std::sqrt(sum<T>(squares) / count + T(place.eps));
  }
}

// Mean and biased variance of one vector of columns over rows, in two passes.
template <typename T> static void column_moments(const T* first, int64_t stride, int64_t rows, V<T>& mean, V<T>& var) {
  V<T> total{}, squares{};
  for (int64_t r = 0; r < rows; r++) total += load(first + r * stride);
  mean = total / T(rows);
  for (int64_t r = 0; r < rows; r++) {
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

  int64_t at(int64_t t, int64_t b, int gate) const { return t * gates * s.H + gate * s.H + b * L<T>; }
  void give(int64_t t, int64_t b, int gate, V<T> mean, V<T> var) const {
    store(static_cast<T*>(place.mean) + at(t, b, gate), mean, s.lanes(b));
    store(static_cast<T*>(place.var) + at(t, b, gate), var, s.lanes(b));
  }
  void take(int64_t t, int64_t b, int gate, V<T>& mean, V<T>& var) const {
    mean = load(static_cast<const T*>(place.given_mean) + at(t, b, gate), s.lanes(b));
    var = load(static_cast<const T*>(place.given_var) + at(t, b, gate), s.lanes(b));
  }
  void keep(int64_t b, int gate, V<T> mean, V<T> var, T* center, T* scale) const {
    const int64_t j = (b * gates + gate) * L<T>;
    const T skipped = place.skipped >= 0 ? T(place.skipped) * std::numeric_limits<T>::epsilon() : T(-1);
    store(center + j, mean);
    store(scale + j, var <= skipped ? V<T>{} : T(1) / root<T>(var + T(place.eps)));
  }
};

// Who works on what. Elements: with moments by column a thread owns hidden units of all rows; otherwise it owns rows,
// every n-th one, so that sequences of all lengths are spread evenly. Products: by the same division, unless the weights
// do not fit into a core's cache; then each thread has its own columns of them, too, whoever owns the elements.
template <typename T> struct Part {
  int me, threads;
  bool elements_by_column, products_by_column;
  Span blocks, mine;  // of units: elements; those it would own by column
  Span gates, pairs;  // panels of gates, and of units: products
  int64_t first, step;   // rows: elements
  int64_t product_first, product_step;
  // Backward: a chunk of gradients, of all rows of some steps, or of those that this thread has.
  bool apart = false;
  T *chunk_h = nullptr, *chunk_x = nullptr;  // gradients of W_hh h and of W_ih x; of their sum where it is one
  const int64_t* begins = nullptr;  // (T + 1): how many rows the steps before have in all chunks
  int64_t base = 0;                 // so many the chunks before this one

  Part(const Shape<T>& s, bool elements, bool products, int me_, int n)
      : me(me_), threads(n), elements_by_column(elements), products_by_column(products) {
    const Span all{0, s.pairs}, own = share(s.pairs, me, n);
    const auto units = [&](Span of) { return Span{of.first * 2, std::min(of.last * 2, s.blocks)}; };
    mine = units(own), blocks = units(elements ? own : all);
    pairs = products ? own : all;
    gates = {pairs.first * kGates, std::min<int64_t>(pairs.last * kGates, s.width / kPanel<T>)};
    first = elements ? 0 : me, step = elements ? 1 : n;
    product_first = products ? 0 : me, product_step = products ? 1 : n;
  }
  Rows<const T> rows(const T* base, int64_t stride, int64_t count) const {
    return {base + product_first * stride, stride * product_step, share_of(count)};
  }
  Rows<T> rows(T* base, int64_t stride, int64_t count) const {
    return {base + product_first * stride, stride * product_step, share_of(count)};
  }
  int64_t in_chunk(int64_t t, int64_t r) const { return begins[t] - base + (apart ? (r - product_first) / product_step : r); }
  // The rows of step t that this thread has, in a chunk.
  Rows<const T> chunk_rows(const T* chunk, int64_t stride, int64_t t, int64_t count) const {
    const T* at = chunk + (begins[t] - base) * stride;
    return apart ? Rows<const T>{at, stride, share_of(count)} : rows(at, stride, count);
  }
  int64_t share_of(int64_t count) const {  // rows among the first `count`
    return count > product_first ? (count - product_first + product_step - 1) / product_step : 0;
  }
  // After elements, before products that read those of other threads; and the other way round.
  bool meet() const { return products_by_column; }
  bool meet_again() const { return products_by_column && !elements_by_column; }
};

constexpr int64_t kWeightsInCache = 2 << 20;  // bytes that a core's second cache and a share of the third hold

// All that is prepared once per call, and the addresses of rows.
template <typename T> struct Scan {
  const Problem& p;
  Shape<T> s;
  bool split;  // W_ih x stands alone
  bool by_column, by_row, mixed, products_by_column;
  int threads;
  Norm<T> input, hidden, joint, cell, output;
  T *bias, *packed_x, *packed_h;
  int64_t* offsets;
  mutable Barrier barrier;

  Scan(const Problem& problem, Arena& arena)
      : p(problem), s(problem), split(kCell == kGRU || problem.input.kind || problem.hidden.kind) {
    by_column = stands(kColumn), by_row = stands(kRow), mixed = by_column && by_row;
    if (mixed) by_column = false;
    // Few rows per thread would leave the products without reuse of the weights.
    if (!by_row && s.B < 4 * p.threads) by_column = true;
    products_by_column = by_column || s.width * s.P * int64_t(sizeof(T)) > kWeightsInCache;
    if (products_by_column && !by_row) by_column = true;
    threads = int(std::max<int64_t>(1, std::min<int64_t>(p.threads, products_by_column ? s.pairs : (s.B + 3) / 4)));
    offsets = arena.take<int64_t>(s.T_ + 1);
    bias = arena.take<T>(s.width);
    input = norm(p.input, kGates, arena), hidden = norm(p.hidden, kGates, arena);
    joint = norm(p.joint, kCell == kGRU ? 2 : kGates, arena);
    cell = norm(p.cell, 1, arena), output = norm(p.output, 1, arena);
  }
  bool stands(Kind kind) const {
    for (const Place* place : {&p.input, &p.hidden, &p.joint, &p.cell, &p.output})
      if (place->kind == kind) return true;
    return false;
  }
  Norm<T> norm(const Place& place, int gates, Arena& arena) {
    return {&place, place.kind, gates, arena.take<T>(gates * s.padded), arena.take<T>(gates * s.padded)};
  }
  void prepare() {  // by one thread
    offsets[0] = 0;
    for (int64_t t = 0; t < s.T_; t++) offsets[t + 1] = offsets[t] + s.sizes[t];
    regroup(s, p.bias, kGates, bias);
    for (const Norm<T>* n : {&input, &hidden, &joint, &cell, &output}) {
      regroup(s, n->place->gain, n->gates, n->gain);
      regroup(s, n->place->bias, n->gates, n->bias);
    }
  }
  static int team() {
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
  }
  Part<T> part() const {  // of the thread that asks
#ifdef _OPENMP
    return {s, by_column, products_by_column, omp_get_thread_num(), team()};
#else
    return {s, by_column, products_by_column, 0, 1};
#endif
  }
  void gather() const { barrier.wait(team()); }  // all threads
  int64_t begin(int64_t t) const { return p.save ? offsets[t] : (t & 1) * s.B; }
  T* gates_x(int64_t t) const { return static_cast<T*>(p.gates_x) + begin(t) * s.width; }
  T* gates_h(int64_t t) const { return static_cast<T*>(p.gates_h) + begin(t) * s.width; }
  T* cells(int64_t t) const { return static_cast<T*>(p.cell_states) + begin(t) * s.padded; }
  const T* x(int64_t t) const { return static_cast<const T*>(p.x) + offsets[t] * s.I; }
  T* out(int64_t t) const { return static_cast<T*>(p.out) + offsets[t] * s.P; }
  const T* h_before(int64_t t) const { return t ? out(t - 1) : static_cast<const T*>(p.h_0); }

  const T* h_read(int64_t t) const {  // by W_hh
    return p.masked ? static_cast<const T*>(p.masked) + begin(t) * s.H : h_before(t);
  }
  void give(const T* from, int gates, void* to) const {
    if (to) ungroup(s, from, gates, static_cast<T*>(to));
  }
  INLINE void put(T* row, int64_t b, V<T> v) const {
    if (s.lanes(b) == L<T>) store(row + b * L<T>, v);
    else store(row + b * L<T>, v, s.lanes(b));
  }

  // Center and scale of one block by column; of each block of `rows`, the first gates of `vectors` are normalized.
  void moments(const Norm<T>& norm, T* center, T* scale, int64_t t, int64_t b, const T* rows, int64_t stride, int64_t vectors) const {
    const Place& place = *norm.place;
    const int gates = norm.gates;
    const ColumnMoments<T> moments{place, s, gates};
    for (int gate = 0; gate < gates; gate++) {
      V<T> mean, var;
      if (t < place.own || p.observe) {
        column_moments<T>(rows + (b * vectors + gate) * L<T>, stride, s.size(t), mean, var);
        moments.give(t, b, gate, mean, var);
      }
      if (t >= place.own) moments.take(t, b, gate, mean, var);
      moments.keep(b, gate, mean, var, center, scale);
    }
  }

  // One block of gates of one row, before the nonlinearities; also what was normalized on the way, without gain.
  struct Gates {
    V<T> a[4], x[4], h[4];
  };
  INLINE Gates gates(const T* gx, const T* gh, int64_t b, const Seen<T>& in, const Seen<T>& hid, const Seen<T>& both) const {
    Gates out;
#pragma GCC unroll 4
    for (int gate = 0; gate < 4; gate++) {
      const int64_t j = (b * 4 + gate) * L<T>;
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
  INLINE V<T> cell_before(int64_t t, int64_t row, int64_t b) const {
    if (t == 0) return p.c_0 ? load(static_cast<const T*>(p.c_0) + row * s.H + b * L<T>, s.lanes(b)) : V<T>{};
    const V<T> c = load(cells(t - 1) + row * s.padded + b * L<T>);
    return p.carried ? show(c, b, cell.seen(begin(t - 1) + row, t - 1, s.padded)) : c;
  }
  // N_cell(c_t).
  INLINE V<T> show(V<T> c, int64_t b, const Seen<T>& as) const {
    const int64_t j = b * L<T>;
    return as.kind ? as.normalize(c, j, 0) * load(cell.gain + j) + load(cell.bias + j) : c;
  }
};
