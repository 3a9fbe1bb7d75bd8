// SIMD vectors of the widest kind the target has, and the two nonlinearities of an LSTM on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kRegisters = 32;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif

// What is done per vector must not cost a call.
#define INLINE inline __attribute__((always_inline))

template <typename T> struct Simd;
template <> struct Simd<float> {
  using Integer = int32_t;
  typedef float V __attribute__((vector_size(kVectorBytes)));
  typedef int32_t I __attribute__((vector_size(kVectorBytes)));
  typedef float Anywhere __attribute__((vector_size(kVectorBytes), aligned(sizeof(float))));
};
template <> struct Simd<double> {
  using Integer = int64_t;
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef int64_t I __attribute__((vector_size(kVectorBytes)));
  typedef double Anywhere __attribute__((vector_size(kVectorBytes), aligned(sizeof(double))));
};
template <typename T> using V = typename Simd<T>::V;
template <typename T> using I = typename Simd<T>::I;
template <typename T> constexpr int L = kVectorBytes / sizeof(T);  // lanes

// Not memcpy: what is written as bytes might be anything, and every address would be read again after each store.
template <typename T> inline V<T> load(const T* p) { return *reinterpret_cast<const typename Simd<T>::Anywhere*>(p); }
template <typename T> inline void store(T* p, V<T> v) { *reinterpret_cast<typename Simd<T>::Anywhere*>(p) = v; }
template <typename T> inline V<T> load(const T* p, int count) {  // the rest is 0
  V<T> v{};
  std::memcpy(&v, p, count * sizeof(T));
  return v;
}
template <typename T> inline void store(T* p, V<T> v, int count) { std::memcpy(p, &v, count * sizeof(T)); }
template <typename T> inline V<T> splat(T x) { return V<T>{} + x; }
// Halves are added until one lane is left: a chain of additions lane by lane would be slow.
template <typename T, int Count> struct Half {
  typedef T Type __attribute__((vector_size(Count / 2 * sizeof(T))));
  template <typename From> static INLINE T sum(From v) {
    Type low, high;
    std::memcpy(&low, &v, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
    return Half<T, Count / 2>::sum(low + high);
  }
};
template <typename T> struct Half<T, 2> {
  template <typename From> static INLINE T sum(From v) { return v[0] + v[1]; }
};
template <typename T> INLINE T sum(V<T> v) { return Half<T, L<T>>::sum(v); }

// e^x - 1 = 2^n (e^r - 1) + (2^n - 1) with |r| <= ln 2 / 2: accurate near 0, too. NaN stays NaN.
template <typename T> INLINE V<T> expm1(V<T> x);

template <> INLINE V<float> expm1<float>(V<float> x) {
  x = x < -87.0f ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  const float shift = 12582912.0f;  // 1.5 * 2^23 rounds to an integer and leaves it in the low bits
  V<float> shifted = x * 1.44269504088896341f + shift, n = shifted - shift;
  V<float> r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  V<float> p = splat(1.98412698e-4f);
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * (r * r) + r;
  I<float> bits = ((I<float>)shifted << 23) + 0x3f800000;
  V<float> scale = (V<float>)bits;
  return scale * p + (scale - 1.0f);
}

template <> INLINE V<double> expm1<double>(V<double> x) {
  x = x < -708.0 ? splat(-708.0) : x;
  x = x > 709.0 ? splat(709.0) : x;
  const double shift = 6755399441055744.0;  // 1.5 * 2^52
  V<double> shifted = x * 1.4426950408889634074 + shift, n = shifted - shift;
  V<double> r = x - n * 6.93147180369123816490e-01;
  r = r - n * 1.90821492927058770002e-10;
  V<double> p = splat(1.0 / 6227020800.0);
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * (r * r) + r;
  I<double> bits = ((I<double>)shifted << 52) + 0x3ff0000000000000LL;
  V<double> scale = (V<double>)bits;
  return scale * p + (scale - 1.0);
}

template <typename T> INLINE V<T> sigmoid(V<T> x) { return T(1) / (expm1<T>(-x) + T(2)); }
template <typename T> INLINE V<T> tanh(V<T> x) {
  x = x > T(40) ? splat(T(40)) : x;
  V<T> e = expm1<T>(x + x);
  return e / (e + T(2));
}
