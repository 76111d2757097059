// Vectors of LANES floats through the compilers' vector extension (GCC, Clang), and the one matrix
// product that everything else is made of.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef BF16
#include <immintrin.h>
#endif

#include "kernels.h"

namespace ISA {

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline vec load(const float* p) { return *reinterpret_cast<const loose*>(p); }
static inline void store(float* p, vec v) { *reinterpret_cast<loose*>(p) = v; }
static inline vec splat(float x) { return x - vec{}; }
static inline vec larger(vec a, vec b) { return a > b ? a : b; }
static inline vec smaller(vec a, vec b) { return a < b ? a : b; }

// All lanes to one: the upper half onto the lower half, and so on.
template <int N, class F>
static inline float reduce(const float* x, F pair) {
  if constexpr (N == 2) {
    return pair(x[0], x[1]);
  } else {
    typedef float part __attribute__((vector_size(2 * N), may_alias));
    part low, high;
    std::memcpy(&low, x, sizeof low);
    std::memcpy(&high, x + N / 2, sizeof high);
    low = pair(low, high);
    return reduce<N / 2>(reinterpret_cast<const float*>(&low), pair);
  }
}

static inline float sum(vec v) {
  return reduce<LANES>(reinterpret_cast<const float*>(&v), [](auto a, auto b) { return a + b; });
}

static inline float largest(vec v) {
  return reduce<LANES>(reinterpret_cast<const float*>(&v), [](auto a, auto b) { return a > b ? a : b; });
}

// exp(x) to 1e-7 for x <= 0: 2^n e^r with |r| <= log(2) / 2; minimax polynomial of degree 6 for e^r.
// What is below e^-80 weighs nothing, and its products would be subnormal. NaN stays NaN.
static inline vec exponential(vec x) {
  x = larger(splat(-80.0f), x);
  const vec n = __builtin_convertvector(
      __builtin_convertvector(x * 1.44269504f - 0.5f, ivec), vec);  // rounds x / log 2, x <= 0
  vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vec p = r * 1.3811660069e-03f + 8.3701350252e-03f;
  p = p * r + 4.1668528324e-02f;
  p = p * r + 1.6666508715e-01f;
  p = p * r + 4.9999992629e-01f;
  p = p * r * r + r + 1.0f;
  const ivec exponent = (__builtin_convertvector(n, ivec) + 127) << 23;
  return p * (vec)exponent;  // the bits
}

// x * Phi(x) (GELU, arXiv 1606.08415) to 1e-6; erf as a rational function of degree 11 / 10.
static inline vec gelu(vec x) {
  const vec z = larger(smaller(x * 0.70710678f, splat(3.95f)), splat(-3.95f));
  const vec t = z * z;
  vec p = t * 2.025913029e-06f + 2.846875278e-04f;
  p = p * t + 3.808145716e-03f;
  p = p * t + 5.287539751e-02f;
  p = p * t + 1.915499225e-01f;
  p = p * t + 1.128379144e+00f;
  vec q = t * 3.783184238e-05f + 1.170722216e-03f;
  q = q * t + 1.505505771e-02f;
  q = q * t + 1.145594655e-01f;
  q = q * t + 5.030893746e-01f;
  q = q * t + 1.0f;
  return 0.5f * x * (1.0f + z * p / q);
}

// What products read: `split` numbers that share a float's place, multiplied and summed in float32.
static inline vec spread(const float* x) { return splat(*x); }
static inline vec numbers(const float* p) { return load(p); }
static inline vec add_products(vec total, vec x, vec y) { return total + x * y; }

#ifdef BF16
typedef uint16_t half;  // bfloat16, rounded to nearest even; two of them make up a float's place

static inline void store(half* p, vec v) {
  const __m256bh rounded = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(p, &rounded, sizeof rounded);
}
static inline __m512bh spread(const half* x) {
  int32_t pair;
  std::memcpy(&pair, x, sizeof pair);
  return (__m512bh)_mm512_set1_epi32(pair);
}
static inline __m512bh numbers(const half* p) { return (__m512bh)_mm512_loadu_si512(p); }
static inline vec add_products(vec total, __m512bh x, __m512bh y) {
  return (vec)_mm512_dpbf16_ps((__m512)total, x, y);
}
#else
typedef float half;  // never asked for: there is nothing faster than float32
#endif

template <class T>
constexpr int split = sizeof(float) / sizeof(T);

// A matrix of pixels or tokens: row r at data + r * stride; `parts` runs of `length` columns each,
// `jump` numbers apart (a convolution's kernel rows), make up its columns.
template <class T>
struct Rows {
  const T* data;
  int64_t stride, length;
  int64_t parts = 1, jump = 0;
};

// A matrix to multiply by: row k of panel p (16 columns) at data + k * row + p * panel; bfloat16 by
// pairs of rows.
template <class T>
struct Panels {
  const T* data;
  int64_t row, panel;

  // Packed by upscale_pack_matrix; for bfloat16 then rounded, the rows by pairs.
  Panels(const void* packed, int64_t depth)
      : data(static_cast<const T*>(packed)), row(split<T> * PANEL), panel(depth * PANEL) {}
  // As it lies in memory, rows `stride` floats apart.
  static Panels unpacked(const float* data, int64_t stride) {
    Panels found(data, 0);
    found.row = stride;
    found.panel = PANEL;
    return found;
  }
  Panels from(int64_t column) const {
    Panels rest = *this;
    rest.data += column / PANEL * panel;
    return rest;
  }
};

constexpr int VECTORS = PANEL / LANES;  // of a panel

// R rows of `a` times NV vectors of columns of `b`, from `bias` (or 0), to c. The innermost loop of all.
template <int R, int NV, class T>
static inline void multiply(const Rows<T>& a, const Panels<T>& b, const float* bias, float* c, int64_t ldc) {
  vec total[R][NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; v++) {
    const vec start = bias ? load(bias + v * LANES) : vec{};
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) total[r][v] = start;
  }
  const T *part = a.data, *row = b.data;
  for (int64_t i = 0; i < a.parts; i++, part += a.jump) {
    for (int64_t k = 0; k < a.length; k += split<T>, row += b.row) {
      decltype(numbers(row)) column[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++)
        column[v] = numbers(row + v / VECTORS * b.panel + v % VECTORS * LANES * split<T>);
#pragma GCC unroll 12
      for (int r = 0; r < R; r++) {
        const auto x = spread(part + r * a.stride + k);
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) total[r][v] = add_products(total[r][v], x, column[v]);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) store(c + r * ldc + v * LANES, total[r][v]);
}

template <int R, int NV, class T>
static void some_rows(int64_t rows, const Rows<T>& a, const Panels<T>& b, const float* bias, float* c,
                      int64_t ldc) {
  if constexpr (R > 0) {
    if (rows == R)
      multiply<R, NV>(a, b, bias, c, ldc);
    else
      some_rows<R - 1, NV>(rows, a, b, bias, c, ldc);
  }
}

template <int NV, class T>
static void columns(int64_t rows, Rows<T> a, const Panels<T>& b, const float* bias, float* c,
                    int64_t ldc) {
  for (; rows >= ROWS; rows -= ROWS, a.data += ROWS * a.stride, c += ROWS * ldc)
    multiply<ROWS, NV>(a, b, bias, c, ldc);
  some_rows<ROWS - 1, NV>(rows, a, b, bias, c, ldc);
}

// The columns that remain of a panel, a multiple of LANES.
template <int NV, class T>
static void last_columns(int64_t vectors, int64_t rows, const Rows<T>& a, const Panels<T>& b,
                         const float* bias, float* c, int64_t ldc) {
  if constexpr (NV > 0) {
    if (vectors == NV)
      columns<NV>(rows, a, b, bias, c, ldc);
    else
      last_columns<NV - 1>(vectors, rows, a, b, bias, c, ldc);
  }
}

// c (rows, features) = a (rows, depth) b + bias; features a multiple of LANES.
template <class T>
static inline void product(int64_t rows, const Rows<T>& a, const Panels<T>& b, const float* bias,
                           float* c, int64_t ldc, int64_t features) {
  constexpr int64_t WIDE = PANELS_AT_ONCE * PANEL;
  auto start = [bias](int64_t j) { return bias ? bias + j : nullptr; };
  int64_t j = 0;
  for (; j + WIDE <= features; j += WIDE)
    columns<PANELS_AT_ONCE * VECTORS>(rows, a, b.from(j), start(j), c + j, ldc);
  for (; j + PANEL <= features; j += PANEL)
    columns<VECTORS>(rows, a, b.from(j), start(j), c + j, ldc);
  last_columns<VECTORS - 1>((features - j) / LANES, rows, a, b.from(j), start(j), c + j, ldc);
}

}  // namespace ISA
