// What no instruction set changes: choosing one, packing weights, and running a program's steps on
// threads that live as long as the call.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "kernels.h"

namespace baseline { extern const Kernels kernels; }
#ifdef UPSCALE_X86
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
namespace avx512bf16 { extern const Kernels kernels; }
#endif

namespace {

std::vector<const Kernels*> available() {  // best first
  std::vector<const Kernels*> found;
#ifdef UPSCALE_X86
  __builtin_cpu_init();
  const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool wide = fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
  if (wide && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512bf16"))
    found.push_back(&avx512bf16::kernels);
  if (wide) found.push_back(&avx512::kernels);
  if (fma) found.push_back(&avx2::kernels);
#endif
  found.push_back(&baseline::kernels);
  return found;
}

std::atomic<const Kernels*> selected{nullptr};

const Kernels& current() {
  const Kernels* found = selected.load();
  return found ? *found : *available().front();
}

constexpr int PATIENCE = 1000;  // calls of yield, of some 0.3 microseconds each

using Floats = std::unique_ptr<float, decltype(&std::free)>;

Floats aligned(int64_t count) {
  const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(float) + 63) / 64 * 64;
  return Floats(static_cast<float*>(std::aligned_alloc(64, std::max<std::size_t>(bytes, 64))), std::free);
}

// The Winograd matrix G, (6, side): powers of each point over its product with the others.
std::vector<double> weights_to_points(int64_t side) {
  const double points[] = {0, POINT_A, -POINT_A, POINT_B, -POINT_B};
  std::vector<double> g(6 * side);
  for (int64_t i = 0; i < 5; i++) {
    double value = 1;
    for (int64_t j = 0; j < 5; j++)
      if (j != i) value /= points[i] - points[j];
    for (int64_t j = 0; j < side; j++, value *= points[i]) g[i * side + j] = value;
  }
  g[5 * side + side - 1] = 1;
  return g;
}

}  // namespace

extern "C" {

void upscale_pack_matrix(const float* weight, int64_t outputs, int64_t inputs, float* packed) {
  for (int64_t o = 0; o < outputs; o++)
    for (int64_t i = 0; i < inputs; i++)
      packed[(o / PANEL * inputs + i) * PANEL + o % PANEL] = weight[o * inputs + i];
}

void upscale_pack_winograd(const float* weight, int64_t outputs, int64_t inputs, int64_t side,
                           float* packed) {
  const std::vector<double> g = weights_to_points(side);
  for (int64_t o = 0; o < outputs; o++)
    for (int64_t i = 0; i < inputs; i++) {
      const float* w = weight + (o * inputs + i) * side * side;
      double half[6 * 5];  // G w
      for (int64_t p = 0; p < 6; p++)
        for (int64_t x = 0; x < side; x++) {
          half[p * side + x] = 0;
          for (int64_t y = 0; y < side; y++) half[p * side + x] += g[p * side + y] * w[y * side + x];
        }
      for (int64_t p = 0; p < 6; p++)
        for (int64_t q = 0; q < 6; q++) {
          double value = 0;
          for (int64_t x = 0; x < side; x++) value += half[p * side + x] * g[q * side + x];
          const int64_t at = (o / PANEL * inputs + i) * PANEL + o % PANEL;
          packed[(p * 6 + q) * outputs * inputs + at] = static_cast<float>(value);
        }
    }
}

int32_t upscale_interface(int64_t* sizes) {
  sizes[0] = sizeof(Step);
  sizes[1] = sizeof(Attention);
  return 2;
}

int32_t upscale_run(const Step* steps, int64_t count, float* const* buffers, int64_t height,
                    int64_t width, int64_t threads) try {
  const Kernels& kernels = current();
  int64_t scratch = 0, most = 1;
  for (int64_t i = 0; i < count; i++) {
    scratch = std::max(scratch, kernels.scratch(steps[i], height, width));
    most = std::max(most, kernels.items(steps[i], height, width));
  }
  threads = std::clamp<int64_t>(threads, 1, most);
  std::vector<std::atomic<int64_t>> next(count);  // of each step: the first item that nobody has
  std::barrier finished(threads);
  std::atomic<int64_t> present{threads}, arrived{0}, at_work{0};
  auto work = [&]() noexcept {
    const Floats own = aligned(scratch);
    if (own) at_work++;  // one without memory leaves its share to the others
    for (int64_t i = 0; i < count; i++) {
      const int64_t items = kernels.items(steps[i], height, width);
      for (int64_t item; own && (item = next[i]++) < items;)
        kernels.perform(steps[i], buffers, height, width, item, own.get());
      // Steps are short: who waits asks again and again for a while, as to sleep and to be woken takes
      // longer than a step; another program that needs the core gets it.
      arrived++;
      auto arrival = finished.arrive();
      for (int asked = 0; asked < PATIENCE && arrived < present * (i + 1); asked++) std::this_thread::yield();
      finished.wait(std::move(arrival));
    }
  };
  std::vector<std::thread> others;
  others.reserve(threads);
  for (int64_t i = 1; i < threads; i++) {
    try {
      others.emplace_back(work);
    } catch (...) {  // no more threads: those that are there do the work
      present--;
      finished.arrive_and_drop();
    }
  }
  work();
  for (std::thread& thread : others) thread.join();
  return at_work ? 0 : 1;
} catch (const std::bad_alloc&) {  // before any thread began
  return 1;
}

const char* upscale_select(const char* wanted) {
  for (const Kernels* kernels : available())
    if (!*wanted || !std::strcmp(wanted, kernels->name)) {
      selected = kernels;
      return kernels->name;
    }
  return nullptr;
}

int32_t upscale_has_bf16() { return current().bf16; }
}
