// config.cpp: the fields of a configuration in one table, presets, what can be built, and
// the census of what it costs.
//
//   [1] the table of fields   [2] presets   [3] validation   [4] the census
#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <cstring>
#include <fstream>
#include <iomanip>

#include "src/model/config.h"
#include "src/model/weights.h"
#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/text.h"

// -------------------------------------------------------------------------------------------- [1] the fields
static std::string format(const std::vector<int> &ids) {
    std::string text;
    for (int id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
    return text.empty() ? "-1" : text;
}
static void parse(const std::string &text, std::vector<int> &ids) {     // "1,2"; -1: none
    std::vector<int> all;
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) parse(part, all.emplace_back());
    expect(!all.empty() && text.back() != ',', "'", text, "' is no list of whole numbers like 1,2");
    ids = all == std::vector<int>{-1} ? std::vector<int>{} : all;
}

template <class E> struct Names;                         // of an enum's values, in order
template <> struct Names<Attention> { static constexpr const char *list[] = {"MHA", "GQA", "MLA"}; };
template <> struct Names<Gate> { static constexpr const char *list[] = {"softmax", "sigmoid", "hash"}; };
template <> struct Names<Precision> { static constexpr const char *list[] = {"f32", "bf16"}; };
template <> struct Names<Scope> { static constexpr const char *list[] = {"sequence", "batch"}; };
template <> struct Names<Counted> { static constexpr const char *list[] = {"selected", "unbiased"}; };
template <> struct Names<RopePairing> {
    static constexpr const char *list[] = {"interleaved", "half_split"};
};
template <> struct Names<RopeScaling> {
    static constexpr const char *list[] = {"plain", "linear", "yarn", "llama3"};
};

template <class E>
    requires std::is_enum_v<E>
static std::string format(E x) {
    return Names<E>::list[(int)x];
}
template <class E>
    requires std::is_enum_v<E>
static void parse(const std::string &text, E &x) {
    std::string all;
    for (int i = 0; i < (int)std::size(Names<E>::list); i++) {
        if (text == Names<E>::list[i]) return void(x = (E)i);
        all += std::string(i ? ", " : "") + Names<E>::list[i];
    }
    fail("'" + text + "' is unknown", "one of " + all);
}

const std::vector<Field> &config_fields() {
#define FIELD(field, help)                                                   \
    {                                                                        \
        #field, help, [](const Config &c) { return format(c.field); },       \
            [](Config &c, const std::string &text) { parse(text, c.field); } \
    }
    static const std::vector<Field> fields = {
        FIELD(name, "what the model is called"),
        FIELD(attention, "MHA, GQA or MLA"),
        FIELD(V, "vocabulary"),
        FIELD(bos, "token that begins a text, -1 = none"),
        FIELD(eos, "tokens that end a text (1 or 1,2), -1 = none; documents end with the first"),
        FIELD(context, "longest sequence"),
        FIELD(d, "width of the residual stream"),
        FIELD(n_layers, "blocks"),
        FIELD(n_h, "query heads"),
        FIELD(n_kv, "key-value heads"),
        FIELD(d_h, "head width; MLA: of the content part"),
        FIELD(d_v, "width of a value head (MLA)"),
        FIELD(d_ff, "width of the dense feed-forward network"),
        FIELD(tied, "output head = embedding"),
        FIELD(scalar_head, "in its place one number a token: a critic"),
        FIELD(eps, "under RMSNorm's root"),
        FIELD(init_std, "standard deviation of all matrices at the start"),
        FIELD(bias_qkv, "linear maps to queries, keys and values add a bias"),
        FIELD(bias_o, "so does the attention's output map"),
        FIELD(bias_ffn, "so do the maps of the feed-forward network"),
        FIELD(d_c, "MLA: latent of keys and values"),
        FIELD(d_cq, "MLA: latent of queries, 0 = none"),
        FIELD(d_hR, "MLA: rotary part of a head"),
        FIELD(pairing, "rotary pairs: interleaved or half_split"),
        FIELD(theta, "base of the rotary frequencies"),
        FIELD(scaling, "of the rotary frequencies: plain, linear, yarn or llama3"),
        FIELD(factor, "context extension s"),
        FIELD(original, "context before the extension"),
        FIELD(beta_fast, "YaRN, Llama 3: turns above which nothing is interpolated"),
        FIELD(beta_slow, "YaRN, Llama 3: turns below which all is"),
        FIELD(mscale, "YaRN's temperature, 0 = not given"),
        FIELD(mscale_all_dim, "temperature of MLA's scores, 0 = not given"),
        FIELD(attention_factor, "YaRN: of cos and sin, 0 = not given"),
        FIELD(N_r, "routed experts, 0 = no mixture"),
        FIELD(N_s, "shared experts"),
        FIELD(K_r, "routed experts a token uses"),
        FIELD(d_e, "width of an expert"),
        FIELD(n_dense, "leading layers without experts"),
        FIELD(groups, "groups of experts (nodes)"),
        FIELD(M, "groups a token may use"),
        FIELD(group_best, "best scores that make a group's score"),
        FIELD(gate, "softmax, sigmoid, or hash: no gate, an expert by the token's id"),
        FIELD(norm_gates, "gates of the chosen sum to rho"),
        FIELD(rho, "routed scaling"),
        FIELD(selection_bias, "a bias helps to choose experts, and evens out their load without a loss"),
        FIELD(gamma, "speed of the selection bias"),
        FIELD(alpha, "weight of the expert-level balance loss"),
        FIELD(scope, "within which tokens that loss wants an even load: sequence or batch"),
        FIELD(alpha_dev, "weight of the device-level balance loss; groups are devices"),
        FIELD(alpha_comm, "weight of the communication balance loss"),
        FIELD(counted, "which choices the expert-level loss counts: selected or unbiased"),
        FIELD(capacity, "of a device in training, in average loads: what is more is dropped; 0 = nothing is"),
        FIELD(exempt, "share of the sequences whose choices are never dropped"),
        FIELD(D, "depth of multi-token prediction"),
        FIELD(lambda, "weight of its loss"),
        FIELD(linear, "of products with matrices: f32, or operands rounded to bf16"),
    };
#undef FIELD
    return fields;
}

static std::string trimmed(const std::string &text) {
    const size_t from = text.find_first_not_of(" \t\r"), to = text.find_last_not_of(" \t\r");
    return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

void set_field(Config &c, const std::string &assignment) {
    const size_t equals = assignment.find('=');
    expect(equals != std::string::npos, "'", assignment, "' is not of the form field=value");
    const std::string name = trimmed(assignment.substr(0, equals)),
                      value = trimmed(assignment.substr(equals + 1));
    std::vector<std::string> names;
    for (const Field &field : config_fields()) {
        names.push_back(field.name);
        if (name != field.name) continue;
        try {
            return field.set(c, value);
        } catch (const Error &e) {
            fail(name + ": " + e.what(),
                 e.hint.empty() ? std::string(field.name) + ": " + field.help : e.hint);
        }
    }
    fail("unknown field '" + name + "'", did_you_mean(name, names, "`deepseek config --list` shows all"));
}

// What a field is for, and whether the model has it.
static std::string purpose_missing(const Config &c, const std::string &field) {
    static const std::set<std::string>
        of_experts = {"N_s",       "K_r",        "d_e",     "n_dense",        "groups", "M",     "group_best",
                      "gate",      "norm_gates", "rho",     "selection_bias", "gamma",  "alpha", "scope",
                      "alpha_dev", "alpha_comm", "counted", "capacity",       "exempt"},
        of_latents = {"d_c", "d_cq", "d_hR"},
        of_scaling = {"factor", "original",       "beta_fast",       "beta_slow",
                      "mscale", "mscale_all_dim", "attention_factor"};
    if (c.N_r == 0 && of_experts.count(field)) return "the model has no experts";
    if (c.attention != Attention::MLA && of_latents.count(field)) return "its attention has no latents";
    if (c.scaling == rope_plain && of_scaling.count(field)) return "its rotary angles are plain";
    return c.D == 0 && field == "lambda" ? "it has no modules of MTP" : "";
}

std::string without_effect(const Config &c, const std::vector<std::string> &assignments) {
    std::string text;
    for (const std::string &assignment : assignments) {
        const std::string field = trimmed(assignment.substr(0, assignment.find('=')));
        const std::string why = purpose_missing(c, field);
        if (!why.empty()) text += cat(text.empty() ? "" : "; ", field, " has no effect: ", why);
    }
    return text;
}

std::string print_config(const Config &c) {
    std::ostringstream out;
    const Config usual;
    for (const Field &field : config_fields())
        if (field.get(c) != field.get(usual)) out << field.name << " = " << field.get(c) << "\n";
    return out.str();
}

// ----------------------------------------------------------------------------------------------- [2] presets
static const std::vector<std::pair<std::string, std::string>> presets = {
#include "presets.inc"                                   // made by CMake from data/presets
};

std::vector<std::string> preset_names() {
    std::vector<std::string> names;
    for (const auto &preset : presets) names.push_back(preset.first);
    return names;
}

static Config parse_preset(std::istream &lines, const std::string &from) {
    Config c;
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
        number++;
        line = trimmed(line.substr(0, line.find('#')));
        if (line.empty()) continue;
        try {
            set_field(c, line);
        } catch (const Error &e) {
            fail(cat(from, ":", number, ": ", e.what()), e.hint);
        }
    }
    validate(c);
    return c;
}

Config parse_config(const std::string &fields, const std::string &from) {
    std::istringstream lines(fields);
    return parse_preset(lines, from);
}

Config load_preset(const std::string &name) {
    for (const auto &preset : presets) {
        std::istringstream lines(preset.second);
        if (preset.first == name) return parse_preset(lines, name);
    }
    if (is_directory(name))
        fail("--preset " + name + ": is a folder, not a preset", "--init or --model takes a checkpoint");
    std::ifstream file(name);
    if (!file)
        fail("no preset or file '" + name + "'",
             did_you_mean(name, preset_names(), "`deepseek config --list` shows all"));
    std::istringstream lines(std::string(std::istreambuf_iterator<char>(file), {}));
    expect(lines.str().find('=') != std::string::npos, "--preset ", name, ": has no line field = value");
    return parse_preset(lines, name);
}

// -------------------------------------------------------------------------------------------- [3] validation
template <class N>
static void expect_between(const char *name, N x, std::type_identity_t<N> lo, std::type_identity_t<N> hi) {
    expect(x >= lo && x <= hi, name, " = ", x, " is not between ", lo, " and ", hi);
}

static void validate_sizes(const Config &c) {
    expect_between("V", c.V, 2, 1 << 24);
    expect_between("bos", c.bos, -1, c.V - 1);
    for (int id : c.eos) expect_between("eos", id, 0, c.V - 1);
    expect_between("context", c.context, 1, 1 << 24);
    expect_between("d", c.d, 1, 1 << 17);
    expect_between("n_layers", c.n_layers, 1, 4096);
    expect_between("n_h", c.n_h, 1, 4096);
    expect_between("n_kv", c.n_kv, 1, 4096);
    expect_between("d_h", c.d_h, 1, 1 << 14);
    expect_between("d_v", c.d_v, 1, 1 << 14);
    expect_between("d_ff", c.d_ff, 1, 1 << 20);
    expect_between("d_c", c.d_c, 1, 1 << 17);
    expect_between("d_cq", c.d_cq, 0, 1 << 17);
    expect_between("d_hR", c.d_hR, 2, 1 << 14);
    expect_between("N_r", c.N_r, 0, 1 << 16);
    expect_between("N_s", c.N_s, 0, 1024);
    expect_between("K_r", c.K_r, 1, 1 << 16);
    expect_between("d_e", c.d_e, 1, 1 << 20);
    expect_between("n_dense", c.n_dense, 0, 4096);
    expect_between("groups", c.groups, 1, 1 << 16);
    expect_between("M", c.M, 1, c.groups);
    expect_between("group_best", c.group_best, 1, 1 << 16);
    expect_between("D", c.D, 0, std::min(64, c.context - 1));       // module k sees T - k tokens
}

void validate(const Config &c) {
    validate_sizes(c);
    expect(c.name.find_first_of("#\r\n") == std::string::npos,
           "name: a line of a preset holds neither # nor a line break");
    expect_between("eps", c.eps, 0, 1);
    expect_between("init_std", c.init_std, 0, 100);
    expect_between("theta", c.theta, 1.0001, 1e12);
    expect_between("factor", c.factor, 1e-3, 1e6);
    expect_between("original", c.original, 1, 1e9);
    expect_between("beta_fast", c.beta_fast, 1e-6, 1e9);
    expect_between("beta_slow", c.beta_slow, 1e-6, 1e9);
    expect_between("mscale", c.mscale, 0, 1e3);
    expect_between("mscale_all_dim", c.mscale_all_dim, 0, 1e3);
    expect_between("attention_factor", c.attention_factor, 0, 1e3);
    expect_between("rho", c.rho, 1e-6, 1e6);
    expect_between("alpha", c.alpha, 0, 1e6);
    expect_between("alpha_dev", c.alpha_dev, 0, 1e6);
    expect_between("alpha_comm", c.alpha_comm, 0, 1e6);
    expect_between("capacity", c.capacity, 0, 1e6);
    expect_between("exempt", c.exempt, 0, 1);
    expect_between("gamma", c.gamma, 0, 1e6);
    expect_between("lambda", c.lambda, 0, 1e6);
    expect(!c.bias_ffn || !c.N_r, "bias_ffn: experts have no biases");
    if (c.attention == Attention::MLA) {
        expect(!c.bias_qkv && !c.bias_o, c.bias_o ? "bias_o" : "bias_qkv", ": MLA has no biases");
        expect(c.d_hR % 2 == 0, "d_hR = ", c.d_hR, " is odd: rotary channels come in pairs");
    } else {
        expect(c.n_h % c.n_kv == 0, "n_h = ", c.n_h, " is no multiple of n_kv = ", c.n_kv);
        expect(c.attention == Attention::GQA || c.n_h == c.n_kv, "MHA has n_kv = n_h, not ", c.n_kv, " and ",
               c.n_h);
        expect(c.d_h % 2 == 0, "d_h = ", c.d_h, " is odd: rotary channels come in pairs");
    }
    expect(c.scaling == RopeScaling::rope_plain || c.factor >= 1, "factor = ", c.factor,
           ": scaled positions reach further, by 1 or more");
    const bool ramp = c.scaling == RopeScaling::rope_yarn || c.scaling == RopeScaling::rope_llama3;
    expect(!ramp || c.beta_fast > c.beta_slow, "beta_fast = ", c.beta_fast,
           " is not above beta_slow = ", c.beta_slow);
    if (!c.N_r) return;
    expect(c.gate != Gate::hash || c.K_r == 1, "gate = hash: a token has one expert, not K_r = ", c.K_r);
    expect(c.N_r % c.groups == 0, "N_r = ", c.N_r, " experts do not fall into ", c.groups, " equal groups");
    expect(c.K_r <= c.N_r / c.groups * c.M, "K_r = ", c.K_r, " experts chosen of ", c.N_r / c.groups * c.M,
           " candidates");
    expect(c.groups == 1 || c.group_best <= c.N_r / c.groups, "group_best = ", c.group_best, " of ",
           c.N_r / c.groups, " experts in a group");
}

// -------------------------------------------------------------------------------------------- [4] the census
// One walk over the list of weights, nothing allocated. A token multiplies with all of a weight, but with
// only K_r of the N_r routed experts. MTP modules are counted apart, as the papers do.
static std::string part_of(const std::string &name) {
    const auto has = [&](const char *piece) { return name.find(piece) != std::string::npos; };
    if (name.starts_with("mtp.")) return "MTP modules";
    if (name == "Emb") return "embedding";
    if (name == "head") return "output head";
    if (has(".mla.") || has(".mha.")) return "attention";
    if (has(".shared.")) return "shared experts";
    if (has(".moe.W_")) return "routed experts";
    if (has(".moe.")) return "router";
    if (has(".ffn.")) return "dense FFN";
    return "norms";
}

Census census(const Config &c) {
    Census result;
    double trunk_matrices = 0;
    Model shapes;
    shapes.c = c;
    visit(shapes, [&](const std::string &name, Tensor &, const Spec &spec) {
        if (!trained(spec.group)) return;
        const std::string part = part_of(name);
        auto &parts = result.parts;
        auto at = std::find_if(parts.begin(), parts.end(), [&](const auto &p) { return p.name == part; });
        if (at == parts.end()) at = parts.insert(parts.end(), {part, 0, 0});
        const bool expert = spec.shape.rank == 3;
        const long used = expert ? spec.shape.numel() / c.N_r * c.K_r : spec.shape.numel();
        at->total += spec.shape.numel();
        at->activated += used;
        if (part == "MTP modules") {
            result.mtp += spec.shape.numel();
            return;
        }
        result.total += spec.shape.numel();
        result.activated += used;
        if (decays(spec.group) || (c.tied && part == "embedding")) trunk_matrices += used;
    });
    const bool mla = c.attention == Attention::MLA;
    result.cache_numbers = mla ? c.d_c + c.d_hR : 2l * c.n_kv * c.d_h;
    result.cache_numbers_MHA = 2l * c.n_h * c.d_h;
    const double pair =
        mla ? c.n_h * (c.d_h + c.d_hR + c.d_v) : 2.0 * c.n_h * c.d_h;  // of one query and one key
    result.flops_per_token = 6 * trunk_matrices + 6 * pair * c.n_layers * c.context;
    return result;
}

// A block of the paper's shape has 12 d^2 weights (4 of attention, 8 of the feed-forward network), each of
// which costs 6 FLOPs a token, forward and backward. M leaves out the vocabulary and counts all pairs of
// positions, causal or not.
double nominal_flops(int n_layers, int d, int l_seq) {
    return 72.0 * n_layers * d * d + 12.0 * n_layers * d * l_seq;                    // LLM (2)
}
double nominal_6N1(int n_layers, int d) { return 72.0 * n_layers * d * d; }          // LLM (2)
double nominal_6N2(int n_layers, int d, int V) { return nominal_6N1(n_layers, d) + 6.0 * V * d; }   // LLM (2)

std::string print_census(const Config &c) {
    const Census n = census(c);
    std::ostringstream out;
    out << std::left << std::setw(18) << c.name << std::right << std::setw(12) << "parameters"
        << std::setw(12) << "activated\n";
    for (const auto &part : n.parts)
        out << "  " << std::left << std::setw(16) << part.name << std::right << std::setw(12)
            << in_units(part.total) << std::setw(11) << in_units(part.activated) << "\n";
    out << "  " << std::left << std::setw(16) << (c.D ? "without MTP" : "all") << std::right << std::setw(12)
        << in_units(n.total) << std::setw(11) << in_units(n.activated) << "\n\n";
    out << "cache per token     " << n.cache_numbers << " numbers a layer, "
        << in_units(4.0 * n.cache_numbers * c.n_layers)
        << "B in float32;  MHA of this shape: " << n.cache_numbers_MHA << ", " << std::setprecision(3)
        << 100.0 * n.cache_numbers / n.cache_numbers_MHA << "% of it\n";
    out << "FLOPs per token     " << in_units(n.flops_per_token) << " forward and backward, at context "
        << c.context << ", causal attention not halved\n";
    return out.str();
}
