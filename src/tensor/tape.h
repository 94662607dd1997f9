// tape.h: apply, through which every op passes, and the tape that it leaves behind.
//
//     op wrapper  --apply-->  device: cpu | cuda | checked
//                    |
//                  tape     backward() walks it in reverse
//
// No closures: in a debugger, `print tape[17]` shows the call.
#pragma once
#include <functional>

#include "src/tensor/call.h"

struct Record {
    int op, n_in, n_out;
    Tensor in[max_inputs], out[max_outputs];
    int in_version[max_inputs], out_version[max_outputs];
    Attr a;
};
extern std::vector<Record> tape;                         // print tape[17]
extern bool recording;

// Puts a global (device, choices, op_hook) back when it goes:  const Restored keep(device);
template <class T> struct Restored {
    T &global;
    T before;
    explicit Restored(T &x) : global(x), before(x) {}
    ~Restored() { global = std::move(before); }
    Restored(const Restored &) = delete;
};
struct NoGrad {                                         // nothing is recorded while one of these lives
    bool before = recording;
    NoGrad() { recording = false; }
    ~NoGrad() { recording = before; }
};
struct TapeGuard {                                       // an exception before the backward clears the tape
    ~TapeGuard() { tape.clear(); }
};

void apply(int op, std::initializer_list<Tensor> in, std::initializer_list<Tensor> out, const Attr &a = {});
void backward(const Tensor &loss);                    // of a scalar: d loss = 1, then every record in reverse

// The integer outputs of ops without a gradient, kept or imposed: so two devices can
// be held to the same choices.
struct Choices {
    enum Mode { off, record, replay } mode = off;
    struct Choice {
        int op;
        std::vector<int> values;
    };
    std::vector<Choice> kept = {};
    size_t next = 0;
    long differing = 0;                                  // integers that replay found different
    std::string first_difference = {};                        // "topk, choice 17, entry 3: 5 instead of 2"
};
extern Choices choices;

// Called around every op, forwards and backwards: profiler, NaN trap and trace hang here.
struct OpHook { std::function<void(const Call &, bool backward, double seconds)> after; };
extern OpHook op_hook;
