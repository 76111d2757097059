// One instruction set's kernels. Compiled once for each, with ISA (its name), LANES (floats of a vector),
// ROWS and PANELS_AT_ONCE (what the registers hold of a product) defined by the build.
#include "convolution.h"
#include "swin.h"

#define NAME_OF(x) #x
#define NAME(x) NAME_OF(x)

namespace ISA {

static int64_t items(const Step& s, int64_t h, int64_t w) {
  switch (s.kind) {
    case WINOGRAD: return winograd_items(s, h, w);
    case NORM: return h * s.rate;
    case SWIN: return swin_items(s, h, w);
    default: return direct_items(s, h, w);
  }
}

static int64_t scratch(const Step& s, int64_t h, int64_t w) {
  switch (s.kind) {
    case WINOGRAD: return winograd_scratch(s, h, w);
    case NORM: return 0;
    case SWIN: return swin_scratch(s, h, w);
    default: return direct_scratch(s, h, w);
  }
}

static void perform(const Step& s, float* const* buffers, int64_t h, int64_t w, int64_t item,
                    float* scratch) {
  const Grid g(s, buffers, h, w);
  switch (s.kind) {
    case WINOGRAD: return (s.bf16 ? winograd<half> : winograd<float>)(s, g, item, scratch);
    case DIRECT: return (s.bf16 ? direct<half> : direct<float>)(s, g, item, scratch);
    case NARROW: return narrow(s, g, item, scratch);
    case NORM: return norm(s, g, item);
    default: return (s.bf16 ? swin<half> : swin<float>)(s, g, item, scratch);
  }
}

extern const Kernels kernels = {NAME(ISA), split<half> > 1, scratch, items, perform};

}  // namespace ISA
