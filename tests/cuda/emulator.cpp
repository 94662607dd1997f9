// Tests of src/cuda/cuda_on_cpu.h itself: do the words mean what they mean on a GPU, and does it notice the
// mistakes it exists for? What must end in abort() runs in a forked child, whose last words are compared.
// Build alone with -DEMULATOR_STANDALONE, or as one file of a larger doctest binary.
//
//   [1] helpers   [2] the words   [3] mistakes that orders show   [4] mistakes that are reported   [5] memory
//   [6] what it costs
#ifdef EMULATOR_STANDALONE
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#endif
#include "src/cuda/cuda_on_cpu.h"
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

template <class T> struct OnDevice {                   // n numbers on the device
    T *p;
    size_t n;
    explicit OnDevice(size_t n) : p(static_cast<T *>(device_alloc(n * sizeof(T)))), n(n) {}
    explicit OnDevice(const std::vector<T> &v) : OnDevice(v.size()) { copy_up(p, v.data(), n * sizeof(T)); }
    ~OnDevice() { device_free(p); }
    OnDevice(const OnDevice &) = delete;
    std::vector<T> down() const {
        std::vector<T> v(n);
        copy_down(v.data(), p, n * sizeof(T));
        return v;
    }
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

__device__ int thread_number() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

// --------------------------------------------------------------------------------------------- [2] the words
__global__ void visit(int *visits, int *seen) {
    const int threads = blockDim.x * blockDim.y * blockDim.z;
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    atomic_add(&visits[block * threads + thread_number()], 1);
    barrier();
    if (block == 0) seen[thread_number()] = 100 * threadIdx.z + 10 * threadIdx.y + threadIdx.x;
}

TEST_CASE_FIXTURE(Fixture, "emulator: every thread of every block runs once, in every order") {
    for (auto order : orders)
        for (unsigned blocks : {1u, 2u, 3u, 7u}) {
            emulator.order = order;
            OnDevice<int> visits(std::vector<int>(blocks * 3 * 2 * 12)), seen(12);
            launch(visit, dim3(blocks, 3, 2), dim3(3, 2, 2), 0, visits.p, seen.p);
            CHECK(visits.down() == std::vector<int>(blocks * 3 * 2 * 12, 1));
            CHECK(seen.down() == std::vector<int>{0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112});
        }
}

TEST_CASE_FIXTURE(Fixture, "emulator: an empty grid runs nothing") {
    OnDevice<int> visits(std::vector<int>(1)), seen(1);
    launch(visit, 0, 1, 0, visits.p, seen.p);
    launch(visit, dim3(1, 0, 1), 1, 0, visits.p, seen.p);
    CHECK(visits.down()[0] == 0);
    CHECK(emulator.launches == 0);
}

template <class T> __global__ void reduce_all(const T *x, T *sums, T *maxima) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int round = 0; round < 3; round++) {          // one after another: no reduction may disturb the next
        sums[i] = block_sum(x[i]);
        maxima[i] = block_max(x[i]);
    }
}

template <class T> void check_reductions(int threads) {
    const int blocks = 5;
    std::vector<T> x(blocks * threads);
    for (size_t i = 0; i < x.size(); i++) x[i] = T(int(i * 7919 % 1000) - 700) / T(8);     // sums are exact
    std::vector<T> sums, maxima;
    for (int b = 0; b < blocks; b++) {
        const T *row = &x[b * threads];
        sums.insert(sums.end(), threads, std::accumulate(row, row + threads, T(0)));
        maxima.insert(maxima.end(), threads, *std::max_element(row, row + threads));
    }
    for (auto order : orders) {
        emulator.order = order;
        OnDevice<T> in(x), sum(x.size()), maximum(x.size());
        launch(reduce_all<T>, blocks, threads, 0, in.p, sum.p, maximum.p);
        CHECK(sum.down() == sums);
        CHECK(maximum.down() == maxima);
    }
}

TEST_CASE_FIXTURE(Fixture, "emulator: block_sum and block_max give every thread one number, in every order") {
    for (int threads : {32, 64, 96, 1024}) {
        check_reductions<float>(threads);
        check_reductions<double>(threads);
        check_reductions<int>(threads);
    }
}

TEST_CASE_FIXTURE(Fixture, "emulator: block_sum adds as a GPU's butterfly does, to the bit, in every order") {
    const int threads = 96;
    std::vector<float> x(threads);
    for (int i = 0; i < threads; i++) x[i] = std::sin(i + 1.0f) * float(1 << i % 20);
    auto butterfly = [](std::vector<float> v) {        // as lane 0 of a warp of shuffles sees it
        for (int k = 16; k > 0; k /= 2) {
            const std::vector<float> old = v;
            for (int i = 0; i < 32; i++) v[i] = old[i] + old[i ^ k];
        }
        return v[0];
    };
    std::vector<float> warps(32, 0);
    for (int w = 0; w < 3; w++) warps[w] = butterfly({&x[32 * w], &x[32 * w] + 32});
    const float expected = butterfly(warps);
    CHECK(expected != std::accumulate(x.begin(), x.end(), 0.0f));      // the data can tell orders apart
    for (auto order : orders) {
        emulator.order = order;
        OnDevice<float> in(x), sum(threads), maximum(threads);
        launch(reduce_all<float>, 1, threads, 0, in.p, sum.p, maximum.p);
        CHECK(sum.down() == std::vector<float>(threads, expected));
    }
}

TEST_CASE_FIXTURE(Fixture, "emulator: one NaN makes the maximum NaN, wherever it is; -inf is a maximum") {
    for (int at : {0, 5, 31, 32, 63}) {
        std::vector<float> x(64, 1);
        x[at] = NAN;
        OnDevice<float> in(x), sum(64), maximum(64);
        launch(reduce_all<float>, 1, 64, 0, in.p, sum.p, maximum.p);
        for (float m : maximum.down()) CHECK(std::isnan(m));
    }
    OnDevice<float> in(std::vector<float>(64, -INFINITY)), sum(64), maximum(64);
    launch(reduce_all<float>, 1, 64, 0, in.p, sum.p, maximum.p);
    CHECK(maximum.down() == std::vector<float>(64, -INFINITY));
}

__global__ void warp_words(int *out) {                 // five answers a thread
    const int t = threadIdx.x;
    int *mine = out + 5 * t;
    for (int round = 0; round < 2; round++) {
        mine[0] = warp_sum(t);
        mine[1] = warp_max(t);
        mine[2] = shuffle(t, 3);
        mine[3] = shuffle_down(t, 4);
        mine[4] = shuffle_xor(t, 5);
        if (t >= 32) mine[0] = warp_sum(t);            // a whole warp may do more than another
    }
}

TEST_CASE_FIXTURE(Fixture, "emulator: the warp's words stay in their warp, and give what a GPU gives") {
    for (auto order : orders) {
        emulator.order = order;
        OnDevice<int> out(5 * 64);
        launch(warp_words, 1, 64, 0, out.p);
        const auto v = out.down();
        for (int t = 0; t < 64; t++) {
            const int base = t / 32 * 32, lane = t % 32;
            CHECK(v[5 * t] == 32 * base + 31 * 16);
            CHECK(v[5 * t + 1] == base + 31);
            CHECK(v[5 * t + 2] == base + 3);
            CHECK(v[5 * t + 3] == (lane + 4 < 32 ? t + 4 : t));        // beyond the warp: one's own
            CHECK(v[5 * t + 4] == (t ^ 5));
        }
    }
}

TEST_CASE("emulator: min and max take CUDA's mixtures of types") {
    static_assert(std::is_same_v<decltype(min(1, 2u)), unsigned>);
    static_assert(std::is_same_v<decltype(max(1L, 2L)), long>);
    static_assert(std::is_same_v<decltype(max(1.0f, 2.0)), double>);
    CHECK(min(3, -2) == -2);
    CHECK(max(3u, 5) == 5u);
    CHECK(max(NAN, 1.0f) == 1.0f);                     // CUDA's are fmin and fmax: NaN loses
    CHECK(min(2.0, 1.5f) == 1.5);
}

__global__ void launch_nothing() {}
__global__ void wait_twice() {
    barrier();
    barrier();
}

TEST_CASE_FIXTURE(Fixture, "emulator: stacks are kept, and threads that never wait have none") {
    const size_t before = emulated::machine.fibers.size();
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
              OnDevice<int> x(48);
              launch(reduce_all<int>, 1, 48, 0, x.p, x.p, x.p);
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

TEST_CASE_FIXTURE(Fixture, "emulator: copies, zeros, partial use, and a device that is full") {
    OnDevice<int> a(std::vector<int>{1, 2, 3, 4}), b(4);
    copy_device(b.p, a.p, 16);
    device_zero(b.p + 1, 8);
    CHECK(b.down() == std::vector<int>{1, 0, 0, 4});
    CHECK(device_owns(a.p, 16));
    CHECK(device_owns(a.p + 2, 8));
    CHECK(!device_owns(a.p + 2, 12));
    device_use(a.p, 8);
    CHECK(!device_owns(a.p, 16));
    device_use(a.p, 16);
    CHECK(a.down() == std::vector<int>{1, 2, 3, 4});
    CHECK(device_alloc(size_t(1) << 60) == nullptr);
    CHECK(aligned(a.p, 256));
    void *nothing = device_alloc(0);
    CHECK(nothing != nullptr);
    device_free(nothing);
    device_free(nullptr);
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
