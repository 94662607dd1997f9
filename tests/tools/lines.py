#!/usr/bin/env python3
"""The budgets: a file has at most 1,300 lines, a function at most 60, and what is a table rather than a text at most
100. Prints the lines of every floor with its longest file and function. A smoke alarm, not a target.

    tests/tools/lines.py [--files]       --files: a row for every file
"""
import shutil
import subprocess
import sys

from lint import BELOW, files, floor_of, is_code

CORE = ('tensor', 'cpu', 'cuda')                          # and the top level
TABLES = {                                                # functions that are tables: why
    ('src/cli/main.cpp', 'main'): 'the list of verbs',
    ('src/model/config.cpp', 'config_fields'): 'one row a field',
    ('tests/text/stories.cpp', 'play'): 'one case an event: what the world allows',
}


def functions(sources):
    """(file, name, first line, lines) of each function; a TEST_CASE is one, a lambda is part of where it stands."""
    if not shutil.which('ctags'):
        sys.exit('lines: ctags is not here: apt install universal-ctags')
    macros = [f'-D{macro}=void test_case()' for macro in ('TEST_CASE(x)', 'TEST_CASE_FIXTURE(f,x)', 'PARITY(x)')]
    run = subprocess.run(['ctags', '--language-force=C++', *macros, '--kinds-C++=f', '--fields=+ne', '--excmd=number', '-f', '-', *sources],
                         capture_output=True, text=True, check=True)
    for line in run.stdout.splitlines():
        name, path, _, *rest = line.split('\t')
        field = dict(part.split(':', 1) for part in rest if ':' in part)
        if 'end' in field and not name.startswith('__anon'):
            yield path, name, int(field['line']), int(field['end']) - int(field['line']) + 1


def row(name, sources, count, found):
    mine = [f for f in found if f[0] in sources]
    longest = max(mine, key=lambda f: f[3], default=('', '', 0, 0))
    lines = [(count[s], s) for s in sources]
    print(f'{name:28}{len(sources):5}{sum(n for n, _ in lines):8}   {max(lines)[0]:5}{len(mine):7}   {longest[3]:4} {longest[1]}')


def main():
    sources = [f for f in files() if is_code(f)]
    count = {f: open(f, encoding='utf-8').read().count('\n') for f in sources}
    found = list(functions(sources))
    print(f'{"":28}files   lines longest  functions, the longest')
    for floor in BELOW:
        if mine := [f for f in sources if floor_of(f) == floor]:
            row(floor, mine, count, found)
            for f in mine if '--files' in sys.argv else []:
                row('  ' + f, [f], count, found)
    row('core (CONTRIBUTING.md)', [f for f in sources if '/' not in f or floor_of(f) in CORE], count, found)
    row('all but tests', [f for f in sources if floor_of(f) != 'tests'], count, found)
    wrong = [f'{f}: {n} lines, more than 1,300' for f, n in count.items() if n > 1300]
    for path, name, at, lines in found:
        if lines > (limit := 100 if (path, name) in TABLES else 60):
            wrong.append(f'{path}:{at}: {name} has {lines} lines, more than {limit}')
    known = {(path, name) for path, name, _, _ in found}
    wrong += [f'{path}: the table {name} of tests/tools/lines.py is not there' for path, name in TABLES if (path, name) not in known]
    print('\n'.join(wrong + [f'lines: {len(wrong) or "nothing"} over the budget']))
    return len(wrong) > 0


sys.exit(main())
