// libFuzzer target: any bytes are JSON, or an Error; and what parses can be asked, written and read again.
#include <cstdlib>
#include <cstring>
#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/safetensors.h"

static void require(bool condition) {
    if (!condition) std::abort();
}

template <class Action> static void attempt(Action action) {
    try {
        action();
    } catch (const Error &error) {
        require(std::strchr(error.what(), '\n') == nullptr);
    }
}

static void ask(const JsonObject &object, const char *key) {
    attempt([&] {
        const long n = get_int(object, key, -10, 1000, 7);
        require(n >= -10 && n <= 1000);
    });
    attempt([&] {
        const double x = get_real(object, key, 0, 1e6, 0.5);
        require(x >= 0 && x <= 1e6);
    });
    attempt([&] { get_bool(object, key); });
    attempt([&] { get_string(object, key, "silu"); });
    attempt([&] { ask(get_object(object, key), key); });
    given(object, key);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    attempt([&] {
        const Json json = parse_json({reinterpret_cast<const char *>(data), size}, "fuzz");
        require(parse_json(dump_json(json), "fuzz, written") == json);
        const JsonObject object(json, "fuzz");
        for (const char *key : {"a", "rope_scaling", "hidden_size"}) ask(object, key);
    });
    return 0;
}
