#!/usr/bin/env python3
"""The conventions of CONTRIBUTING.md that a machine can check. Prints file:line: what is wrong, and fails if anything
is. Formatting itself is clang-format's business (`make format`), and asked here where clang-format is installed.

    tests/tools/lint.py [--floors]       --floors prints instead which floor includes which, and how often
"""
import os
import re
import subprocess
import sys

from mutants import test_like

# Floors, lowest first, each with the floors directly below it. A file includes its own floor and lower ones; cpu and
# cuda do not know each other, text and lean know no tensors. src/NAME/ is floor NAME; the top level's files have one too.
BELOW = {'base': [], 'tensor': ['base'], 'cpu': ['tensor'], 'cuda': ['tensor'], 'text': ['base'], 'model': ['tensor'],
         'train': ['model', 'text'], 'infer': ['train'], 'rl': ['infer'], 'lean': ['base'], 'lab': ['rl', 'lean'],
         'cli': ['lab', 'cpu', 'cuda'], 'tests': ['cli']}
TOP = {'deepseek.h': 'model', 'deepseek.cpp': 'model', 'deepseek.cu': 'cuda', 'tokenizer.cpp': 'text',
       'train.cpp': 'train', 'infer.cpp': 'infer', 'presets.inc': 'model', 'labs.inc': 'lab', 'claims.inc': 'lab'}

# What code may not say: pattern, which files, why.
CODE = [
    (r'__shared__', r'\.cu$', '__shared__: kernels say SHARED(type, name)'),
    (r'__syncthreads', r'\.cu$', '__syncthreads: kernels say barrier()'),
    (r'__(exp|log|sin|cos|pow)f|__fdividef|\brsqrtf? *\(', r'(?<!cuda_on_cpu\.h)$', 'fast maths: another result on each device'),
    (r'atomic(Add|Sub|Max|Min|CAS|Exch)|atomic<(float|double|real)>', r'\.cu$', 'atomics: sums of numbers have a fixed order'),
    (r'#pragma omp(?!.*simd).*(atomic|reduction)', '', 'a sum whose order depends on the threads'),
    (r'\bgoto\b', '', 'goto'),
]
# What no text may say.
TEXTS = [
    (r'\b(TOD[O]|FIXM[E]|XX[X])\b', '', 'unfinished business belongs into an issue'),
    (r'(^|[^A-Za-z0-9_.])/(wor[k]|roo[t]|hom[e])/', '', 'a path of one machine'),
    (r'add_(option|flag)\( *"([^"]*,)?-[A-Za-z0-9][",]', r'^src/cli/', 'a single-letter option'),
    (r'^[^#]*(-use_fas[t]_math|-ff[a]st-math|-Of[a]st|-DNDE[B]UG)', r'CMakeLists|Makefile|\.sh$', 'fast maths, or no asserts'),
    (r'DESIG[N]\.md|contrac[t]\.md|styl[e]\.md', '', 'a document that readers do not have'),
]
# Words that a newcomer would not search for, in messages and in names of files.
WORDS = re.compile(r'\b(hou[s]e|doo[r]|twi[n]s?|what act[s])\b')
STORY = re.compile(r'^(src|tests)/text/stories|^tests/')     # there a door is a door

TOKENS = re.compile(r'''R"(\w*)\(.*?\)\1"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<!\w)'(?:\\.|[^'\\\n])+\'''', re.S)


def files():
    run = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], capture_output=True, text=True, check=True)
    return sorted(f for f in run.stdout.split() if os.path.isfile(f))


def is_code(path):
    return re.search(r'\.(cpp|h|cu)$', path) is not None


def floor_of(path):
    parts = path.split('/')
    return parts[1] if parts[0] == 'src' and len(parts) > 2 else 'tests' if parts[0] == 'tests' else TOP.get(path)


def reaches(floor):
    return {floor}.union(*(reaches(f) for f in BELOW[floor]))


def lines_of(text):
    return enumerate(text.split('\n'), 1)


def includes(text):
    for at, line in lines_of(text):
        if found := re.match(r'\s*#\s*include\s*"([^"]+)"', line):
            yield at, found[1]


def check_includes(path, text):
    mine = floor_of(path)
    if mine not in BELOW:
        yield 1, 'has no floor: a new folder of src/, or file of the top level, needs a place in BELOW or TOP of tests/tools/lint.py'
        return
    for at, header in includes(text):
        theirs = floor_of(header)
        if theirs not in BELOW:
            yield at, f'includes {header}, which has no floor; headers are named from the top: "src/base/error.h"'
        elif theirs not in reaches(mine):
            yield at, f'includes {header}: floor {mine} may not know floor {theirs}'


def check_code(path, text):
    strings = []

    def blank(token):
        if token[0][0] in '"R':
            strings.append((text.count('\n', 0, token.start()) + 1, token[0]))
        return re.sub(r'[^\n]', ' ', token[0])
    code = TOKENS.sub(blank, text)
    for at, line in lines_of(code):
        for pattern, where, why in CODE:
            if re.search(pattern, line) and re.search(where, path):
                yield at, why
    for at, string in strings:
        if not STORY.search(path) and (word := WORDS.search(string)):
            yield at, f'"{word[0]}" in a message: name what a newcomer would search for'


def check_lines(path, text):
    """Columns, tabs, and comments that a reflow has broken: a long line, then one or two words alone."""
    lines = text.split('\n')
    for at, line in enumerate(lines, 1):
        if len(line) > 110:
            yield at, f'a line of {len(line)} columns, more than 110'
        if '\t' in line:
            yield at, 'a tab'
        before = lines[at - 2] if at > 1 else ''
        comment = re.compile(r'\s*//\s*(\S+(\s+\S+)?)\s*$')
        if comment.match(line) and len(before) >= 90 and re.match(r'\s*// ?\S', before) and re.search(r'\w', line):
            yield at, 'one or two words alone after a long line of comment'


def check_texts(path, text):
    if WORDS.search(os.path.basename(path)):
        yield 1, 'the name of this file is not what a newcomer would search for'
    for at, line in lines_of(text):
        for pattern, where, why in TEXTS:
            if re.search(pattern, line) and re.search(where, path):
                yield at, why


def check_order():
    """The ops stand in the same order on both devices, so that a reader finds the other one."""
    for cpu, cuda in ('src/cpu/ops.cpp', 'deepseek.cu'), *((f'src/cpu/{f}.cpp', f'src/cuda/{f}.cu') for f in ('sequence', 'ops_no_grad')):
        order = [re.findall(fr'^void {device}::(\w+)_(?:forward|backward)\(', open(path, encoding='utf-8').read(), re.M)
                 for path, device in ((cpu, 'cpu'), (cuda, 'gpu'))]
        if order[0] != order[1]:
            at = next(i for i, pair in enumerate(zip(*(o + [''] for o in order))) if pair[0] != pair[1])
            yield cuda, 1, f'not the ops of {cpu} in their order: {(order[1] + ["nothing"])[at]} where {(order[0] + ["nothing"])[at]} should be'


def check_claims():
    """A claim that a test checks names one that there is. To doctest a comma begins another pattern."""
    claims, exists = 'data/labs/claims.txt', test_like()
    for at, line in lines_of(open(claims, encoding='utf-8').read()):
        for test in re.findall(r'^[^#]*\| test (.+)$', line):
            if ',' in test or not exists(test):
                yield claims, at, f'no test is called "{test}"'


def print_floors(sources):
    count = {}
    for path in sources:
        for _, header in includes(open(path, encoding='utf-8').read()):
            key = floor_of(path), floor_of(header)
            count[key] = count.get(key, 0) + 1
    known = [f for f in BELOW if f != 'tests' and any(f in key for key in count)]
    print(f'{"includes of":12}' + ''.join(f'{f:>8}' for f in known))
    for mine in known:
        cells = (count.get((mine, f), '.' if f in reaches(mine) else '') for f in known)
        print((f'{mine:12}' + ''.join(f'{cell:>8}' for cell in cells)).rstrip())


def main():
    listed = files()
    sources = [f for f in listed if is_code(f)]
    if '--floors' in sys.argv:
        return print_floors([f for f in sources if floor_of(f) != 'tests'])
    found = []
    texts = [f for f in listed if re.search(r'\.(cpp|h|cu|sh|py|md|txt|preset|lab)$|Makefile$', f)]
    for path in texts:
        text = open(path, encoding='utf-8').read()
        checks = [check_texts, check_includes, check_code, check_lines] if is_code(path) else [check_texts]
        found += [(path, *wrong) for check in checks for wrong in check(path, text)]
    found += [*check_order(), *check_claims()]
    for path, at, why in sorted(set(found)):
        print(f'{path}:{at}: {why}')
    print(f'lint: {len(sources)} files of code, {len(texts) - len(sources)} of text: {len(found) or "nothing"} found', flush=True)
    wrong = len(found) + subprocess.run(['tests/tools/mutants.py', '--list']).returncode
    formatted = subprocess.run(['tests/tools/format.sh', '--check']).returncode
    if formatted and not os.path.exists('build/venv-format/bin/clang-format'):
        print('lint: the formatting was not looked at: clang-format could not be installed')
        formatted = 0
    return wrong + formatted > 0


if __name__ == '__main__':
    sys.exit(main())
