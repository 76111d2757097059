// Convolutions with stride 1 and the input's size kept, each with the same end: bias, LeakyReLU,
// residuals, pixel shuffle. Nearest-neighbour enlargement and padding happen where pixels are read.
#pragma once

#include <algorithm>

#include "simd.h"

namespace ISA {

// What a step reads and writes, as pointers.
struct Grid {
  int64_t height, width;  // of the output before the shuffle
  const float *in, *add, *base;
  float* out;

  Grid(const Step& s, float* const* buffers, int64_t h, int64_t w)
      : height(h * s.rate), width(w * s.rate), in(at(s.in, buffers)), add(at(s.add, buffers)),
        base(at(s.base, buffers)), out(at(s.out, buffers)) {}

  static float* at(const Place& p, float* const* buffers) {
    return p.buffer < 0 ? nullptr : buffers[p.buffer] + p.offset;
  }
};

// The input's row or column under the output's; -1 where zeros are.
static inline int64_t source(const Step& s, int64_t at, int64_t length) {
  if (at < 0 || at >= length) {
    if (!s.replicate) return -1;
    at = std::clamp<int64_t>(at, 0, length - 1);
  }
  return s.nearest == 1 ? at : at / s.nearest;
}

// Finish LANES channels from `c` on of pixel (y, x) and store them.
static inline void finish(const Step& s, const Grid& g, int64_t y, int64_t x, int64_t c, vec value) {
  const int64_t at = y * g.width + x;
  if (s.slope != 1.0f) value = larger(value, value * s.slope);
  if (g.add) value += load(g.add + at * s.add.stride + c);
  if (g.base) value = load(g.base + at * s.base.stride + c) + s.beta * value;
  if (s.shuffle == 1) return store(g.out + at * s.out.stride + c, value);
  const int64_t r = s.shuffle, each = s.features / (r * r), phase = c / each;
  const int64_t row = y * r + phase / r, column = x * r + phase % r;
  store(g.out + (row * g.width * r + column) * s.out.stride + c % each, value);
}

// ---- Winograd / Cook-Toom: minimal filtering F(m x m, r x r) with m + r - 1 = 6 points (Winograd 1980;
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308, eq. 8 to 11):
// Y = A^T [(G g G^T) * (B^T d B)] A. m = 4 for 3x3, 2 for 5x5: both share B. A block of tiles is
// transformed, multiplied 36 times by a matrix of weights, and transformed back, all in the cache.
// The points are 0, a, -a, b, -b and infinity with a = 3/4, b = 3/2: rounding is less than half of
// what the usual 1 and 2 give, for the same work.

constexpr int POINTS = 6, SQUARE = POINTS * POINTS;
constexpr int64_t CACHE = 128 * 1024;  // floats of a block of tiles, about the second level's size
constexpr int64_t SKEW = 16;  // floats between points, lest all fall into the same lines of the cache

static inline int64_t side_of_tile(const Step& s) { return POINTS + 1 - s.kernel; }

static inline int64_t tiles_at_once(const Step& s) {
  const int64_t read = s.bf16 ? s.channels / 2 : s.channels;
  const int64_t fit = CACHE / (SQUARE * (read + s.features));
  return std::clamp<int64_t>(fit / ROWS, 1, 48 / ROWS) * ROWS;
}

static inline int64_t tiles_across(const Step& s, int64_t length) {
  const int64_t m = side_of_tile(s);
  return (length + m - 1) / m;
}

static int64_t winograd_items(const Step& s, int64_t h, int64_t w) {
  const int64_t tiles = tiles_across(s, h * s.rate) * tiles_across(s, w * s.rate);
  return (tiles + tiles_at_once(s) - 1) / tiles_at_once(s);
}

static int64_t winograd_scratch(const Step& s, int64_t, int64_t) {
  return SQUARE * (tiles_at_once(s) * (s.channels + s.features) + 2 * SKEW) + s.channels;
}

constexpr float A1 = POINT_A, A2 = A1 * A1, A3 = A2 * A1, B1 = POINT_B, B2 = B1 * B1, B3 = B2 * B1;

// B^T along one axis: row p holds the coefficients of the product of (x - q), q the other points.
static inline void to_points(const vec* d, vec* o, int step) {
  const vec u = d[4] - B2 * d[2], v = d[3] - B2 * d[1], w = d[4] - A2 * d[2], z = d[3] - A2 * d[1];
  o[0] = A2 * B2 * d[0] - (A2 + B2) * d[2] + d[4];
  o[step] = u + A1 * v;
  o[2 * step] = u - A1 * v;
  o[3 * step] = w + B1 * z;
  o[4 * step] = w - B1 * z;
  o[5 * step] = A2 * B2 * d[1] - (A2 + B2) * d[3] + d[5];
}

// A^T along one axis: m outputs of 6 points; row i holds their i-th powers.
template <int M>
static inline void from_points(const vec* p, vec* o, int step) {
  const vec s = p[1] + p[2], t = p[1] - p[2], u = p[3] + p[4], v = p[3] - p[4];
  o[0] = p[0] + s + u;
  if constexpr (M == 2) {
    o[step] = A1 * t + B1 * v + p[5];
  } else {
    o[step] = A1 * t + B1 * v;
    o[2 * step] = A2 * s + B2 * u;
    o[3 * step] = A3 * t + B3 * v + p[5];
  }
}

template <int M>
static void winograd_tile_out(const Step& s, const Grid& g, int64_t ty, int64_t tx, const float* m,
                              int64_t across) {
  const int64_t rows = std::min<int64_t>(M, g.height - ty * M);
  const int64_t cols = std::min<int64_t>(M, g.width - tx * M);
  for (int64_t c = 0; c < s.features; c += LANES) {
    vec half[M * POINTS], p[POINTS], o[M];
    const vec bias = load(s.bias + c);
    for (int x = 0; x < POINTS; x++) {
      for (int y = 0; y < POINTS; y++) p[y] = load(m + (y * POINTS + x) * across + c);
      from_points<M>(p, half + x, POINTS);
    }
    for (int64_t y = 0; y < rows; y++) {
      from_points<M>(half + y * POINTS, o, 1);
      for (int64_t x = 0; x < cols; x++) finish(s, g, ty * M + y, tx * M + x, c, o[x] + bias);
    }
  }
}

using Window = const float* [SQUARE];  // the pixels that a tile reads

static void look(const Step& s, const Grid& g, int64_t y0, int64_t x0, const float* zeros, Window& from) {
  int64_t columns[POINTS];
  for (int x = 0; x < POINTS; x++) columns[x] = source(s, x0 + x, g.width);
  for (int y = 0; y < POINTS; y++) {
    const int64_t row = source(s, y0 + y, g.height);
    const float* start = g.in + row * (g.width / s.nearest) * s.in.stride;
    for (int x = 0; x < POINTS; x++)
      from[y * POINTS + x] = row < 0 || columns[x] < 0 ? zeros : start + columns[x] * s.in.stride;
  }
}

// `next` is fetched into the cache meanwhile: the pixels of a tile lie too far apart for the hardware.
template <class T>
static void winograd_tile_in(const Step& s, const Window& from, const Window& next, T* v,
                             int64_t across) {
  for (int64_t c = 0; c < s.channels; c += LANES) {
    vec half[SQUARE], d[POINTS], o[POINTS];
    if (c % 16 == 0)
      for (const float* p : next) __builtin_prefetch(p + c);
    for (int x = 0; x < POINTS; x++) {
      for (int y = 0; y < POINTS; y++) d[y] = load(from[y * POINTS + x] + c);
      to_points(d, half + x, POINTS);
    }
    for (int y = 0; y < POINTS; y++) {
      to_points(half + y * POINTS, o, 1);
      for (int x = 0; x < POINTS; x++) store(v + (y * POINTS + x) * across + c, o[x]);
    }
  }
}

template <class T>
static void winograd(const Step& s, const Grid& g, int64_t item, float* scratch) {
  const int64_t block = tiles_at_once(s), m = side_of_tile(s), pad = s.kernel / 2;
  const int64_t across = tiles_across(s, g.width);
  const int64_t first = item * block;
  const int64_t count = std::min(block, across * tiles_across(s, g.height) - first);
  const int64_t wide = block * s.channels + SKEW, thin = block * s.features + SKEW;
  T* v = reinterpret_cast<T*>(scratch);       // 36, block, channels
  float* products = scratch + SQUARE * wide;  // 36, block, features
  float* zeros = products + SQUARE * thin;
  std::fill_n(zeros, s.channels, 0.0f);
  // 1. pixels to points
  Window windows[2];
  auto look_at = [&](int64_t t) {
    const int64_t ty = (first + t) / across, tx = (first + t) % across;
    look(s, g, ty * m - pad, tx * m - pad, zeros, windows[t % 2]);
  };
  look_at(0);
  for (int64_t t = 0; t < count; t++) {
    look_at(t + 1);
    winograd_tile_in(s, windows[t % 2], windows[(t + 1) % 2], v + t * s.channels, wide);
  }
  // 2. a matrix product for each of the 36 points
  for (int64_t p = 0; p < SQUARE; p++)
    product<T>(count, {v + p * wide, s.channels, s.channels},
               {static_cast<const T*>(s.weight) + p * s.channels * s.features, s.channels}, nullptr,
               products + p * thin, s.features, s.features);
  // 3. points to pixels
  for (int64_t t = 0; t < count; t++) {
    const int64_t ty = (first + t) / across, tx = (first + t) % across;
    auto out = m == 4 ? winograd_tile_out<4> : winograd_tile_out<2>;
    out(s, g, ty, tx, products + t * s.features, thin);
  }
}

// ---- Direct convolution of any size, a run of one row at a time: its input is copied, padded, so that
// a kernel row times all channels is one stretch of memory, and the product does the rest.

constexpr int64_t RUN = 192;  // pixels of a row

static int64_t direct_items(const Step& s, int64_t h, int64_t w) {
  return h * s.rate * ((w * s.rate + RUN - 1) / RUN);
}

static int64_t direct_scratch(const Step& s, int64_t, int64_t) {
  return s.kernel * (RUN + s.kernel) * s.channels + RUN * s.features;
}

// The row's surroundings, (kernel, count + kernel - 1, channels).
template <class T>
static void gather(const Step& s, const Grid& g, int64_t y, int64_t x, int64_t count, T* to) {
  const int64_t pad = s.kernel / 2, length = count + s.kernel - 1;
  for (int64_t i = 0; i < s.kernel; i++, to += length * s.channels) {
    const int64_t row = source(s, y + i - pad, g.height);
    const float* start = g.in + row * (g.width / s.nearest) * s.in.stride;
    for (int64_t j = 0; j < length; j++) {
      const int64_t column = row < 0 ? -1 : source(s, x + j - pad, g.width);
      const float* from = start + column * s.in.stride;
      T* at = to + j * s.channels;
      if (column < 0)
        std::fill_n(at, s.channels, T(0));
      else if constexpr (split<T> > 1)
        for (int64_t c = 0; c < s.channels; c += LANES) store(at + c, load(from + c));
      else if (s.channels == 1)
        *at = *from;
      else
        std::copy_n(from, s.channels, at);
    }
  }
}

template <class T>
static void direct(const Step& s, const Grid& g, int64_t item, float* scratch) {
  const int64_t runs = (g.width + RUN - 1) / RUN;
  const int64_t y = item / runs, x = item % runs * RUN, count = std::min(RUN, g.width - x);
  const int64_t line = (count + s.kernel - 1) * s.channels;
  float* result = scratch + s.kernel * line;  // count, features
  T* rows = reinterpret_cast<T*>(scratch);
  gather(s, g, y, x, count, rows);
  product<T>(count, {rows, s.channels, s.kernel * s.channels, s.kernel, line},
             {s.weight, s.kernel * s.kernel * s.channels}, s.bias, result, s.features, s.features);
  for (int64_t i = 0; i < count; i++)
    for (int64_t c = 0; c < s.features; c += LANES)
      finish(s, g, y, x + i, c, load(result + i * s.features + c));
}

// ---- The same with up to four outputs: vectors run along the input's channels.

template <int R, int O>
static inline void dots(const float* a, int64_t stride, const Step& s, int64_t line, float* out) {
  vec total[R][O] = {};
  const int64_t length = s.kernel * s.channels, whole = length * s.kernel;
  const float* weight = static_cast<const float*>(s.weight);
  for (int64_t i = 0; i < s.kernel; i++)
    for (int64_t k = 0; k < length; k += LANES) {
      vec w[O];
#pragma GCC unroll 4
      for (int o = 0; o < O; o++) w[o] = load(weight + o * whole + i * length + k);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        const vec x = load(a + i * line + r * stride + k);
#pragma GCC unroll 4
        for (int o = 0; o < O; o++) total[r][o] += x * w[o];
      }
    }
  for (int r = 0; r < R; r++)
    for (int o = 0; o < O; o++) out[r * O + o] = sum(total[r][o]);
}

template <int O>
static void narrow_run(const Step& s, const float* a, int64_t line, int64_t count, float* out) {
  constexpr int R = O == 1 ? 8 : 4;
  int64_t i = 0;
  for (; i + R <= count; i += R) dots<R, O>(a + i * s.channels, s.channels, s, line, out + i * O);
  for (; i < count; i++) dots<1, O>(a + i * s.channels, s.channels, s, line, out + i * O);
}

static void narrow(const Step& s, const Grid& g, int64_t item, float* scratch) {
  const int64_t runs = (g.width + RUN - 1) / RUN, o = s.features;
  const int64_t y = item / runs, x = item % runs * RUN, count = std::min(RUN, g.width - x);
  const int64_t line = (count + s.kernel - 1) * s.channels;
  float* result = scratch + s.kernel * line;  // count, features
  gather(s, g, y, x, count, scratch);
  auto run = o == 1 ? narrow_run<1> : o == 2 ? narrow_run<2> : o == 3 ? narrow_run<3> : narrow_run<4>;
  run(s, scratch, line, count, result);
  for (int64_t i = 0; i < count * o; i++) {
    const int64_t at = y * g.width + x + i / o, c = i % o;
    float value = result[i] + s.bias[c];
    value = std::max(value, value * s.slope);
    if (g.add) value += g.add[at * s.add.stride + c];
    if (g.base) value = g.base[at * s.base.stride + c] + s.beta * value;
    g.out[at * s.out.stride + c] = value;
  }
}

}  // namespace ISA
