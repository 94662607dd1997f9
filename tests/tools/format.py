#!/usr/bin/env python3
"""Formats the sources: clang-format by .clang-format, and then every comment at the end of a line back into the column
where its author put it (equation tags and the meanings of fields stand below each other).

    tests/tools/format.py [--check] [FILE...]     all sources, or these; --check only says which differ
"""
import re
import shutil
import subprocess
import sys

VERSION = '23.1'                                          # other versions lay out other lines


def clang_format():
    for name in ('build/venv-format/bin/clang-format', 'clang-format'):
        found = shutil.which(name)
        if found and f'version {VERSION}.' in subprocess.run([found, '--version'], capture_output=True, text=True).stdout:
            return found
    sys.exit(f'format: clang-format {VERSION} is not here; `make format` installs it (from PyPI, into build/venv-format)')


def trailing_comment(line):
    """The column of the // that ends a line of code, or None. Strings and characters are left out of account."""
    blank = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])+\'', lambda m: '_' * len(m.group()), line)
    at = blank.find('//')
    return at if at > 0 and blank[:at].strip() else None


def columns_of(text):
    return [(line[at:], at) for line in text.split('\n') if (at := trailing_comment(line)) is not None]


def with_columns(text, columns):
    """`text` with its trailing comments, in order, in those columns where there is room."""
    wanted = iter(columns)
    lines = text.split('\n')
    for i, line in enumerate(lines):
        at = trailing_comment(line)
        if at is None:
            continue
        comment, column = next(wanted, (None, 0))
        if comment != line[at:]:
            return None
        code = line[:at].rstrip()
        column = max(column, len(code) + 2)
        if column + len(comment) > 110:
            column = max(len(code) + 1, 110 - len(comment))
        lines[i] = code.ljust(column) + comment
    return '\n'.join(lines)


def formatted(text, path, program):
    run = subprocess.run([program, f'--assume-filename={path}.cpp', '--style=file:.clang-format'], input=text,
                         capture_output=True, text=True, check=True)
    return with_columns(run.stdout, columns_of(text)) or run.stdout


def main():
    check = '--check' in sys.argv
    files = [a for a in sys.argv[1:] if not a.startswith('--')]
    if not files:
        listed = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], capture_output=True, text=True).stdout
        files = sorted(f for f in listed.split() if re.search(r'\.(cpp|h|cu)$', f))
    program = clang_format()
    wrong = 0
    for path in files:
        with open(path, encoding='utf-8') as file:
            text = file.read()
        new = formatted(text, path, program)
        if new == text:
            continue
        wrong += 1
        print(f'{path}: {"not formatted: make format" if check else "formatted"}')
        if not check:
            with open(path, 'w', encoding='utf-8') as file:
                file.write(new)
    return wrong > 0 and check


sys.exit(main())
