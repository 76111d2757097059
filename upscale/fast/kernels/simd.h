// Vectors of LANES floats through the compilers' vector extension (GCC, Clang), and the one matrix
// product that everything else is made of.
#pragma once

#include <cstdint>

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

static inline float sum(vec v) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
}

static inline float largest(vec v) {
  float most = v[0];
  for (int i = 1; i < LANES; i++) most = v[i] > most ? v[i] : most;
  return most;
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

// A matrix of pixels or tokens: row r at data + r * stride; `parts` runs of `length` columns each,
// `jump` floats apart (a convolution's kernel rows), make up its columns.
struct Rows {
  const float* data;
  int64_t stride, length;
  int64_t parts = 1, jump = 0;
};

// A matrix to multiply by: row k of panel p (16 columns) at data + k * row + p * panel.
struct Panels {
  const float* data;
  int64_t row, panel;

  // Packed by upscale_pack_matrix.
  Panels(const float* packed, int64_t depth) : data(packed), row(PANEL), panel(depth * PANEL) {}
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
template <int R, int NV>
static inline void multiply(const Rows& a, const Panels& b, const float* bias, float* c, int64_t ldc) {
  vec total[R][NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; v++) {
    const vec start = bias ? load(bias + v * LANES) : vec{};
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) total[r][v] = start;
  }
  const float *part = a.data, *row = b.data;
  for (int64_t i = 0; i < a.parts; i++, part += a.jump) {
    for (int64_t k = 0; k < a.length; k++, row += b.row) {
      vec column[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++)
        column[v] = load(row + v / VECTORS * b.panel + v % VECTORS * LANES);
#pragma GCC unroll 12
      for (int r = 0; r < R; r++) {
        const vec x = splat(part[r * a.stride + k]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) total[r][v] += x * column[v];
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) store(c + r * ldc + v * LANES, total[r][v]);
}

template <int R, int NV>
static void some_rows(int64_t rows, const Rows& a, const Panels& b, const float* bias, float* c,
                      int64_t ldc) {
  if constexpr (R > 0) {
    if (rows == R)
      multiply<R, NV>(a, b, bias, c, ldc);
    else
      some_rows<R - 1, NV>(rows, a, b, bias, c, ldc);
  }
}

template <int NV>
static void columns(int64_t rows, Rows a, const Panels& b, const float* bias, float* c, int64_t ldc) {
  for (; rows >= ROWS; rows -= ROWS, a.data += ROWS * a.stride, c += ROWS * ldc)
    multiply<ROWS, NV>(a, b, bias, c, ldc);
  some_rows<ROWS - 1, NV>(rows, a, b, bias, c, ldc);
}

// The columns that remain of a panel, a multiple of LANES.
template <int NV>
static void last_columns(int64_t vectors, int64_t rows, const Rows& a, const Panels& b,
                         const float* bias, float* c, int64_t ldc) {
  if constexpr (NV > 0) {
    if (vectors == NV)
      columns<NV>(rows, a, b, bias, c, ldc);
    else
      last_columns<NV - 1>(vectors, rows, a, b, bias, c, ldc);
  }
}

// c (rows, features) = a (rows, depth) b + bias; features a multiple of LANES.
static inline void product(int64_t rows, const Rows& a, const Panels& b, const float* bias, float* c,
                           int64_t ldc, int64_t features) {
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
