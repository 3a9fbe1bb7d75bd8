// The entry points: a scan over packed rows of one layer, forward and backward, in float32 and float64.

#ifdef _OPENMP
#include <omp.h>
#endif

#include "backward.h"
#include "forward.h"
#include "one.h"
#include "peak.h"

#if RNNNORM_FULL
#include "full_elements.h"
#include "full_gradients.h"
template <typename T> using Forth = Forward<T, FullElements>;
template <typename T> using Back = Backward<T, FullGradients>;
#else
#include "elements.h"
#include "gradients.h"
static_assert(kCell == kLSTM, "the plain scan is written for LSTMs");
template <typename T> using Forth = Forward<T, Elements>;
template <typename T> using Back = Backward<T, Gradients>;
#endif

template <typename Run> static int64_t workspace(const Problem& problem) {
  Arena arena(nullptr);
  Run run(problem, arena);
  return arena.used();
}

template <typename Run> static void run(const Problem& problem) {
  Arena arena(problem.workspace);
  Run(problem, arena).run();
}

extern "C" {
int64_t rnnnorm_problem_size() { return sizeof(Problem); }
int64_t rnnnorm_padding(int64_t H, int wide) { return wide ? padding<double>(H) : padding<float>(H); }
int64_t rnnnorm_width(int64_t H, int wide) { return wide ? row_of_gates<double>(H) : row_of_gates<float>(H); }
int64_t rnnnorm_forward_workspace_f32(const Problem* p) { return workspace<Forth<float>>(*p); }
int64_t rnnnorm_forward_workspace_f64(const Problem* p) { return workspace<Forth<double>>(*p); }
int64_t rnnnorm_backward_workspace_f32(const Problem* p) { return workspace<Back<float>>(*p); }
int64_t rnnnorm_backward_workspace_f64(const Problem* p) { return workspace<Back<double>>(*p); }
float rnnnorm_multiply_and_add_f32(int64_t count, int threads) { return multiply_and_add<float>(count, threads); }
int64_t rnnnorm_step_values(int64_t H) { return OneStep<float>::values(H); }
void rnnnorm_step_f32(const Problem* p) { OneStep<float>(*p).run(); }
void rnnnorm_step_f64(const Problem* p) { OneStep<double>(*p).run(); }
void rnnnorm_forward_f32(const Problem* p) { run<Forth<float>>(*p); }
void rnnnorm_forward_f64(const Problem* p) { run<Forth<double>>(*p); }
void rnnnorm_backward_f32(const Problem* p) { run<Back<float>>(*p); }
void rnnnorm_backward_f64(const Problem* p) { run<Back<double>>(*p); }
}
