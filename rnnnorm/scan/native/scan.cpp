// The entry points: a scan over packed rows of one layer, forward and backward, in float32 and float64.

#ifdef _OPENMP
#include <omp.h>
#endif

#include "backward.h"
#include "forward.h"

template <typename Run> static long workspace(const Problem& problem) {
  Arena arena(nullptr);
  Run run(problem, arena);
  return arena.used();
}

template <typename Run> static void run(const Problem& problem) {
  Arena arena(problem.workspace);
  Run(problem, arena).run();
}

extern "C" {
long rnnnorm_problem_size() { return sizeof(Problem); }
long rnnnorm_padding(long H, int wide) { return wide ? (H + L<double> - 1) / L<double> * L<double> : (H + L<float> - 1) / L<float> * L<float>; }
long rnnnorm_forward_workspace_f32(const Problem* p) { return workspace<Forward<float>>(*p); }
long rnnnorm_forward_workspace_f64(const Problem* p) { return workspace<Forward<double>>(*p); }
long rnnnorm_backward_workspace_f32(const Problem* p) { return workspace<Backward<float>>(*p); }
long rnnnorm_backward_workspace_f64(const Problem* p) { return workspace<Backward<double>>(*p); }
void rnnnorm_forward_f32(const Problem* p) { run<Forward<float>>(*p); }
void rnnnorm_forward_f64(const Problem* p) { run<Forward<double>>(*p); }
void rnnnorm_backward_f32(const Problem* p) { run<Backward<float>>(*p); }
void rnnnorm_backward_f64(const Problem* p) { run<Backward<double>>(*p); }
}
