// A Swin transformer layer (Liu 2021, arXiv 2103.14030, as in SwinIR, arXiv 2108.10257) for one window at
// a time: norm, attention, projection, norm, MLP, both residuals. A window's tokens are read from the
// picture, shifted cyclically by address, and written back to the same place: nothing is rolled,
// partitioned or reversed, and every intermediate result stays in the cache.
#pragma once

#include <algorithm>
#include <cmath>

#include "convolution.h"

namespace ISA {

constexpr float EPSILON = 1e-5f;  // of LayerNorm

static inline int64_t padded(int64_t n) { return (n + PANEL - 1) / PANEL * PANEL; }
static inline int64_t in_vectors(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

// (x - mean) / sqrt(variance + epsilon) of `count` channels, two passes; what follows stays as it is.
static inline void normalise(const float* x, int64_t count, float* out) {
  float total = 0, squares = 0;
  vec sums = {}, deviations = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) sums += load(x + i);
  for (; i < count; i++) total += x[i];
  const float mean = (total + sum(sums)) / count;
  for (i = 0; i + LANES <= count; i += LANES) {
    const vec d = load(x + i) - mean;
    deviations += d * d;
  }
  for (; i < count; i++) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / std::sqrt((squares + sum(deviations)) / count + EPSILON);
  for (i = 0; i + LANES <= count; i += LANES) store(out + i, (load(x + i) - mean) * scale);
  for (; i < count; i++) out[i] = (x[i] - mean) * scale;
}

// LayerNorm with its weight and bias over the channels of a row of pixels.
static void norm(const Step& s, const Grid& g, int64_t y) {
  for (int64_t x = 0; x < g.width; x++) {
    const float* in = g.in + (y * g.width + x) * s.in.stride;
    float* out = g.out + (y * g.width + x) * s.out.stride;
    normalise(in, s.channels, out);
    const float* weight = static_cast<const float*>(s.weight);
    for (int64_t c = 0; c < s.channels; c++) out[c] = out[c] * weight[c] + s.bias[c];
    std::fill(out + s.channels, out + s.features, 0.0f);
  }
}

// Where a window's intermediate results lie.
struct Desk {
  int64_t tokens, wide, stream, used, seen, qkv_width, hidden;  // used: of stream, in whole vectors
  float *normed, *qkv, *keys, *logits, *mixed, *attended, *second, *expanded, *rounded;
  int64_t size;

  Desk(const Step& s, float* scratch) {
    const Attention& a = *s.attention;
    tokens = a.window * a.window;
    wide = padded(tokens);
    stream = s.features;
    used = in_vectors(s.channels);
    seen = stream + LANES;  // the last head's vectors end behind it
    qkv_width = padded(3 * a.heads * a.head_features);
    hidden = padded(a.hidden);
    float* next = scratch;
    auto take = [&](int64_t count) { float* p = next; next += padded(count); return p; };
    normed = take(tokens * stream);
    qkv = take(tokens * qkv_width + LANES);  // the last head's vectors end behind it
    keys = take(wide * a.head_features);
    logits = take(ROWS * wide);
    mixed = take(ROWS * in_vectors(a.head_features));
    attended = take(tokens * seen);
    second = take(tokens * stream);
    expanded = take(tokens * hidden);
    rounded = take(s.bf16 ? tokens * padded(std::max({stream, seen, hidden})) / 2 : 0);
    size = next - scratch;
  }
};

// A row of logits plus `bias` and, where given, `mask`, to exp(x - largest x) in place; their sum.
static inline float softmax_row(float* row, const float* bias, const float* mask, int64_t count) {
  vec most = splat(-INFINITY), total = {};
  for (int64_t i = 0; i < count; i += LANES) {
    vec v = load(row + i) + load(bias + i);
    if (mask) v += load(mask + i);
    store(row + i, v);
    most = larger(most, v);
  }
  const float top = largest(most);
  for (int64_t i = 0; i < count; i += LANES) {
    const vec e = exponential(load(row + i) - top);
    store(row + i, e);
    total += e;
  }
  return sum(total);
}

// softmax(q k^T + position + mask) v for one head, into its columns of `attended`.
static void attend(const Attention& a, const Desk& d, int64_t head, const float* mask) {
  const int64_t n = a.head_features, width = a.heads * n, across = in_vectors(n);
  const float* q = d.qkv + head * n;
  // 1. keys in panels of 16: (wide / 16, n, 16)
  for (int64_t t = 0; t < d.wide; t++)
    for (int64_t c = 0; c < n; c++)
      d.keys[(t / PANEL * n + c) * PANEL + t % PANEL] =
          t < d.tokens ? q[width + t * d.qkv_width + c] : 0.0f;
  const float* position = a.position + head * d.tokens * d.wide;
  for (int64_t t = 0; t < d.tokens; t += ROWS) {
    // 2. logits of some rows, and their softmax; columns beyond the window weigh nothing
    const int64_t rows = std::min<int64_t>(ROWS, d.tokens - t);
    float scale[ROWS];
    product<float>(rows, {q + t * d.qkv_width, d.qkv_width, n}, {d.keys, n}, nullptr, d.logits, d.wide,
                   d.wide);
    for (int64_t r = 0; r < rows; r++) {
      const int64_t at = (t + r) * d.wide;
      scale[r] = 1.0f / softmax_row(d.logits + r * d.wide, position + at, mask ? mask + at : nullptr, d.wide);
    }
    // 3. the mean of the values; columns beyond the head's are another's, which overwrites them
    product<float>(rows, {d.logits, d.wide, d.tokens},
                   Panels<float>::unpacked(q + 2 * width, d.qkv_width), nullptr, d.mixed, across, across);
    for (int64_t r = 0; r < rows; r++) {
      float* to = d.attended + (t + r) * d.seen + head * n;
      for (int64_t c = 0; c < across; c += LANES) store(to + c, load(d.mixed + r * across + c) * scale[r]);
    }
  }
}

static int64_t swin_items(const Step& s, int64_t h, int64_t w) {
  return (h * s.rate / s.attention->window) * (w * s.rate / s.attention->window);
}

static int64_t swin_scratch(const Step& s, int64_t, int64_t) { return Desk(s, nullptr).size; }

// c = a b + bias for all tokens; b is packed as T.
template <class T>
static void matrix(const Desk& d, const float* a, int64_t stride, int64_t depth, const void* b,
                   const float* bias, float* c, int64_t ldc, int64_t features) {
  if constexpr (split<T> == 1)
    return product<T>(d.tokens, {a, stride, depth}, {b, depth}, bias, c, ldc, features);
  T* rows = reinterpret_cast<T*>(d.rounded);  // rounded first; what is beyond `depth` is not read
  for (int64_t t = 0; t < d.tokens; t++)
    for (int64_t k = 0; k < depth; k += LANES)
      store(rows + t * padded(depth) + k, load(a + t * stride + k));
  product<T>(d.tokens, {rows, padded(depth), depth}, {b, depth}, bias, c, ldc, features);
}

template <class T>
static void swin(const Step& s, const Grid& g, int64_t item, float* scratch) {
  const Attention& a = *s.attention;
  const Desk d(s, scratch);
  const int64_t across = g.width / a.window, down = g.height / a.window;
  const int64_t wy = item / across, wx = item % across;
  auto at = [&](int64_t t) {  // the pixel of a token
    const int64_t y = (wy * a.window + t / a.window + a.shift) % g.height;
    const int64_t x = (wx * a.window + t % a.window + a.shift) % g.width;
    return y * g.width + x;
  };
  auto add_to = [&](float* rows, const float* other, int64_t stride, bool by_pixel) {
    for (int64_t t = 0; t < d.tokens; t++) {
      const float* from = other + (by_pixel ? at(t) : t) * stride;
      for (int64_t c = 0; c < d.used; c += LANES)
        store(rows + t * d.stream + c, load(rows + t * d.stream + c) + load(from + c));
    }
  };
  // 1. norm and q, k, v
  for (int64_t t = 0; t < d.tokens; t++)
    normalise(g.in + at(t) * s.in.stride, s.channels, d.normed + t * d.stream);
  matrix<T>(d, d.normed, d.stream, s.channels, a.qkv, a.qkv_bias, d.qkv, d.qkv_width, d.qkv_width);
  // 2. attention of each head; windows at the right and lower edge hold regions that do not meet
  const int64_t edge = 2 * (wy == down - 1) + (wx == across - 1);
  const float* mask = a.shift && edge ? a.mask + edge * d.tokens * d.wide : nullptr;
  for (int64_t h = 0; h < a.heads; h++) attend(a, d, h, mask);
  // 3. projection, first residual
  matrix<T>(d, d.attended, d.seen, s.channels, a.proj, a.proj_bias, d.second, d.stream, d.used);
  add_to(d.second, g.in, s.in.stride, true);
  // 4. norm, MLP, second residual
  for (int64_t t = 0; t < d.tokens; t++)
    normalise(d.second + t * d.stream, s.channels, d.normed + t * d.stream);
  matrix<T>(d, d.normed, d.stream, s.channels, a.fc1, a.fc1_bias, d.expanded, d.hidden,
            in_vectors(a.hidden));
  for (int64_t t = 0; t < d.tokens; t++)
    for (float *x = d.expanded + t * d.hidden, *end = x + a.hidden; x < end; x += LANES)
      store(x, gelu(load(x)));
  matrix<T>(d, d.expanded, d.hidden, a.hidden, a.fc2, a.fc2_bias, d.normed, d.stream, d.used);
  add_to(d.normed, d.second, d.stream, false);
  for (int64_t t = 0; t < d.tokens; t++) {
    float* out = g.out + at(t) * s.out.stride;
    std::copy_n(d.normed + t * d.stream, d.used, out);
    std::fill(out + d.used, out + d.stream, 0.0f);
  }
}

}  // namespace ISA
