// loss.cpp: `deepseek loss`: one objective of train.cpp, called from outside.
//
// The table [2] says of each what it reads, sets and answers; reading, checking and listing go by it.
//
//   [1] what an objective is given   [2] the objectives   [3] settings and tensors, checked   [4] the verb
#include <cmath>
#include <iostream>

#include "src/base/error.h"
#include "src/base/fields.h"
#include "src/base/json.h"
#include "src/base/text.h"
#include "src/cli/verbs.h"
#include "src/tensor/op_engine.h"
#include "src/tensor/tensors_out.h"
#include "src/train/objectives.h"

namespace {

// ------------------------------------------------------------------------- [1] what an objective is given
struct Setting {
    const char *name;
    double usual, low, high;
    const char *meaning;
    std::vector<std::string> words = {};                 // or one of these: the number says which
};
struct Kind { const char *name, *shape, *meaning; };     // of a tensor
const Kind kinds[] = {
    {"logp", "(B,T)", "log-probability of each token under the policy that learns"},
    {"logp_old", "(B,T)", "under the policy that sampled"},
    {"logp_ref", "(B,T)", "under the reference policy"},
    {"mask", "(B,T)", "1: the token counts; 0: prompt or padding, which may hold anything, NaN too"},
    {"reward", "(B)", "of each output; grpo also takes (B,T): of the step that ends at a token, else NaN"},
    {"group", "(B)", "integers from 0: the question that an output answers"},
    {"A", "(B,T)", "advantages, taken as they are; else made from the rewards"},
    {"values", "(B,T)", "what the critic expects before each token"},
    {"values_old", "(B,T)", "what it expected when the outputs were sampled"},
    {"returns", "(B,T)", "what the critic should have said; else A + values_old"},
    {"h", "(B,T,d)", "what the student's head reads where a token is to be predicted"},
    {"W", "(V,d)", "the student's head"},
    {"teacher_h", "(B,T,d')", "what the teacher's head reads there; of any width"},
    {"teacher_W", "(V,d')", "the teacher's head"},
};

const Kind &kind_named(const std::string &name) {
    return *std::find_if(std::begin(kinds), std::end(kinds), [&](const Kind &k) { return k.name == name; });
}

struct Given {
    std::map<std::string, Tensor> tensors;
    std::map<std::string, double> settings;
    TensorsOut *out;
    Tensor at(const std::string &name) const {
        const auto found = tensors.find(name);
        return found == tensors.end() ? Tensor() : found->second;
    }
    double operator[](const std::string &name) const { return settings.at(name); }
    Mask mask() const { return Mask(at("mask")); }
    Divisor divisor() const { return {(Length)(int)settings.at("length"), settings.at("L")}; }
    void need(const std::string &name, const std::string &why) const {
        expect(tensors.count(name), "no tensor '", name, "', which is needed ", why);
    }
};

struct Objective {
    const char *name, *says, *equations, *source, *reward, *coefficient, *formula;
    std::vector<std::string> inputs, outputs;            // `?` may be absent
    std::vector<Setting> settings;
    Tensor (*loss)(const Given &);
};

const Setting length = {
    "length", 0, 0, 2, "w = 1 / (B |o|), 1 / sum |o| or 1 / (B L)", {"sequence", "token", "constant"}};
const Setting L = {"L", 0, 0, 1e9, "with length=constant; 0: T"};
Setting beta(double usual, const char *meaning) { return {"beta", usual, 0, 1e6, meaning}; }
const Setting eps = {"eps", 0.2, 0, 1e6, "the ratio is clipped to 1 - eps .. 1 + eps"};

// ------------------------------------------------------------------------------------ [2] the objectives
Tensor loss_sft(const Given &g) { return sft(g.at("logp"), g.mask(), g.divisor()); }

Tensor loss_rft(const Given &g) { return sft(g.at("logp"), rewarded(g.mask(), g.at("reward")), g.divisor()); }

Tensor loss_dpo(const Given &g) {
    const Mask mask = g.mask();
    for (int i = 0; i < mask.B; i++) expect(mask.length(i), "mask: row ", i, " has no token that counts");
    return dpo(g.at("logp"), g.at("logp_ref"), mask, {g["beta"], g["length"] == 1});
}

// Advantages and returns: given, or from rewards and the values of that time.
Estimates estimates(const Given &g, const Mask &mask) {
    if (g.at("A")) {
        const Tensor A = g.at("A"), V = g.at("values_old");
        return {A, g.at("returns") || !V ? g.at("returns") : add(A, V)};
    }
    for (const char *name : {"reward", "values_old"}) g.need(name, "where there is no A");
    if (g["beta"] > 0) g.need("logp_ref", "with beta above 0");
    const Tensor r = token_rewards(g.at("reward"), g.at("logp_old"), g.at("logp_ref"), mask, g["beta"]);
    Estimates made = gae(r, g.at("values_old"), mask, g["gamma"], g["lambda"]);
    g.out->add("A", made.A);
    g.out->add("returns", made.returns);
    if (g.at("returns")) made.returns = g.at("returns");
    return made;
}

Tensor loss_ppo(const Given &g) {
    const Mask mask = g.mask();
    const Estimates made = estimates(g, mask);
    const Tensor loss = ppo(g.at("logp"), g.at("logp_old"), made.A, mask, {g["eps"], g.divisor()});
    if (!g.at("values")) return loss;
    expect(made.returns, "no tensor 'returns', nor values_old to make them of, for the critic's values");
    if (g["eps_v"] > 0) g.need("values_old", "with eps_v above 0");
    const Tensor of_critic =
        critic(g.at("values"), g.at("values_old"), made.returns, mask, g["eps_v"], g.divisor());
    return add(loss, times(of_critic, g["c_v"]));
}

Tensor advantages(const Given &g, const Mask &mask) {
    if (g.at("A")) return g.at("A");
    for (const char *name : {"reward", "group"}) g.need(name, "where there is no A");
    const bool process = g.at("reward").shape.rank == 2, by_spread = g["std"] == 0;
    const auto made = process ? process_advantages : outcome_advantages;
    const Tensor A = made(g.at("reward"), g.at("group"), mask, by_spread);
    g.out->add("A", A);
    return A;
}

Tensor loss_grpo(const Given &g) {
    const Mask mask = g.mask();
    if (g["beta"] > 0) g.need("logp_ref", "with beta above 0");
    const GRPO o = {g["eps"], g["beta"], g["delta"], (KL)(int)g["kl"], g.divisor()};
    return grpo(g.at("logp"), g.at("logp_old"), g.at("logp_ref"), advantages(g, mask), mask, o);
}

Tensor loss_distill(const Given &g) {
    const Distill o = {(Direction)(int)g["kl"], g["temperature"], g.divisor()};
    return distill(g.at("h"), g.at("W"), g.at("teacher_h"), g.at("teacher_W"), g.mask(), o);
}

const std::vector<Objective> objectives = {
    {"sft",
     "Supervised fine-tuning",
     "Math 6-7",
     "questions and outputs by people",
     "they chose them",
     "1",
     "-sum w logp",
     {"logp", "mask"},
     {"loss", "dlogp"},
     {length, L},
     loss_sft},
    {"rft",
     "Rejection-sampling fine-tuning: SFT on what was rewarded",
     "Math 8-11",
     "outputs of the SFT model, sampled once; online RFT: of the policy, again and again",
     "a rule",
     "1 if reward > 0, else 0",
     "-sum w logp, over outputs with reward > 0",
     {"logp", "mask", "reward"},
     {"loss", "dlogp"},
     {length, L},
     loss_rft},
    {"dpo",
     "Direct preference optimisation; rows 2i and 2i+1 are chosen and rejected",
     "Math 12-14",
     "pairs of outputs of the SFT model",
     "a rule or a preference",
     "beta sigmoid(-margin) for the chosen, - that for the rejected; length=sequence divides it by |o|",
     "-mean log sigmoid(margin), margin = beta (x_chosen - x_rejected), x = sum (logp - logp_ref)",
     {"logp", "logp_ref", "mask"},
     {"loss", "dlogp"},
     {beta(0.1, "how far a pair is to be pulled apart"),
      {"length", 0, 0, 1, "x as a sum, or divided by |o| as in Math (12)", {"none", "sequence"}}},
     loss_dpo},
    {"ppo",
     "Proximal policy optimisation with a critic",
     "Math 1-2, 15-18",
     "outputs of the policy",
     "a reward model, less beta times the distance from the reference, by token",
     "rho A, 0 where the clip binds; A by generalised advantage estimation",
     "-sum w min(rho A, clip(rho) A) + c_v sum w (values - returns)^2 / 2, rho = exp(logp - logp_old)",
     {"logp", "logp_old", "mask", "A?", "reward?", "logp_ref?", "values?", "values_old?", "returns?"},
     {"loss", "dlogp", "dvalues?", "A?", "returns?"},
     {eps,
      beta(0, "of the distance from the reference, in the reward"),
      {"gamma", 1, 0, 1, "discount"},
      {"lambda", 1, 0, 1, "of the advantage estimation"},
      {"eps_v", 0, 0, 1e6, "values are clipped to within eps_v of values_old; 0: not at all"},
      {"c_v", 1, 0, 1e6, "weight of the critic's loss"},
      length,
      L},
     loss_ppo},
    {"grpo",
     "Group relative policy optimisation",
     "Math 3-4, 19-21; V3.2 5-9",
     "a group of outputs of the policy for each question",
     "a reward model or a rule, by output or by step",
     "rho A (0 where clip or delta bind) + beta (pi_ref / pi - 1); unbiased: + beta rho log(pi_ref / pi)",
     "-sum w (min(rho A, clip(rho) A) - beta D), D = exp(x) - x - 1, x = logp_ref - logp; unbiased: rho D",
     {"logp", "logp_old", "mask", "logp_ref?", "A?", "reward?", "group?"},
     {"loss", "dlogp", "A?"},
     {eps,
      beta(0.04, "of the divergence from the reference; 0: logp_ref may be absent"),
      {"std", 0, 0, 1, "1: rewards less their group's mean are divided by its spread; 0: V3.2", {"1", "0"}},
      {"kl", 0, 0, 1, "k3: Math (4); unbiased: times rho, V3.2 (7)", {"k3", "unbiased"}},
      length,
      L,
      {"delta", 0, 0, 1e6, "A < 0 is 0 in outputs left behind by more, V3.2 (9); 0: none are"}},
     loss_grpo},
    {"distill",
     "Distillation from a teacher's whole distributions",
     "reverse: V4, on-policy distillation",
     "any outputs; reverse: of the student",
     "none: the teacher's distribution",
     "p of every id, not only of the token; reverse: q log(p / q)",
     "sum w KL(p | q), q = softmax(h W^T / temperature), p the teacher's; reverse: KL(q | p)",
     {"h", "W", "teacher_h", "teacher_W", "mask"},
     {"loss", "dh", "dW"},
     {{"kl", 0, 0, 1, "KL(teacher | student), or KL(student | teacher)", {"forward", "reverse"}},
      {"temperature", 1, 0.01, 100, "of both; the loss has no temperature^2"},
      length,
      L},
     loss_distill},
};

// ---------------------------------------------------------------------- [3] settings and tensors, checked
std::string bare(const std::string &name) { return name.substr(0, name.find('?')); }

double read_setting(const Setting &s, const std::string &assignment, const std::string &text) {
    if (s.words.size()) {
        const auto at = std::find(s.words.begin(), s.words.end(), text);
        std::string all;
        for (const std::string &word : s.words) all += (all.empty() ? "" : ", ") + word;
        if (at == s.words.end())
            fail("--set " + assignment + ": not one of " + all, did_you_mean(text, s.words));
        return (double)(at - s.words.begin());
    }
    double x = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
    expect(error == std::errc() && end == text.data() + text.size(), "--set ", assignment, ": '", text,
           "' is no number");
    expect(x >= s.low && x <= s.high, "--set ", assignment, ": not between ", format(s.low), " and ",
           format(s.high));
    return x;
}

std::map<std::string, double> settings_of(const Objective &o, const std::vector<std::string> &set) {
    std::map<std::string, double> settings;
    std::vector<std::string> names;
    for (const Setting &s : o.settings) {
        settings[s.name] = s.usual;
        names.push_back(s.name);
    }
    for (const std::string &assignment : set) {
        const size_t equals = assignment.find('=');
        expect(equals != std::string::npos, "--set ", assignment, ": not of the form name=value");
        const std::string name = assignment.substr(0, equals);
        const auto at = std::find(names.begin(), names.end(), name);
        if (at == names.end())
            fail(cat("--set ", name, ": unknown setting of ", o.name),
                 did_you_mean(name, names, "`deepseek loss --list` shows all"));
        settings[name] =
            read_setting(o.settings[at - names.begin()], assignment, assignment.substr(equals + 1));
    }
    return settings;
}

// The size that a letter stands for is that of the first tensor that has it.
using Sizes = std::map<std::string, int>;
std::vector<std::string> letters_of(const std::string &name, const Tensor &t) {
    std::string shape = kind_named(name).shape;
    if (name == "reward" && t.shape.rank == 2) shape = "(B,T)";      // of steps
    std::vector<std::string> letters;
    std::istringstream text(shape.substr(1, shape.size() - 2));
    for (std::string letter; std::getline(text, letter, ',');) letters.push_back(letter);
    return letters;
}

std::string shown(const std::vector<std::string> &letters, const Sizes &sizes) {
    std::string text;
    for (const std::string &letter : letters)
        text += (text.empty() ? "(" : ",") + (sizes.count(letter) ? cat(sizes.at(letter)) : letter);
    return text + ")";
}

void check_shape(const Objective &o, const std::string &name, const Tensor &t, Sizes &sizes) {
    expect(t.s->type == (name == "group" ? INTS : REALS), name, " holds ",
           t.s->type == INTS ? "integers, not numbers" : "numbers, not integers");
    const bool may_be_steps = name == "reward" && o.loss == loss_grpo;
    const std::vector<std::string> letters = letters_of(name, t);
    bool fits =
        (int)letters.size() == t.shape.rank && (name != "reward" || t.shape.rank == 1 || may_be_steps);
    for (int i = 0; fits && i < t.shape.rank; i++)
        fits = !sizes.count(letters[i]) || sizes[letters[i]] == t.shape[i];
    expect(fits, name, " ", t.shape, " is not ",
           name == "reward" ? shown({"B"}, sizes) : shown(letters, sizes),
           may_be_steps ? " or " + shown({"B", "T"}, sizes) : "");
    for (int i = 0; i < t.shape.rank; i++) sizes[letters[i]] = t.shape[i];
}

// Where the mask is 0, anything may stand; where it is 1, a number. A step's reward may be absent.
void check_numbers(const std::string &name, const Tensor &t, const Mask &mask) {
    if (name == "mask") return;
    if (t.s->type == INTS) {
        for (int x : int_values(t)) expect(x >= 0, name, ": ", x, " is negative");
        return;
    }
    const std::vector<real> v = values(t);
    const std::vector<std::string> letters = letters_of(name, t);
    const bool by_token = std::count(letters.begin(), letters.end(), "T");
    const size_t width = by_token ? v.size() / mask.on.size() : 1;       // numbers of a token
    for (size_t j = 0; j < v.size(); j++) {
        const size_t place = j / width;
        if (std::isfinite(v[j]) || (by_token && (!mask.on[place] || (name == "reward" && std::isnan(v[j])))))
            continue;
        fail(cat(name, ": ", v[j], " at [", by_token ? cat(place / mask.T, ",", place % mask.T) : cat(place),
                 "]", by_token ? ", where mask is 1" : ""));
    }
}

// What another objective reads may be in the file; what none reads is a misspelt name.
std::map<std::string, Tensor> read_tensors(const Objective &o, const std::string &in) {
    const Safetensors file = read_safetensors(in);
    std::vector<std::string> known;
    for (const Kind &kind : kinds) known.push_back(kind.name);
    for (const auto &[name, entry] : file.tensors)
        if (!std::count(known.begin(), known.end(), name))
            fail(cat(in, ": tensor '", name, "' is unknown to every objective"),
                 did_you_mean(name, known, "`deepseek loss --list` shows all"));
    std::map<std::string, Tensor> tensors;
    Sizes sizes;
    for (const std::string &input : o.inputs) {
        const auto at = file.tensors.find(bare(input));
        expect(at != file.tensors.end() || input.back() == '?', in, ": no tensor '", input, "', which ",
               o.name, " needs");
        if (at == file.tensors.end()) continue;
        const Tensor t = tensors[bare(input)] = tensor_of(at->second, kind_named(bare(input)).name);
        check_shape(o, bare(input), t, sizes);
    }
    const Mask mask(tensors["mask"]);
    expect(std::count(mask.on.begin(), mask.on.end(), 1), "mask: is 0 everywhere, no token counts");
    for (const auto &[name, t] : tensors) check_numbers(name, t, mask);
    if (o.loss == loss_dpo)
        expect(mask.B % 2 == 0, "logp ", tensors["logp"].shape,
               ": an odd number of rows is no pairs of chosen and rejected");
    return tensors;
}

void run_loss(const Objective &o, const std::string &in, const std::string &out,
              const std::vector<std::string> &set) {
    TensorsOut result;
    Given given = {{}, settings_of(o, set), &result};
    given.tensors = read_tensors(o, in);
    std::vector<std::string> leaves;
    for (const std::string &output : o.outputs)          // d + name
        if (given.at(bare(output).substr(1))) leaves.push_back(bare(output).substr(1));
    for (const std::string &leaf : leaves) {
        wants_grad(given.at(leaf));
        gradient(given.at(leaf));                        // zero, if nothing flows in
    }
    const Tensor loss = o.loss(given);
    backward(loss);
    result.add("loss", loss);
    for (const std::string &leaf : leaves) result.add("d" + leaf, gradient(given.at(leaf)));
    write_safetensors(out, result.tensors);
}

// ------------------------------------------------------------------------------------------- [4] the verb
std::string words(const std::vector<std::string> &list) {
    std::string text;
    for (const std::string &word : list) text += (text.empty() ? "" : " ") + word;
    return text;
}

std::string usual(const Setting &s) { return s.words.empty() ? format(s.usual) : s.words[(int)s.usual]; }

void print(const Objective &o) {
    std::cout << o.name << "   " << o.says << "   (" << o.equations << ")\n    " << words(o.inputs) << " -> "
              << words(o.outputs) << "\n    loss    " << o.formula << "\n    GC      " << o.coefficient
              << "\n    source  " << o.source << "\n    reward  " << o.reward << "\n";
    for (const Setting &s : o.settings) {
        std::string choices;
        for (const std::string &word : s.words) choices += (choices.empty() ? "  (" : "|") + word;
        const std::string text = cat("    --set ", s.name, "=", usual(s));
        std::cout << text << std::string(text.size() < 28 ? 28 - text.size() : 1, ' ') << s.meaning << choices
                  << (choices.empty() ? "" : ")") << "\n";
    }
}

Json json_of(const Objective &o) {
    Json entry = {{"name", o.name},          {"sentence", o.says}, {"equations", o.equations},
                  {"data_source", o.source}, {"reward", o.reward}, {"gradient_coefficient", o.coefficient},
                  {"formula", o.formula}};
    for (const char *key : {"inputs", "optional", "outputs", "settings"}) entry[key] = Json::array();
    for (const std::string &input : o.inputs) {
        entry["inputs"].push_back(bare(input));
        if (input.back() == '?') entry["optional"].push_back(bare(input));
    }
    for (const std::string &output : o.outputs) entry["outputs"].push_back(bare(output));
    for (const Kind &kind : kinds)
        for (const std::string &input : o.inputs)
            if (bare(input) == kind.name) entry["shapes"][kind.name] = kind.shape;
    for (const Setting &s : o.settings) {
        Json setting = {{"name", s.name}, {"meaning", s.meaning}};
        if (s.words.empty()) setting.update({{"default", s.usual}, {"low", s.low}, {"high", s.high}});
        else setting.update({{"default", usual(s)}, {"choices", s.words}});
        entry["settings"].push_back(setting);
    }
    return entry;
}

void list_objectives(bool json) {
    Json all = Json::array();
    for (const Objective &o : objectives) {
        if (json) all.push_back(json_of(o));
        else print(o);
    }
    if (json) return void(std::cout << dump_json(all) << "\n");
    std::cout
        << "\nAll have grad(-loss) = sum w GC grad logp, summed over what the mask lets count, and in "
           "distill over all ids;\nw says length. ? may be absent. d + name is a gradient. Ratios are held "
           "within e^-20 and e^20.\n\n";
    for (const Kind &kind : kinds)
        std::cout << "    " << kind.name << std::string(12 - strlen(kind.name), ' ') << kind.shape << "  "
                  << kind.meaning << "\n";
}

const Objective &objective_named(const std::string &name) {
    std::vector<std::string> names;
    for (const Objective &o : objectives) {
        if (name == o.name) return o;
        names.push_back(o.name);
    }
    fail("no objective '" + name + "'", did_you_mean(name, names, "`deepseek loss --list` shows all"));
}

struct LossVerb {
    std::string which, in, out;
    std::vector<std::string> set;
    bool list = false, json = false;
    Common common;

    void options(CLI::App &v) {
        const auto name = v.add_option("NAME", which, "which objective");
        v.add_flag("--list", list,
                   "show all: inputs, outputs, formula, data source, reward, coefficient, settings")
            ->excludes(name);
        v.add_flag("--json", json, "the list as JSON")->needs("--list");
        v.add_option("--in", in, "safetensors with the inputs by name");
        v.add_option("--out", out, "loss (1), the gradients and what else it makes");
        v.add_option("--set", set, "setting=value (repeatable)")->allow_extra_args(false);
    }
    void run() const {
        if (which.empty()) {
            if (!list) fail("loss: of which objective?", "`deepseek loss --list` shows all");
            return list_objectives(json);
        }
        const Objective &o = objective_named(which);
        expect(!in.empty() && !out.empty(), "loss ", o.name, ": --in and --out are needed");
        expect_replaceable(out, {in});
        run_loss(o, in, out, set);
    }
};
}  // namespace

void add_loss(CLI::App &program) {
    add_verb<LossVerb>(
        program, "loss", "An objective of learning from outputs, with its gradient",
        "deepseek loss --list\n"
        "  deepseek loss grpo --in x.safetensors --out y.safetensors --set eps=0.2 --set std=0");
}
