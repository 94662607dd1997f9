#!/usr/bin/env python3
"""Are the pages true? Of README.md, CONTRIBUTING.md and notebooks/*.md (LOG.md is a diary: what it says was true then):
every file they name exists, every `make TARGET` is one, and every `deepseek VERB --option` has that verb and option.
README's equations stand in deepseek.cpp under their tags; its section "Using it" is run, line by line, with two steps
for each training. NAME and NN in a path stand for any. notebooks/SCOREBOARD.md is what `deepseek lab --scoreboard` says.

    tests/tools/pages.py BINARY
"""
import glob
import os
import re
import shlex
import subprocess
import sys
import tempfile

NOT_RUN = {'bench': 'takes minutes', 'chat': 'talks to a terminal', 'map': 'reads the sources'}
PROOF = open('tests/fuzz/seeds/lean_bytes/theorem1.lean', encoding='utf-8').read()
wrong = []


def said(*command, **more):
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **more)
    return run.returncode, run.stdout + run.stderr


def code_of(page):
    """(line number, text) of every code block's lines and every `span`."""
    fenced = False
    for at, line in enumerate(open(page, encoding='utf-8'), 1):
        if line.startswith('```'):
            fenced = not fenced
        elif fenced or line.startswith('    '):
            yield at, line.strip()
        else:
            yield from ((at, span) for span in re.findall(r'`([^`]+)`', line))


def check_page(page, binary, targets, helps):
    checked = 0
    for at, line in enumerate(open(page, encoding='utf-8'), 1):
        for path in re.findall(r'(?<![\w./-])(?:src|tests|data|notebooks)/[\w./*-]*[\w/*]', line):
            checked += 1
            if not glob.glob(path) and path != 'notebooks/MAP.md' and not re.search('NAME|NN_', path):
                wrong.append(f'{page}:{at}: no file {path}')
    for at, text in code_of(page):
        for target in re.findall(r'(?:^|&& |\| )make ([a-z][a-z-]*)', text):
            checked += 1
            if target not in targets:
                wrong.append(f'{page}:{at}: no target {target} in the Makefile')
        for verb, rest in re.findall(r'(?:^|[ /])deepseek ([a-z]+)((?: [^|#&;]*)?)', text):
            checked += 1
            words = (verb, *re.findall(r'^ ([a-z]+)\b(?!\.)', rest))      # scaling plan
            if words not in helps:
                helps[words] = said(binary, *words, '--help')
            if helps[words][0] != 0:
                wrong.append(f'{page}:{at}: no verb {verb}')
                continue
            for option in re.findall(r'(?<!\S)--[a-z][a-z0-9-]*', rest):
                if not re.search(re.escape(option) + r'(?![a-z-])', helps[words][1]):
                    wrong.append(f'{page}:{at}: deepseek {verb} has no option {option}')
    return checked


def check_equations():
    """README's table of equations: each stands in deepseek.cpp, under its tag."""
    sources = open('deepseek.cpp', encoding='utf-8').read().split('\n')
    rows = re.findall(r'^\|.*\| `(?:\w+ = |return )(.*)` \| (\w+ \(\d+\)) \|$', open('README.md', encoding='utf-8').read(), re.M)
    for code, tag in rows:
        if not any(code in line and '// ' + tag in line for line in sources):
            wrong.append(f'README.md: deepseek.cpp has no line {code} with the tag {tag}')
    if not rows:
        wrong.append('README.md: no table of equations')


def run_usage(binary):
    """README's "Using it", in a folder of its own."""
    section = re.search(r'\n## Using it\n(.*?)\n## ', open('README.md', encoding='utf-8').read(), re.S)[1]
    ran = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, text in ('any-text-file.txt', open('README.md', encoding='utf-8').read() * 9), ('proof.lean', PROOF):
            open(os.path.join(folder, name), 'w', encoding='utf-8').write(text)
        for line in re.findall(r'^    \./deepseek (.*)', section, re.M):
            words = shlex.split(line, comments=True)
            if words[0] in NOT_RUN:
                continue
            if words[0] == 'train':
                words = [w for i, w in enumerate(words) if '--steps' not in (w, words[i - 1])] + ['--steps', '2']
            ran += 1
            status, text = said(binary, *words, cwd=folder, env={**os.environ, 'XDG_CACHE_HOME': folder})
            if status != 0:
                wrong.append(f'README.md: deepseek {shlex.join(words)}: exit code {status}: {text.strip()[-300:]}')
    return ran


def check_scoreboard(binary):
    status, text = said(binary, 'lab', '--scoreboard')
    if status != 0:
        wrong.append(f'notebooks/SCOREBOARD.md: {text.strip()}')
    elif text != open('notebooks/SCOREBOARD.md', encoding='utf-8').read():
        wrong.append('notebooks/SCOREBOARD.md: is not what claims and results say: make scoreboard')


def main():
    binary = os.path.abspath(sys.argv[1])
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..'))
    targets = set(re.findall(r'^([a-z][a-z-]*):', open('Makefile', encoding='utf-8').read(), re.M))
    helps = {}
    pages = [p for p in ['README.md', 'CONTRIBUTING.md', *sorted(glob.glob('notebooks/*.md'))]
             if os.path.basename(p) not in ('LOG.md', 'MAP.md')]
    checked = sum(check_page(page, binary, targets, helps) for page in pages)
    check_equations()
    check_scoreboard(binary)
    ran = run_usage(binary)
    print('\n'.join(wrong + [f'pages: {checked} names and commands of {len(pages)} pages looked at, {ran} commands run: {len(wrong) or "nothing"} wrong']))
    return len(wrong) > 0


sys.exit(main())
