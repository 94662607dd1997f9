// Fuzzing the proof checker: no crash, no time-out, and no accepted text that the second
// reading of the rules refuses.
//
// Built with clang's -fsanitize=fuzzer,address,undefined. As it is, inputs are valid proofs with one to three
// edits (the mutants of which some are still proofs: there a rule that is too liberal shows up). With
// -DRAW_BYTES libFuzzer's own mutations of plain bytes are used instead; with -DPLAIN it is a program of its
// own, without instruments and so much faster: `lean_mutants 1000000 SEED`. Counts are printed at the end.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "src/lean/lean.h"
#include "tests/lean/second_opinion.h"

static long texts, accepted, narrow;  // narrow: only the second reading accepts

static void print_counts() {
    fprintf(stderr, "texts %ld, accepted by both %ld, refused by the checker alone %ld\n", texts, accepted,
            narrow);
}

[[noreturn]] static void finding(const char *what, const std::string &source, const std::string &detail) {
    fprintf(stderr, "%s: %s\n----\n%s----\n", what, detail.c_str(), source.c_str());
    abort();
}

// What is kept of a text, checked again, ends in the state that was noted for it.
static void check_steps(lean::Checker &checker, const lean::Result &r, const std::string &source, bool nat) {
    std::string whole = r.header;
    for (const lean::Step &s : r.steps) whole += s.text;
    if (source.compare(0, whole.size(), whole) != 0)
        finding("steps are no prefix of the text", source, whole);
    size_t kept = 0;
    while (kept < r.steps.size() && r.steps[kept].sorries == 0) kept++;
    if (kept == 0) return;
    lean::Result again = checker.check(truncate(r), {nat, true});
    if (again.steps.size() != kept || again.steps.back().state_after() != r.steps[kept - 1].state_after())
        finding("the kept prefix has another state", source, again.error.print() + "\n" + truncate(r));
    lean::Result prompt = checker.check(resume_prompt(r), {nat, true});
    if (prompt.steps.size() != kept || prompt.error.code == lean::E_LEX)
        finding("the prompt to resume from is no legal text", source, prompt.error.print());
}

extern "C" int LLVMFuzzerInitialize(int *, char ***) {
    atexit(print_counts);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lean::Checker checker;
    std::string source(reinterpret_cast<const char *>(data), size), why;
    texts++;
    for (bool nat : {false, true}) {
        lean::Result r = checker.check(source, {nat, true});
        lean::Result verdict = checker.check(source, {nat, false});
        if (r.complete != verdict.complete || r.error.print() != verdict.error.print())
            finding("recording steps changes the verdict", source, verdict.error.print());
        if (r.complete && !second_opinion(source, nat, why))
            finding("accepted, but the second reading refuses", source, why);
        accepted += r.complete && nat;
        check_steps(checker, r, source, nat);
        if (nat && !r.pass && r.error.code != lean::E_LIMIT && size < 2000 &&
            second_opinion(source, nat, why)) {
            narrow++;
            if (getenv("SHOW_NARROW"))
                fprintf(stderr, "refused by the checker alone: %s\n%s", r.error.print().c_str(),
                        source.c_str());
        }
    }
    return 0;
}

#ifndef RAW_BYTES

#ifdef PLAIN
static size_t LLVMFuzzerMutate(uint8_t *, size_t size, size_t) { return size; }
#else
extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
#endif

static std::vector<std::string> split_lines(const std::string &s) {
    std::vector<std::string> lines;
    for (size_t i = 0; i < s.size();) {
        size_t end = std::min(s.find('\n', i), s.size() - 1) + 1;
        lines.push_back(s.substr(i, end - i));
        i = end;
    }
    return lines;
}

static const char *const vocabulary[] = {"h",
                                         "h1",
                                         "h2",
                                         "h3",
                                         "h4",
                                         "h5",
                                         "ih",
                                         "p",
                                         "q",
                                         "r",
                                         "a",
                                         "b",
                                         "n",
                                         "0",
                                         "1",
                                         "2",
                                         ".1",
                                         ".2",
                                         ".left",
                                         ".mp",
                                         "(",
                                         ")",
                                         "⟨",
                                         "⟩",
                                         ", ",
                                         " : ",
                                         " := ",
                                         " => ",
                                         " | ",
                                         "· ",
                                         " → ",
                                         " ∧ ",
                                         " ∨ ",
                                         "¬",
                                         " ↔ ",
                                         " + ",
                                         " * ",
                                         " = ",
                                         "[",
                                         "]",
                                         "← ",
                                         "True",
                                         "False",
                                         "intro ",
                                         "exact ",
                                         "apply ",
                                         "constructor",
                                         "left",
                                         "right",
                                         "exfalso",
                                         "assumption",
                                         "sorry",
                                         "rcases ",
                                         "obtain ",
                                         " with ",
                                         "have ",
                                         "cases ",
                                         "by",
                                         "inl ",
                                         "inr ",
                                         "fun ",
                                         "trivial",
                                         "True.intro",
                                         "And.intro ",
                                         "Or.inl ",
                                         "Or.inr ",
                                         "Iff.intro ",
                                         "False.elim ",
                                         "absurd ",
                                         "rfl",
                                         "rw [",
                                         "induction ",
                                         "zero",
                                         "succ ",
                                         "Nat.add_comm ",
                                         "Nat.mul_one ",
                                         " ",
                                         "  ",
                                         "\n",
                                         "\n  ",
                                         "\n    ",
                                         "/- c -/",
                                         " /- c -/",
                                         "-- c\n",
                                         "/-\n-/",
                                         "/- ∧\n  -/",
                                         "cases h1 with\n",
                                         "  | inl h =>\n    ",
                                         "  | inr h =>\n    ",
                                         "have h9 : p := by\n    ",
                                         "exact ⟨h1, h2⟩",
                                         "(fun h9 => h9)",
                                         "rcases h1 with ⟨h1, h9⟩\n  ",
                                         "rcases h1 with h1 | h1\n  ",
                                         "intro h9\n  ",
                                         "apply h1\n  "};

static void edit(std::string &s, Random &random) {
    std::vector<std::string> lines = split_lines(s);
    size_t at = s.empty() ? 0 : size_t(random.below(int(s.size())));
    size_t i = lines.empty() ? 0 : size_t(random.below(int(lines.size())));
    size_t j = lines.empty() ? 0 : size_t(random.below(int(lines.size())));
    const char *word = vocabulary[random.below(int(std::size(vocabulary)))];
    std::string out;
    switch (random.below(15)) {
    case 0: s.insert(at, word); return;
    case 1: s.erase(at, size_t(1 + random.below(4))); return;
    case 2: {      // one name for another
        size_t h = s.find('h', at);
        if (h != std::string::npos)
            s.replace(h, h + 1 < s.size() && isdigit(s[h + 1]) ? 2 : 1, vocabulary[random.below(7)]);
        return;
    }
    case 3: lines.erase(lines.begin() + long(i)); break;
    case 4: std::swap(lines[i], lines[j]); break;
    case 5: lines.insert(lines.begin() + long(i), lines[j]); break;
    case 6: lines[i].insert(0, size_t(1 + random.below(4)), ' '); break;
    case 7: lines[i].erase(0, std::min(lines[i].find_first_not_of(' '), size_t(1 + random.below(3)))); break;
    case 8: {      // a blank less
        size_t blank = s.find(' ', at);
        if (blank != std::string::npos) s.erase(blank, 1);
        return;
    }
    case 9: {      // a blank or comment more
        size_t blank = s.find(' ', at);
        if (blank != std::string::npos) s.insert(blank, random.chance(50) ? " " : "/- c -/");
        return;
    }
    case 10: lines.insert(lines.begin() + long(i), random.chance(50) ? "-- c\n" : "/-- c -/\n"); break;
    case 11:
        for (std::string &l : lines) l.insert(0, std::min(l.find_first_not_of(' '), l.size()), ' ');
        break;
    case 12:
        for (std::string &l : lines)
            if (l.ends_with('\n')) l.insert(l.size() - 1, "\r");
        break;
    case 13:
        if (s.ends_with('\n')) s.pop_back();
        return;
    default: {      // left for right, one symbol for another
        size_t space = s.find(' ', at), end = s.find_first_of(" \n", std::min(space, s.size() - 1) + 1);
        if (space != std::string::npos && end != std::string::npos)
            s.replace(space + 1, end - space - 1, word);
        return;
    }
    }
    for (const std::string &l : lines) out += l;
    s = out;
}

static std::string fresh_proof(Random &random) {
    static lean::Generator prop(1), nat(2, true);
    static std::vector<std::string> pool;
    if (pool.size() < 400) pool.push_back((random.chance(70) ? prop : nat).next().source);
    return pool[size_t(random.below(int(pool.size())))];
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    Random random{seed};
    std::string s(reinterpret_cast<char *>(data), size);
    if (random.chance(30) || s.size() < 20) s = fresh_proof(random);
    for (int edits = random.below(4); edits > 0 && s.size() > 10; edits--) edit(s, random);
    if (s.size() > max_size) s.resize(max_size);
    memcpy(data, s.data(), s.size());
    return random.chance(2) ? LLVMFuzzerMutate(data, s.size(), max_size) : s.size();
}

#ifdef PLAIN
int main(int argc, char **argv) {
    long n = argc > 1 ? atol(argv[1]) : 10000;
    Random seeds{argc > 2 ? strtoull(argv[2], nullptr, 10) : 1};
    std::vector<uint8_t> buffer(3000);
    size_t size = 0;
    LLVMFuzzerInitialize(nullptr, nullptr);
    for (long i = 0; i < n; i++) {
        if (i % 4 == 0) size = 0;  // edits pile up over four texts
        size = LLVMFuzzerCustomMutator(buffer.data(), size, buffer.size(), unsigned(seeds.next()));
        LLVMFuzzerTestOneInput(buffer.data(), size);
    }
}
#endif

#endif
