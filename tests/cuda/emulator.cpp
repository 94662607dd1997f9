// Tests of src/cuda/cuda_on_cpu.h itself: does it notice the mistakes it exists for? What its words mean is
// tested in words.cu, which a GPU runs too. What must end in abort() runs in a forked child, whose last words
// are compared. Build alone with -DEMULATOR_STANDALONE, or as one file of a larger doctest binary.
//
//   [1] helpers           [3] mistakes that orders show      [5] memory
//   [2] its own books     [4] mistakes that are reported     [6] what it costs
#ifdef EMULATOR_STANDALONE
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#endif
#include "tests/cuda/on_device.h"
#include <chrono>
#include <cmath>
#include <csignal>
#include <doctest/doctest.h>
#include <functional>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {
// ----------------------------------------------------------------------------------------------- [1] helpers
#ifdef EMULATOR_ASAN
constexpr bool with_asan = true;
#else
constexpr bool with_asan = false;
#endif

const Emulator::Order orders[] = {Emulator::ascending, Emulator::descending, Emulator::shuffled,
                                  Emulator::interleaved};

struct Fixture {                                       // every test starts with the usual settings
    Fixture() { emulator = {}; }
    ~Fixture() { emulator = {}; }
};

struct Death {
    bool died;
    std::string words;                                 // what it wrote to stderr
    bool says(const std::string &part) const { return words.find(part) != std::string::npos; }
};

Death in_child(const std::function<void()> &act) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const rlimit no_core{0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        dup2(ends[1], 2);
        act();
        _exit(0);
    }
    close(ends[1]);
    Death death{};
    char part[4096];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) death.words.append(part, n);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    death.died = !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return death;
}

std::string here(int line) { return std::string(__FILE__) + ":" + std::to_string(line); }

// --------------------------------------------------------------------------------------- [2] its own books
__global__ void launch_nothing() {}
__global__ void wait_twice() {
    barrier();
    barrier();
}

TEST_CASE_FIXTURE(Fixture, "emulator: stacks are kept, and threads that never wait have none") {
    const size_t before = emulated::machine.fibers.size();
    launch(launch_nothing, 0, 1, 0);
    CHECK(emulator.launches == 0);
    launch(launch_nothing, 100, 1024, 0);
    CHECK(emulated::machine.fibers.size() == before);
    launch(wait_twice, 3, 128, 0);
    const size_t after = emulated::machine.fibers.size();
    CHECK(after >= 127);                               // one of the 128 waits on the caller's stack
    launch(wait_twice, 3, 128, 0);
    CHECK(emulated::machine.fibers.size() == after);
    CHECK(emulated::machine.idle.size() == after);     // nobody is left behind
}

TEST_CASE_FIXTURE(Fixture, "emulator: barriers are known by their lines") {
    launch(wait_twice, 3, 64, 0);
    REQUIRE(emulator.barriers_seen.size() == 2);
    CHECK(emulator.barriers_seen[1].line == emulator.barriers_seen[0].line + 1);
    CHECK(emulator.barriers == 6);
    CHECK(emulator.threads == 192);
}

// ----------------------------------------------------------------------------- [3] mistakes that orders show
__global__ void rotate(const int *x, int *y, int with_barrier) {       // y_i = x_(i+1) of the block
    SHARED(int, row);
    row[threadIdx.x] = x[threadIdx.x];
    if (with_barrier) barrier();
    y[threadIdx.x] = row[(threadIdx.x + 1) % blockDim.x];
}

TEST_CASE_FIXTURE(Fixture, "emulator: a race between threads is seen by at least one order") {
    std::vector<int> x(64), expected(64);
    std::iota(x.begin(), x.end(), 0);
    std::rotate_copy(x.begin(), x.begin() + 1, x.end(), expected.begin());
    int wrong = 0;
    for (auto order : orders) {
        emulator.order = order;
        OnDevice<int> in(x), out(64);
        launch(rotate, 1, 64, 64 * sizeof(int), in.p, out.p, 1);
        CHECK(out.down() == expected);
        launch(rotate, 1, 64, 64 * sizeof(int), in.p, out.p, 0);
        wrong += out.down() != expected;
    }
    CHECK(wrong > 0);
}

__global__ void halve(float *x, int n) {               // a sum by halving, with every barrier it needs
    SHARED(float, row);
    for (int from = 0; from < n; from += blockDim.x) {
        row[threadIdx.x] = x[from + threadIdx.x];
        barrier();
        for (int k = blockDim.x / 2; k > 0; k /= 2) {
            if (int(threadIdx.x) < k) row[threadIdx.x] += row[threadIdx.x + k];
            barrier();
        }
        const float sum = row[0];
        barrier();                                     // before row is filled again
        x[from + threadIdx.x] = sum;
    }
}

TEST_CASE_FIXTURE(Fixture, "emulator: leaving out one barrier after another is noticed at each of them") {
    std::vector<float> x(4 * 64), expected(4 * 64);
    for (size_t i = 0; i < x.size(); i++) {
        x[i] = i;
        expected[i] = 64 * (i / 64 * 64) + 63 * 32;
    }
    auto wrong = [&] {
        OnDevice<float> on_device(x);
        launch(halve, 1, 64, 64 * sizeof(float), on_device.p, int(x.size()));
        return on_device.down() != expected;
    };
    CHECK(!wrong());
    REQUIRE(emulator.barriers_seen.size() == 3);
    for (emulator.skip_barrier = 0; emulator.skip_barrier < 3; emulator.skip_barrier++) {
        int noticed = 0;
        for (auto order : orders) {
            emulator.order = order;
            noticed += wrong();
        }
        CHECK_MESSAGE(noticed > 0, "barrier ", emulator.skip_barrier);
    }
    emulator.skip_barrier = -1;
    for (auto order : orders) {
        emulator.order = order;
        CHECK(!wrong());
    }
}

__global__ void chain(int *x) { x[blockIdx.x + 1] = x[blockIdx.x] + 1; }
__global__ void one_scratch(int *scratch, int *out) {  // all blocks use the same word
    if (threadIdx.x == 0) *scratch = blockIdx.x;
    barrier();
    out[blockIdx.x * blockDim.x + threadIdx.x] = *scratch;
}

TEST_CASE_FIXTURE(Fixture, "emulator: a block that needs another's result is seen by the order of blocks") {
    std::vector<std::vector<int>> results;
    for (auto order : orders) {
        emulator.order = order;
        OnDevice<int> x(std::vector<int>(9));
        launch(chain, 8, 1, 0, x.p);
        results.push_back(x.down());
    }
    CHECK(results[0][8] == 8);
    CHECK(results[1][8] == 1);
    CHECK(results[2] != results[0]);
}

TEST_CASE_FIXTURE(Fixture, "emulator: blocks that share scratch are seen only when blocks interleave") {
    for (auto order : orders) {
        emulator.order = order;
        OnDevice<int> scratch(1), out(8 * 32);
        launch(one_scratch, 8, 32, 0, scratch.p, out.p);
        const auto v = out.down();
        int wrong = 0;
        for (int i = 0; i < 8 * 32; i++) wrong += v[i] != i / 32;
        CHECK((wrong > 0) == (order == Emulator::interleaved));
    }
}

__global__ void take_turns(int *turn, int *out) {      // who comes when, after a barrier
    barrier();
    out[atomic_add(turn, 1)] = threadIdx.x;
}

TEST_CASE_FIXTURE(Fixture, "emulator: the order of threads holds after a barrier too") {
    std::vector<int> up(64);
    std::iota(up.begin(), up.end(), 0);
    const std::vector<int> down(up.rbegin(), up.rend());
    for (auto order : orders) {
        emulator.order = order;
        OnDevice<int> turn(std::vector<int>(1)), out(64);
        launch(take_turns, 1, 64, 0, turn.p, out.p);
        std::vector<int> threads = out.down();
        CHECK((threads == up) == (order == Emulator::ascending));
        CHECK((threads == down) == (order == Emulator::descending));
        std::sort(threads.begin(), threads.end());
        CHECK(threads == up);
    }
}

TEST_CASE_FIXTURE(Fixture, "emulator: the same seed repeats a shuffled launch, another seed does not") {
    auto race = [](unsigned seed) {
        emulator.order = Emulator::shuffled;
        emulator.seed = seed;
        OnDevice<int> in(std::vector<int>(64, 1)), out(64);
        launch(rotate, 1, 64, 64 * sizeof(int), in.p, out.p, 0);
        return out.down();
    };
    CHECK(race(3) == race(3));
    CHECK(race(3) != race(4));
}

// ---------------------------------------------------------------------------- [4] mistakes that are reported
constexpr int line_of_divergence = __LINE__ + 2;
__global__ void divergent() {
    if (threadIdx.x < 5) barrier();
    else barrier();
}
__global__ void leaves_early() {
    if (threadIdx.x == 7) return;
    barrier();
}
__global__ void sums_alone() {
    if (threadIdx.x % 32 == 0) warp_sum(1);
}
__global__ void sums_half_warps() { block_sum(1); }
__global__ void mixes_words() {
    if (threadIdx.x < 32) barrier();
    else block_sum(1);
}
__global__ void waits_for_another_word() {             // half a warp at each of two meetings
    if (threadIdx.x % 2) barrier();
    else warp_sum(1);
}
__global__ void shared_as_found(float *out) {
    SHARED(float, row);
    out[blockIdx.x * blockDim.x + threadIdx.x] = row[threadIdx.x];
    barrier();
    row[threadIdx.x] = 1;
}
__global__ void throws() { throw 1; }
__global__ void launches() { launch(launch_nothing, 1, 1, 0); }
__device__ int descend(volatile char *above, int n) {
    volatile char frame[512] = {};
    frame[n % 512] = *above;
    return n < 1000000 ? descend(frame, n + 1) + frame[0] : 0;
}
__global__ void recurses(int *deep) {
    barrier();                                         // the second thread, and all after it, run on fibers
    volatile char nothing = 0;
    *deep = descend(&nothing, 0);
}

TEST_CASE_FIXTURE(Fixture, "emulator: divergent barriers abort, naming kernel, block, thread, lines") {
    const Death death = in_child([] { launch(divergent, 3, 64, 0); });
    CHECK(death.died);
    CHECK(death.words == "emulated CUDA: kernel divergent, block (0,0,0), thread (5,0,0), " +
                             here(line_of_divergence + 1) + ": barrier, while thread 0 waits at " +
                             here(line_of_divergence) + " (barrier)\n");
    const Death mixed = in_child([] { launch(mixes_words, 1, 64, 0); });
    CHECK(mixed.says("kernel mixes_words, block (0,0,0), thread (32,0,0)"));
    CHECK(mixed.says("block_sum, while thread 0 waits"));
}

TEST_CASE_FIXTURE(Fixture, "emulator: a thread that returns while others wait is reported, in every order") {
    for (auto order : orders) {
        emulator.order = order;
        const Death death = in_child([] { launch(leaves_early, 1, 64, 0); });
        CHECK(death.died);
        CHECK(death.says("kernel leaves_early, block (0,0,0), thread ("));
        CHECK(death.says("return"));
        const Death alone = in_child([] { launch(sums_alone, 1, 64, 0); });
        CHECK(alone.says("waits at warp_sum for"));
    }
}

TEST_CASE_FIXTURE(Fixture, "emulator: threads that wait for each other at different words are reported") {
    const Death death = in_child([] { launch(waits_for_another_word, 1, 32, 0); });
    CHECK(death.died);
    CHECK(death.says("for ever, while thread "));
}

TEST_CASE_FIXTURE(Fixture, "emulator: what a GPU refuses is refused") {
    CHECK(in_child([] { launch(launch_nothing, 1, 1025, 0); }).says("kernel launch_nothing: a block above"));
    CHECK(in_child([] { launch(launch_nothing, 1, dim3(64, 32), 0); }).says("more than 1024 threads"));
    CHECK(in_child([] { launch(launch_nothing, 1, 0, 0); }).says("a block without threads"));
    CHECK(in_child([] { launch(launch_nothing, 1, 32, 48 * 1024 + 1); }).says("more than 48 KB"));
    CHECK(in_child([] { launch(launch_nothing, dim3(1, 65536), 32, 0); }).says("a grid above"));
    CHECK(in_child([] { launch(launch_nothing, 1L << 31, 32, 0); }).says("a grid above"));
    CHECK(in_child([] { launch(launch_nothing, -1, 32, 0); }).says("a negative grid"));
    CHECK(in_child([] {
              launch(sums_half_warps, 1, 48, 0);
          }).says("block_sum needs whole warps, not 48 threads"));
}

TEST_CASE_FIXTURE(Fixture, "emulator: a kernel must not throw, launch, outgrow its stack, or share nothing") {
    CHECK(in_child([] { launch(throws, 1, 1, 0); }).says("thread (0,0,0): a kernel must not throw"));
    CHECK(in_child([] { launch(launches, 1, 1, 0); }).says("kernel launches, block"));
    CHECK(in_child([] {
              OnDevice<float> x(32);
              launch(shared_as_found, 1, 32, 0, x.p);
          }).says("SHARED, but launched without shared memory"));
    CHECK(in_child([] {
              OnDevice<int> deep(std::vector<int>(1, 1));
              launch(recurses, 1, 64, 0, deep.p);
          }).died);
}

// ------------------------------------------------------------------------------------------------ [5] memory
struct Views {                                         // a struct of pointers, as an op's Call is
    const float *x;
    float *y;
    long n;
};
void check_argument(const Views &v) {
    if (!device_owns(v.x, v.n * sizeof(float))) launch_error("Views.x is not the device's");
    if (v.y && !device_owns(v.y, v.n * sizeof(float))) launch_error("Views.y is not the device's");
}
__global__ void copy_views(const __grid_constant__ Views v, long reach) {
    const long i = blockIdx.x * blockDim.x + threadIdx.x;
    if (v.y && i < reach) v.y[i] = v.x[i];
}
__global__ void beyond_shared(float *out) {
    SHARED(float, row);
    row[threadIdx.x] = 1;
    out[threadIdx.x] = row[threadIdx.x];
}

TEST_CASE_FIXTURE(Fixture, "emulator: the host cannot touch device memory, before or after a launch") {
    OnDevice<float> x(std::vector<float>(64, 1)), y(64);
    CHECK(in_child([&] { x.p[3] = 1; }).died);
    launch(copy_views, 1, 64, 0, Views{x.p, y.p, 64}, 64);
    CHECK(in_child([&] { _exit(x.p[3] == 7 ? 1 : 0); }).died);
    CHECK(y.down() == std::vector<float>(64, 1));
}

TEST_CASE_FIXTURE(Fixture, "emulator: launch refuses host pointers, bare or in a struct; absent ones pass") {
    std::vector<float> host(64);
    OnDevice<float> x(std::vector<float>(64, 1));
    auto last_words = [](Views v) { return in_child([=] { launch(copy_views, 1, 64, 0, v, 64); }); };
    CHECK(last_words({host.data(), x.p, 64}).says("kernel copy_views: Views.x"));
    CHECK(last_words({x.p, x.p + 1, 64}).says("kernel copy_views: Views.y"));
    CHECK(in_child([&] { launch(shared_as_found, 1, 64, 256, host.data()); }).says("pointer of the host"));
    launch(copy_views, 1, 64, 0, Views{x.p, nullptr, 64}, 64);
    CHECK(in_child([&] { copy_up(host.data(), host.data(), 4); }).says("copy_up: 4 bytes at"));
    CHECK(in_child([&] { copy_up(x.p, host.data(), 257); }).says("are not the device's"));
    CHECK(in_child([&] { copy_down(x.p, x.p, 4); }).says("is the device's, not the host's"));
    CHECK(in_child([&] { device_free(host.data()); }).says("not a block of the device"));
}

TEST_CASE_FIXTURE(Fixture, "emulator: device memory and every block's shared memory start as NaN") {
    for (auto order : orders) {
        emulator.order = order;
        OnDevice<float> fresh(10), out(std::vector<float>(8 * 32, 1));
        for (float v : fresh.down()) CHECK(std::isnan(v));
        launch(shared_as_found, 8, 32, 32 * sizeof(float), out.p);
        for (float v : out.down()) CHECK(std::isnan(v));
    }
    const unsigned char ones[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    double d;
    memcpy(&d, ones, sizeof d);
    CHECK(std::isnan(d));
}

TEST_CASE_FIXTURE(Fixture, "emulator: the part of a block that is in use is what the device owns") {
    OnDevice<int> a(std::vector<int>{1, 2, 3, 4});
    CHECK(device_owns(a.p, 16));
    CHECK(device_owns(a.p + 2, 8));
    CHECK(!device_owns(a.p + 2, 12));
    device_use(a.p, 8);
    CHECK(!device_owns(a.p, 16));
    device_use(a.p, 16);
    CHECK(a.down() == std::vector<int>{1, 2, 3, 4});
}

TEST_CASE_FIXTURE(Fixture,
                  "emulator: AddressSanitizer sees a kernel leave its memory" * doctest::skip(!with_asan)) {
    OnDevice<float> x(std::vector<float>(64, 1)), y(64), shorter(63);
    auto reach = [&](float *from, float *to, long n) {
        return in_child([=] { launch(copy_views, 2, 64, 0, Views{from, to, 1}, n); });
    };
    CHECK(!reach(x.p, y.p, 64).died);
    CHECK(reach(x.p, y.p, 65).says("AddressSanitizer"));               // one number too many
    CHECK(reach(x.p, shorter.p, 64).says("AddressSanitizer"));
    device_use(x.p, 63 * sizeof(float));
    CHECK(reach(x.p, y.p, 64).says("AddressSanitizer"));
    CHECK(in_child([&] {                                               // freed, then read
              float *gone = static_cast<float *>(device_alloc(256));
              const Views views{gone, y.p, 0};
              device_free(gone);
              launch(copy_views, 1, 64, 0, Views{y.p, y.p, 64}, 64);
              emulated::Open open;
              y.p[0] = views.x[0];
          })
              .says("AddressSanitizer"));
    CHECK(!in_child([&] { launch(beyond_shared, 1, 64, 256, y.p); }).died);
    CHECK(in_child([&] { launch(beyond_shared, 1, 64, 252, y.p); }).says("AddressSanitizer"));
}

// ----------------------------------------------------------------------------------------- [6] what it costs
__global__ void wait_often(int times) {
    for (int i = 0; i < times; i++) barrier();
}
__global__ void sum_often(float *x, int times) {
    float sum = 0;
    for (int i = 0; i < times; i++) sum += block_sum(1.0f);
    if (threadIdx.x == 0) x[blockIdx.x] = sum;
}

double best_ns(double things, const std::function<void()> &act) {      // the best of five, per thing
    double best = INFINITY;
    for (int i = 0; i < 5; i++) {
        const auto start = std::chrono::steady_clock::now();
        act();
        const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
        best = std::min(best, took.count());
    }
    return best / things;
}

TEST_CASE_FIXTURE(Fixture, "emulator: what it costs (printed, not judged)") {
    OnDevice<float> x(16);
    printf("emulator: an empty thread %.1f ns, ",
           best_ns(64000, [] { launch(launch_nothing, 1000, 64, 0); }));
    printf("a barrier %.1f ns a thread, ", best_ns(64000, [] { launch(wait_often, 10, 64, 0, 100); }));
    printf("a block_sum %.1f ns a thread, ", best_ns(64000, [&] { launch(sum_often, 10, 64, 0, x.p, 100); }));
    printf("a launch %.0f ns\n", best_ns(100, [] {
               for (int i = 0; i < 100; i++) launch(launch_nothing, 1, 1, 0);
           }));
    CHECK(x.down()[0] == 6400);
}
}   // namespace
