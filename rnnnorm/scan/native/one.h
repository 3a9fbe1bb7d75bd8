// One timestep of a few rows without a graph, as streams ask for it. Weights are read as they lie in memory: packing them
// would take longer than the products. Here features are in torch's order, gate by gate.
#pragma once

#include "step.h"

template <typename T> class OneStep {
 public:
  explicit OneStep(const Problem& problem)
      : p(problem), H(p.H), F(kGates * H), x(static_cast<T*>(p.workspace)), h(x + F), inner(h + F), emitted(inner + H) {}
  static int64_t values(int64_t H) { return 2 * kGates * H + 2 * H; }

  void run() const {
    for (int64_t r = 0; r < p.N; r++) {
      product(F, p.I, p.W_ih, at(p.x, r, p.I), x, p.length_ih);
      product(F, p.P, p.W_hh, at(p.h_0, r, p.P), h, p.length_hh);
      normalize(p.input, x, F);
      normalize(p.hidden, h, F);
      T* out = static_cast<T*>(p.h_n) + r * p.P;
      T* to = p.W_hr ? emitted : out;
      if constexpr (kCell == kGRU) gru(r, to);
      else if constexpr (kCell == kRNN) rnn(r, to);
      else lstm(r, to);
      if (p.W_hr) product(p.P, H, p.W_hr, emitted, out);
      if (p.out) std::memcpy(static_cast<T*>(p.out) + r * p.P, out, p.P * sizeof(T));
    }
  }

 private:
  const Problem& p;
  const int64_t H, F;
  T *x, *h, *inner, *emitted;  // W_ih x and W_hh h, (F); what `cell` normalizes, and what W_hr reads, (H)

  static const T* at(const void* base, int64_t row, int64_t features) { return static_cast<const T*>(base) + row * features; }
  template <typename Work> static INLINE void blocks(int64_t count, Work&& work) {
    int64_t k = 0;
    for (; k + L<T> <= count; k += L<T>) work(k, L<T>);
    if (k < count) work(k, count - k);
  }
  static INLINE V<T> get(const T* from, int64_t lanes) { return lanes == L<T> ? load(from) : load(from, lanes); }
  static INLINE void put(T* to, V<T> v, int64_t lanes) { lanes == L<T> ? store(to, v) : store(to, v, lanes); }

  // y = W a, threads sharing the rows of W where they are worth being woken. With `lengths` each row of W is meant to have
  // that one instead of its own, which is found on the way: composing such a weight takes longer than the product.
  void product(int64_t rows, int64_t K, const void* W, const T* a, T* y, const void* lengths = nullptr) const {
    if (lengths) share_rows<true>(rows, K, static_cast<const T*>(W), a, y, static_cast<const T*>(lengths));
    else share_rows<false>(rows, K, static_cast<const T*>(W), a, y, nullptr);
  }
  template <bool Scaled>
  void share_rows(int64_t rows, int64_t K, const T* matrix, const T* a, T* y, const T* lengths) const {
    constexpr int64_t kAtOnce = 4, kWorth = 1 << 18;
    const int64_t parts = (rows + kAtOnce - 1) / kAtOnce;
    const int threads = rows * K < kWorth ? 1 : int(p.threads);
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
#endif
    for (int64_t part = 0; part < parts; part++) {
      const int64_t first = part * kAtOnce;
      if (rows - first >= kAtOnce) dots<kAtOnce, Scaled>(K, matrix + first * K, a, y + first, lengths + (Scaled ? first : 0));
      else
        for (int64_t j = first; j < rows; j++) dots<1, Scaled>(K, matrix + j * K, a, y + j, lengths + (Scaled ? j : 0));
    }
    (void)threads;
  }
  template <int Rows, bool Scaled> static void dots(int64_t K, const T* W, const T* a, T* y, const T* lengths) {
    V<T> even[Rows]{}, odd[Rows]{}, squares[Rows]{};
    const auto take = [&](int64_t k, V<T> value, V<T>* to) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int j = 0; j < Rows; j++) {
        const V<T> w = load(W + j * K + k);
        to[j] += w * value;
        if constexpr (Scaled) squares[j] += w * w;
      }
    };
    int64_t k = 0;
    for (; k + 2 * L<T> <= K; k += 2 * L<T>) {
      take(k, load(a + k), even);
      take(k + L<T>, load(a + k + L<T>), odd);
    }
    if (k + L<T> <= K) {
      take(k, load(a + k), even);
      k += L<T>;
    }
    T total[Rows], square[Rows];
#pragma GCC unroll 4
    for (int j = 0; j < Rows; j++) total[j] = sum<T>(even[j] + odd[j]), square[j] = Scaled ? sum<T>(squares[j]) : T(0);
    for (; k < K; k++)
#pragma GCC unroll 4
      for (int j = 0; j < Rows; j++) {
        const T w = W[j * K + k];
        total[j] += w * a[k];
        if constexpr (Scaled) square[j] += w * w;
      }
    for (int j = 0; j < Rows; j++) y[j] = Scaled ? total[j] * (lengths[j] / std::sqrt(square[j])) : total[j];
  }

  // v (count) in place.
  void normalize(const Place& n, T* v, int64_t count) const {
    if (n.kind == kNone) return;
    const T *gain = static_cast<const T*>(n.gain), *bias = static_cast<const T*>(n.bias);
    const auto finish = [&](int64_t k, int64_t lanes, V<T> y) {
      if (gain) y *= get(gain + k, lanes);
      if (bias) y += get(bias + k, lanes);
      put(v + k, y, lanes);
    };
    if (n.kind == kRow) return rows(n, v, count, finish);
    if (n.kind == kColumn) {
      const T *mean = static_cast<const T*>(n.given_mean), *var = static_cast<const T*>(n.given_var);
      const T eps = T(n.eps), skipped = n.skipped >= 0 ? T(n.skipped) * std::numeric_limits<T>::epsilon() : T(-1);
      return blocks(count, [&](int64_t k, int64_t lanes) {
        const V<T> spread = get(var + k, lanes);
        const V<T> scale = spread <= skipped ? V<T>{} : T(1) / root<T>(spread + eps);
        finish(k, lanes, (get(v + k, lanes) - get(mean + k, lanes)) * scale);
      });
    }
    const T factor = n.kind == kSquash ? *static_cast<const T*>(n.alpha) : T(n.eps);
    blocks(count, [&](int64_t k, int64_t lanes) {
      const V<T> y = get(v + k, lanes) * factor;
      finish(k, lanes, n.kind == kSquash ? tanh<T>(y) : y);
    });
  }
  template <typename Finish> void rows(const Place& n, T* v, int64_t count, Finish&& finish) const {
    const int64_t each = count / n.groups;
    for (int64_t first = 0; first < count; first += each) {
      T *from = v + first, mean = 0;
      if (n.centered) {
        V<T> total{};
        blocks(each, [&](int64_t k, int64_t lanes) { total += get(from + k, lanes); });
        mean = sum<T>(total) / T(each);
      }
      V<T> squares{};
      blocks(each, [&](int64_t k, int64_t lanes) {
        V<T> d = get(from + k, lanes) - mean;
        for (int64_t l = lanes; l < L<T>; l++) d[l] = 0;
        squares += d * d;
      });
      const T scale = 1 / std::sqrt(sum<T>(squares) / T(each) + T(n.eps));
      blocks(each, [&](int64_t k, int64_t lanes) { finish(first + k, lanes, (get(from + k, lanes) - mean) * scale); });
    }
  }

  // x ← N_joint(x + h) + b of the first `count` features.
  void gates(int64_t count) const {
    blocks(count, [&](int64_t k, int64_t lanes) { put(x + k, get(x + k, lanes) + get(h + k, lanes), lanes); });
    normalize(p.joint, x, count);
    add(p.bias, x, count);
    add(p.second_bias, x, count);
  }
  void add(const void* bias, T* to, int64_t count, int64_t from = 0) const {
    if (!bias) return;
    const T* values = static_cast<const T*>(bias) + from;
    blocks(count, [&](int64_t k, int64_t lanes) { put(to + k, get(to + k, lanes) + get(values + k, lanes), lanes); });
  }
  // σ, exactly 0 where the true value rounds to it: times an infinite state it is NaN, not infinite.
  static INLINE V<T> gate(V<T> a) { return a < T(sizeof(T) == 8 ? -746 : -104) ? V<T>{} : sigmoid<T>(a); }
  // The state as it is returned, with zoneout's expectation.
  static INLINE V<T> zone(double keep, V<T> before, V<T> after) { return keep != 0 ? after + T(keep) * (before - after) : after; }
  void leave(int64_t r, T* to) const {
    normalize(p.output, to, H);
    if (p.keep_h == 0) return;
    const T* before = at(p.h_0, r, H);
    blocks(H, [&](int64_t k, int64_t lanes) { put(to + k, zone(p.keep_h, get(before + k, lanes), get(to + k, lanes)), lanes); });
  }

  void lstm(int64_t r, T* to) const {
    gates(F);
    const T* before = at(p.c_0, r, H);
    T* after = static_cast<T*>(p.c_n) + r * H;
    blocks(H, [&](int64_t k, int64_t lanes) {
      const V<T> c = get(before + k, lanes);
      const V<T> i = get(x + k, lanes), f = get(x + H + k, lanes);
      const V<T> next = gate(f) * c + gate(i) * tanh<T>(get(x + 2 * H + k, lanes));
      put(inner + k, next, lanes);
      put(after + k, next, lanes);
    });
    normalize(p.cell, inner, H);
    blocks(H, [&](int64_t k, int64_t lanes) {
      const V<T> shown = get(inner + k, lanes), c = p.carried ? shown : get(after + k, lanes);
      put(to + k, gate(get(x + 3 * H + k, lanes)) * tanh<T>(shown), lanes);
      put(after + k, zone(p.keep_c, get(before + k, lanes), c), lanes);
    });
    leave(r, to);
  }
  void gru(int64_t r, T* to) const {
    gates(2 * H);
    T *x_n = x + 2 * H, *h_n = h + 2 * H;
    add(p.second_bias, h_n, H, 2 * H);
    add(p.bias_hn, h_n, H);
    blocks(H, [&](int64_t k, int64_t lanes) {
      put(inner + k, get(x_n + k, lanes) + gate(get(x + k, lanes)) * get(h_n + k, lanes), lanes);
    });
    normalize(p.cell, inner, H);
    add(p.bias, inner, H, 2 * H);
    const T* before = at(p.h_0, r, H);
    blocks(H, [&](int64_t k, int64_t lanes) {
      const V<T> z = gate(get(x + H + k, lanes));
      put(to + k, (T(1) - z) * tanh<T>(get(inner + k, lanes)) + z * get(before + k, lanes), lanes);
    });
    leave(r, to);
  }
  void rnn(int64_t r, T* to) const {
    gates(F);
    blocks(H, [&](int64_t k, int64_t lanes) {
      const V<T> a = get(x + k, lanes);
      const bool linear = p.nonlinearity == kIdentity, relu = p.nonlinearity == kRelu;
      put(to + k, linear ? a : relu ? (a < T(0) ? V<T>{} : a) : tanh<T>(a), lanes);
    });
    leave(r, to);
  }
};
