// verbs.cpp: what all verbs share.
#include "src/cli/verbs.h"

#include <omp.h>

#include "src/tensor/ops.h"

namespace {
#ifdef DEBUG_PRESET                                      // one thing after another, as the equations say
struct Common {
    std::string device = "cpu", kernels = "plain";
    int threads = 1;
} common;
#else
struct Common {
    std::string device = "cpu", kernels = "fast";
    int threads = 0;
} common;
#endif
}  // namespace

void use_common() {
    expect(common.threads >= 0 && common.threads <= 1024, "--threads ", common.threads,
           " is not between 1 and 1024");
    if (common.threads) omp_set_num_threads(common.threads);
    expect(common.kernels == "fast" || common.kernels == "plain", "--kernels ", common.kernels,
           ": not plain or fast");
    use_kernels(common.kernels == "fast" ? Kernels::fast : Kernels::plain);
    device = device_named(common.device);
}

CLI::App *add_verb(CLI::App &app, const std::string &name, const std::string &what,
                   const std::string &example) {
    CLI::App *v = app.add_subcommand(name, what);
    v->footer("Example:\n  " + example);
    v->add_option("--device", common.device, "cpu, cuda, or checked: both, compared op by op");
    v->add_option("--threads", common.threads, "of the CPU; 0: all");
    v->add_option("--kernels", common.kernels, "fast, or plain: the equations as they are read");
    return v;
}
