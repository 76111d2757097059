// The C interface of the kernels: plain structures, so that any compiler's build serves any Python.
//
// A program is a list of steps over buffers. A buffer is a picture of float32, channels last:
// (height * rate, width * rate, stride), its channels from `offset` on. Every count of channels that a
// step writes is a multiple of 16; what is beyond the network's own count is zero, as the weights are.
#pragma once

#include <cstdint>

constexpr int PANEL = 16;  // columns of a packed matrix that lie together
constexpr float POINT_A = 0.75f, POINT_B = 1.5f;  // of the Winograd transforms, see convolution.h

enum Kind : int64_t { WINOGRAD, DIRECT, NARROW, NORM, SWIN };

struct Place {  // channels of a buffer; buffer -1: none
  int64_t buffer, stride, offset;
};

struct Attention {  // one Swin layer; every matrix packed, see upscale_pack_matrix
  int64_t heads, head_features, window, shift, hidden;
  const void* qkv;                // features -> 3 * heads * head_features; LayerNorm and scale folded
  const float *position;          // (heads, window^2, window^2 padded to 16): relative position bias
  const float *mask;              // (4, T, T padded to 16): inside, right, bottom, corner; with a shift
  const void* proj;               // heads * head_features -> features
  const void* fc1;                // features -> hidden; LayerNorm folded
  const void* fc2;                // hidden -> features
  const float *qkv_bias, *proj_bias, *fc1_bias, *fc2_bias;
};

struct Step {
  int64_t kind;
  int64_t rate;                // output pixels (before `shuffle`) along a side for one of the program's
  Place in, out, add, base;    // result = base + beta * (add + activation(step(in)))
  int64_t channels, features;  // read and written; features padded to 16 (NARROW: 1 to 4, not padded)
  int64_t kernel;              // side of the convolution
  int64_t nearest;             // enlargement of the input in front of the convolution
  int64_t shuffle;             // pixel shuffle of the result; its channels are phase by phase
  int64_t replicate;           // pad by the edge pixel; otherwise by zero
  int64_t bf16;                // products of bfloat16, in which the weights are
  const void* weight;          // packed, or (features, kernel, kernel, channels) for NARROW
  const float* bias;
  float slope, beta;           // of LeakyReLU: 1 for none, 0 for ReLU
  const Attention* attention;
};

// One instruction set's form of everything.
struct Kernels {
  const char* name;
  bool bf16;  // whether steps may ask for bfloat16
  int64_t (*scratch)(const Step&, int64_t height, int64_t width);  // floats a thread needs
  int64_t (*items)(const Step&, int64_t height, int64_t width);    // independent parts of a step
  void (*perform)(const Step&, float* const* buffers, int64_t height, int64_t width, int64_t item,
                  float* scratch);
};

#pragma GCC visibility push(default)
extern "C" {
// A number that changes whenever this file does, and the sizes of Step and Attention.
int32_t upscale_interface(int64_t* sizes);
// Pack (outputs, inputs) for the product: panels of 16 outputs, (outputs / 16, inputs, 16).
void upscale_pack_matrix(const float* weight, int64_t outputs, int64_t inputs, float* packed);
// (outputs, inputs, side, side) to the Winograd domain: 36 packed matrices; side 3 or 5.
void upscale_pack_winograd(const float* weight, int64_t outputs, int64_t inputs, int64_t side,
                           float* packed);
// Run steps in order on up to `threads` threads. 0, or 1 where there was no memory.
int32_t upscale_run(const Step* steps, int64_t count, float* const* buffers, int64_t height,
                    int64_t width, int64_t threads);
// The instruction set in use; `wanted` picks a lesser one ("" for the best). Null: not there.
const char* upscale_select(const char* wanted);
// Whether that instruction set multiplies bfloat16.
int32_t upscale_has_bf16();
}
#pragma GCC visibility pop
