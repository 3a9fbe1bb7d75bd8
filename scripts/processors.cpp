// Numbers of some small scans, to be compared between processors; see processors.py. Compiled with the scan itself.
#include "scan.cpp"

#include <cstdio>
#include <vector>

// The same numbers in (-1, 1) everywhere.
static double next() {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return double(int64_t(state) >> 11) / double(int64_t(1) << 52);
}

template <typename T> struct Case {
  static constexpr int64_t kSteps = 5, kInputs = 5, kRows = 31, kSizes[kSteps] = {9, 9, 7, 4, 2};
  int64_t H, P, width, padded;
  std::vector<std::vector<T>> arrays;
  Problem p{};

  T* zeros(int64_t count) { return arrays.emplace_back(count + 64).data(); }
  T* drawn(int64_t count, double scale = 0.5, double center = 0) {
    T* data = zeros(count);
    for (int64_t i = 0; i < count; i++) data[i] = T(center + scale * next());
    return data;
  }
  void place(Place& place, int64_t kind, int64_t gates, bool shifted) {
    place.kind = kind, place.groups = 1, place.centered = 1, place.own = kind == kColumn ? 3 : 0, place.eps = 1e-3;
    if (!kind) return;
    place.gain = drawn(gates * H, 0.3, 1), place.d_gain = zeros(gates * H);
    if (shifted) place.bias = drawn(gates * H), place.d_bias = zeros(gates * H);
    place.mean = zeros(kSteps * gates * H), place.var = zeros(kSteps * gates * H);
    if (kind == kColumn) place.given_mean = drawn(kSteps * gates * H), place.given_var = drawn(kSteps * gates * H, 0.5, 1);
    const int64_t each = kind == kRow ? kRows : kSteps * gates * padded;
    place.center = zeros(each), place.scale = zeros(each);
  }
  Case(int64_t units, int64_t projected, const int64_t (&kinds)[4]) : H(units), P(projected ? projected : units) {
    const bool wide = sizeof(T) == 8;
    width = rnnnorm_width(H, wide), padded = rnnnorm_padding(H, wide);
    const int64_t B = kSizes[0], G = kGates * H;
    p.T = kSteps, p.N = kRows, p.I = kInputs, p.H = H, p.P = P, p.stop = kSteps, p.save = 1, p.threads = 1;
    p.batch_sizes = kSizes;
    p.x = drawn(kRows * kInputs, 1), p.W_ih = drawn(G * kInputs), p.W_hh = drawn(G * P), p.bias = drawn(G);
    p.h_0 = drawn(B * P), p.out = zeros(kRows * P), p.h_n = zeros(B * P);
    if (kCell == kLSTM) p.c_0 = drawn(B * H), p.c_n = zeros(B * H);
    if (kCell == kGRU) p.bias_hn = drawn(H);
    if (projected) p.W_hr = drawn(P * H), p.d_W_hr = zeros(P * H), p.emitted = zeros(kRows * padded);
    p.gates_x = zeros(kRows * width), p.gates_h = zeros(kRows * width), p.cell_states = zeros(kRows * padded);
    place(p.input, kinds[0], kGates, false), place(p.hidden, kinds[1], kGates, false);
    place(p.cell, kCell == kRNN ? kNone : kinds[2], 1, true);
    if (RNNNORM_FULL) place(p.output, kinds[3], 1, true), p.outputs = zeros(kRows * padded);
    p.d_out = drawn(kRows * P), p.d_h_n = drawn(B * P), p.d_x = zeros(kRows * kInputs), p.d_h_0 = zeros(B * P);
    p.d_W_ih = zeros(G * kInputs), p.d_W_hh = zeros(G * P), p.d_bias = zeros(G);
    if (p.c_0) p.d_c_n = drawn(B * H), p.d_c_0 = zeros(B * H);
    if (p.bias_hn) p.d_bias_hn = zeros(H);
  }
  void show(const char* name, const void* values, int64_t count) const {
    for (int64_t i = 0; values && i < count; i++) std::printf("%s %.17g\n", name, double(static_cast<const T*>(values)[i]));
  }
  void run() {
    std::vector<T> space(rnnnorm_space(p, sizeof(T) == 8));
    p.workspace = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(space.data()) + 127) / 128 * 128);
    if constexpr (sizeof(T) == 8) rnnnorm_forward_f64(&p), rnnnorm_backward_f64(&p);
    else rnnnorm_forward_f32(&p), rnnnorm_backward_f32(&p);
    const int64_t B = kSizes[0], G = kGates * H;
    show("out", p.out, kRows * P), show("h_n", p.h_n, B * P), show("c_n", p.c_n, B * H);
    show("d_x", p.d_x, kRows * kInputs), show("d_W_ih", p.d_W_ih, G * kInputs), show("d_W_hh", p.d_W_hh, G * P);
    show("d_W_hr", p.d_W_hr, P * H), show("d_bias", p.d_bias, G), show("d_bias_hn", p.d_bias_hn, H);
    show("d_h_0", p.d_h_0, B * P), show("d_c_0", p.d_c_0, B * H);
    for (const Place* at : {&p.input, &p.hidden}) show("d_gain", at->d_gain, G), show("mean", at->mean, 3 * G);
    for (const Place* at : {&p.cell, &p.output}) show("d_gain", at->d_gain, H), show("d_bias", at->d_bias, H);
  }
  static int64_t rnnnorm_space(const Problem& p, bool wide) {
    const int64_t forward = wide ? rnnnorm_forward_workspace_f64(&p) : rnnnorm_forward_workspace_f32(&p);
    const int64_t backward = wide ? rnnnorm_backward_workspace_f64(&p) : rnnnorm_backward_workspace_f32(&p);
    return std::max(forward, backward) / sizeof(T) + 64;
  }
};

template <typename T> static void all() {
  const int64_t kinds[][4] = {{kNone, kNone, kNone, kNone}, {kRow, kRow, kRow, kNone}, {kColumn, kColumn, kColumn, kNone}};
  for (const auto& kind : kinds)
    for (int64_t H : {3, 16, 21}) {
      Case<T>(H, 0, kind).run();
      if (RNNNORM_FULL && kCell == kLSTM && H > 3) Case<T>(H, 7, kind).run();
    }
  const int64_t mixed[] = {kRow, kColumn, kRow, kColumn};
  if (RNNNORM_FULL) Case<T>(21, 0, mixed).run();
}

int main(int count, char**) {
  if (count > 1) all<double>();
  else all<float>();
}
