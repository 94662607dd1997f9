#!/usr/bin/env python3
"""Takes the tour of notebooks/DEBUGGING.md in gdb and compares what gdb says with what the page says.

    tests/debugger/tour.py build/debug/deepseek [--update]

A block of the page that begins with ```gdb is part of a session; a line  $ gdb ... --args PROGRAM ...  begins a new one,
with the given binary in place of PROGRAM. After a line  (gdb) command  stands what it prints: every line must come, in
this order. Addresses may differ, and numbers in their fourth digit. --update writes what gdb said into the page instead:
after a change of the sources its line numbers are others. Read the difference before you keep it.
"""
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

PAGE = 'notebooks/DEBUGGING.md'
SETTINGS = ['pagination off', 'confirm off', 'width 0', 'filename-display basename', 'debuginfod enabled off']
NOISE = re.compile(r'^$|^\[Thread debugging|^Using host libthread_db|^\[New Thread|^\[Switching to|^warning: Error disabling address')
NUMBER = re.compile(r'-?\d+(?:\.\d+)?(?:e[-+]?\d+)?')


def blocks(lines):
    """(kind, index, text): 'session', 'command' or 'output', of the lines in gdb's blocks."""
    inside = False
    for i, line in enumerate(lines):
        if line.startswith('```'):
            inside = line == '```gdb'
        elif inside:
            kind = 'session' if line.startswith('$ gdb') else 'command' if line.startswith('(gdb) ') else 'output'
            yield kind, i, line


def say(binary, arguments, commands):
    """What gdb answers to each command, line by line, without addresses."""
    with tempfile.NamedTemporaryFile('w', suffix='.gdb') as script:
        script.write(''.join(f'set {s}\n' for s in SETTINGS))
        script.write(''.join(f'echo \\n@@@\\n\n{c}\n' for c in commands))
        script.flush()
        run = subprocess.run(['gdb', '-nx', '-q', '-batch', '-x', 'tests/debugger/gdb_printers.py', '-x', script.name, '--args',
                              binary, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    lines = [re.sub(r'0x[0-9a-f]{3,}', '0x...', line.expandtabs()).rstrip() for line in run.stdout.split('\n')]
    answers = '\n'.join(line for line in lines if not NOISE.match(line)).split('@@@')[1:]
    answers += ['(gdb stopped before this command)'] * (len(commands) - len(answers))
    return [answer.strip('\n').split('\n') if answer.strip() else [] for answer in answers]


def same(a, b):
    """Equal but for the fourth digit of numbers that are no integers."""
    if NUMBER.sub('#', a) != NUMBER.sub('#', b):
        return False
    for x, y in zip(NUMBER.findall(a), NUMBER.findall(b)):
        exact = not re.search('[.e]', x + y)
        if abs(float(x) - float(y)) > (0 if exact else 0.002 * abs(float(x)) + 1e-5):
            return False
    return True


def compare(page, answers):
    """The first line of the page that gdb did not say: a complaint, or nothing."""
    at, command, compared = 0, None, 0
    for kind, i, line in page:
        if kind == 'command':
            command, answer, at = line, answers[i], 0
        elif kind == 'output' and line.strip():
            found = next((k for k in range(at, len(answer)) if same(line, answer[k])), None)
            if found is None:
                return f'tour: {PAGE}:{i + 1}: after `{command}` the page says\n    {line}\nand gdb says\n' + \
                    ''.join(f'    {said}\n' for said in answer or ['nothing']) + \
                    'make tour UPDATE=1 writes the page anew'
            at, compared = found + 1, compared + 1
    print(f'tour: {len(answers)} commands, {compared} lines of output, as the page says')


def updated(lines, page, answers):
    output = {i for kind, i, _ in page if kind == 'output'}
    out = []
    for i, line in enumerate(lines):
        out += [line] if i not in output else []
        out += answers.get(i, [])
    return '\n'.join(out)


def main():
    if not shutil.which('gdb'):
        return 'tour: gdb is not here: apt install gdb'
    binary = os.path.abspath(sys.argv[1])
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..'))
    os.environ['OMP_NUM_THREADS'] = '1'
    lines = open(PAGE, encoding='utf-8').read().split('\n')
    page = list(blocks(lines))
    answers = {}                                          # by the line of their command
    starts = [k for k, (kind, _, _) in enumerate(page) if kind == 'session'] + [len(page)]
    for start, end in zip(starts, starts[1:]):
        arguments = shlex.split(page[start][2].split('--args ')[1])[1:]
        commands = [(i, line[6:]) for kind, i, line in page[start:end] if kind == 'command']
        answers.update(zip([i for i, _ in commands], say(binary, arguments, [c for _, c in commands])))
    if broken := [line for answer in answers.values() for line in answer if 'Python Exception' in line]:
        return f'tour: a printer fails: {broken[0]}'
    if '--update' in sys.argv:
        open(PAGE, 'w', encoding='utf-8').write(updated(lines, page, answers))
        print(f'tour: {PAGE} is written anew')
        return 0
    if not answers:
        return f'tour: no gdb session in {PAGE}'
    return compare(page, answers)


sys.exit(main())
