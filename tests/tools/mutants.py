#!/usr/bin/env python3
"""Do the tests find planted bugs? Each mutant of tests/mutants.txt is planted in a copy of the sources, build/mutants;
what it touches is compiled, and under each of its patterns a test must fail. The unharmed program must pass them all.

    tests/tools/mutants.py [NAME...]     all, or these
    tests/tools/mutants.py --list        only the list: does every line still stand in its file, is there such a test?
    tests/tools/mutants.py --break NAME  a program with that bug, to debug (PRESET=debug; release if not given)
    tests/tools/mutants.py --blind SEED  one with a bug that is not named
    tests/tools/mutants.py --reveal SEED which it was

The list holds a block of lines for each bug, apart by an empty line:
    name:    one word
    file:    the file that gets the bug
    line:    the line as it stands there, without indentation and closing comment; it stands there once
    after:   (optional) a line that stands there once: the first `line:` below it is meant
    wrong:   the line that replaces it; nothing: the line is removed
    preset:  (optional) the build that the tests need; gradcheck if not given
    tests:   patterns of doctest's --test-case, by commas; under each, a test must fail
    seen:    where this bug really happened, or who says that it does
"""
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LIST = Path(os.environ.get('MUTANTS', 'tests/mutants.txt'))
FIELDS = 'name file line after wrong preset tests seen'.split()
PLACE = Path('build/mutants')                             # the copy; its builds are in PLACE/build/PRESET


class Wrong(Exception):
    """A mutant that is not as it should be, and why."""


def mutants():
    """The list, by file, so that a file is compiled unharmed only once."""
    found = {}
    text = re.sub(r'^#.*\n', '', LIST.read_text(encoding='utf-8'), flags=re.M)
    for block in re.split(r'\n\s*\n', text.strip()):
        pairs = [line.partition(':') for line in block.split('\n')]
        m = {key: value.strip() for key, _, value in pairs}
        name = m.get('name')
        if bad := [key for key in m if key not in FIELDS] or [key for key in FIELDS if key not in m and key not in ('after', 'preset')]:
            sys.exit(f'{LIST}: mutant {name}: unknown or missing field {bad[0]}')
        if len(m) < len(pairs) or name in found:
            sys.exit(f'{LIST}: mutant {name}: a field or the mutant itself stands there twice')
        m.setdefault('preset', 'gradcheck')
        m['patterns'] = [p.strip() for p in m['tests'].split(',')]
        found[name] = m
    return sorted(found.values(), key=lambda m: (m['preset'], m['file']))


def code(line):
    """Without indentation and closing comment."""
    return re.sub(r'\s+//.*$', '', line.strip())


def planted(m):
    """The text of the file with the bug. The closing comment stays, so that it betrays nothing."""
    if not os.path.isfile(m['file']):
        raise Wrong(f'no file {m["file"]}')
    lines = Path(m['file']).read_text(encoding='utf-8').split('\n')
    bare = [code(line) for line in lines]
    start = 0
    if after := code(m.get('after', '')):
        if bare.count(after) != 1:
            raise Wrong(f'{m["file"]}: the line of `after:` stands there {bare.count(after)} times')
        start = bare.index(after) + 1
    times = bare[start:].count(code(m['line']))
    if times == 0 or (times > 1 and not after):
        raise Wrong(f'{m["file"]}: the line of `line:` stands there {times} times')
    at = bare.index(code(m['line']), start)
    indent, comment = re.match(r'\s*', lines[at])[0], re.search(r'\s+//.*$|$', lines[at])[0]
    lines[at:at + 1] = [indent + m['wrong'] + comment] if m['wrong'] else []
    return '\n'.join(lines)


def test_like():
    """Of a pattern: is there a test whose name it fits?"""
    sources = '\n'.join(p.read_text(encoding='utf-8') for p in Path('tests').rglob('*.cpp'))
    found = re.findall(r'(TEST_CASE|PARITY)\w*\(\s*(?:\w+,\s*)?((?:"(?:[^"\\]|\\.)*"\s*)+)', sources)
    names = [('parity: ' if macro == 'PARITY' else '') + re.sub(r'"\s*"|\\', '', name.strip())[1:-1] for macro, name in found]

    def exists(pattern):
        like = re.compile(re.escape(pattern).replace(r'\*', '.*').replace(r'\?', '.'), re.I)
        return any(map(like.fullmatch, names))
    return exists


def list_all():
    exists, wrong = test_like(), 0
    for m in mutants():
        try:
            planted(m)
            for pattern in m['patterns']:
                if not exists(pattern):
                    raise Wrong(f'no test is called "{pattern}"')
        except Wrong as why:
            wrong += 1
            print(f'{LIST}: mutant {m["name"]}: {why}')
    print(f'mutants: {len(mutants())} in the list, {wrong} not as it says')
    return wrong > 0


def write(path, text):
    """Only if it changes: what is built from a file that did not change stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != text:
        path.write_bytes(text)


def sync(place):
    """`place` becomes a copy of the sources."""
    roots = ['CMakeLists.txt', *map(str, Path('.').glob('*.[ch]*')), 'src', 'tests', 'data']
    files = {p for root in roots for p in [Path(root), *Path(root).rglob('*')] if p.is_file() and p.parts[:2] != ('tests', 'tools')}
    for p in files:
        write(place / p, p.read_bytes())
    for p in list(place.rglob('*')):
        if p.is_file() and p.relative_to(place) not in files and p.relative_to(place).parts[0] != 'build':
            p.unlink()


def run(command, log, seconds=None):
    """Its exit status, 124 if it took too long. It ends with us, whatever ends us."""
    with open(log, 'ab') as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            return 124
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def build(place, preset, target):
    """Builds place/build/preset; with ccache, where it is here, what was compiled before comes from there."""
    folder = place / 'build' / preset
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / 'build.log'
    log.write_bytes(b'')
    if shutil.which('ccache'):
        os.environ.setdefault('CMAKE_CXX_COMPILER_LAUNCHER', 'ccache')
        os.environ['CCACHE_BASEDIR'] = str(place.resolve())
        os.environ['CCACHE_NOHASHDIR'] = '1'
    made = (folder / 'CMakeCache.txt').exists() or run(['cmake', '-S', place, '-B', folder, f'-DPRESET={preset}'], log) == 0
    jobs = os.environ.get('JOBS', str(os.cpu_count()))
    if not made or run(['cmake', '--build', folder, '-j', jobs, '--target', target], log) != 0:
        errors = [line for line in log.read_text(errors='replace').split('\n') if 'error' in line.lower()]
        raise Wrong('does not compile: ' + '\n'.join(errors[:3] or [str(log)]))


def tests(preset, patterns, *more):
    folder = PLACE / 'build' / preset
    (folder / 'tests.log').write_bytes(b'')
    return run([folder / 'tests', '-tc=' + ','.join(patterns), *more], folder / 'tests.log',
               float(os.environ.get('MUTANT_SECONDS', 300)))


def check_healthy(preset, chosen):
    """The unharmed program must build, have tests under each pattern, and pass them."""
    build(PLACE, preset, 'tests')
    patterns = {p for m in chosen if m['preset'] == preset for p in m['patterns']}
    for pattern in sorted(patterns):
        tests(preset, [pattern], '-ltc')
        if ' 0\n' in (PLACE / 'build' / preset / 'tests.log').read_text():
            raise Wrong(f'no test is called "{pattern}"')
    if tests(preset, patterns) != 0:
        raise Wrong(f'it fails its tests: {PLACE}/build/{preset}/tests.log')


def try_mutant(m):
    write(PLACE / m['file'], planted(m).encode())
    build(PLACE, m['preset'], 'tests')
    for pattern in m['patterns']:
        if tests(m['preset'], [pattern], '-aa=1') == 0:   # the first failed assertion is enough
            raise Wrong(f'NOT CAUGHT by "{pattern}"')


def hunt(names):
    chosen = [m for m in mutants() if not names or m['name'] in names]
    for name in names:
        if name not in [m['name'] for m in chosen]:
            sys.exit(f'mutants: none in {LIST} is called {name}')
    sync(PLACE)
    failed, preset, harmed = [], None, None
    for m in chosen:
        start = time.time()
        try:
            if harmed not in (None, m['file']):
                write(PLACE / harmed, Path(harmed).read_bytes())
            if preset != m['preset']:
                if harmed:
                    write(PLACE / harmed, Path(harmed).read_bytes())
                preset = m['preset']
                try:
                    check_healthy(preset, chosen)
                except Wrong as why:
                    sys.exit(f'mutants: the unharmed program, {preset}: {why}')
            harmed = m['file']
            try_mutant(m)
            verdict = f'caught by {m["tests"]}'
        except Wrong as why:
            verdict = f'FAILED: {why}'
            failed.append(m['name'])
        print(f'{m["name"]:34} {m["file"]:22} {time.time() - start:4.0f}s  {verdict}', flush=True)
    print(''.join(f'FAILED: {name}\n' for name in failed) + f'{len(chosen) - len(failed)} passed, {len(failed)} failed')
    return len(failed) > 0


def named(name):
    found = [m for m in mutants() if m['name'] == name]
    if not found:
        print('break NAME, one of:\n' + '\n'.join(f'    {m["name"]:34} {m["file"]}' for m in mutants()))
        sys.exit(2)
    return found[0]


def of_seed(seed):
    by_name = sorted(mutants(), key=lambda m: m['name'])
    return by_name[int(hashlib.sha256(seed.encode()).hexdigest(), 16) % len(by_name)]


def break_one(m, folder):
    place = Path('build/broken') / folder
    preset = os.environ.get('PRESET', 'release')
    sync(place)
    write(place / m['file'], planted(m).encode())
    build(place, preset, 'all')
    print(f'{place}/build/{preset}/deepseek and {place}/build/{preset}/tests have a bug', end='')


def tell(m):
    print(f'It is known from: {m["seen"]}\nThese tests see it: {m["tests"]}. What do they say, and what do others not see?')


def main(arguments):
    what, name = (arguments + ['', ''])[:2]
    if what == '--list':
        return list_all()
    if what == '--break':
        m = named(name)
        break_one(m, m['name'])
        print(f', in {m["file"]}.')
        tell(m)
    elif what in ('--blind', '--reveal') and not name:
        sys.exit('mutants: a seed is wanted: SEED=n')
    elif what == '--blind':
        break_one(of_seed(name), f'seed-{name}')
        print(f'. Which, and where? `make reveal SEED={name}` tells.')
    elif what == '--reveal':
        m = of_seed(name)
        print(f'{m["file"]}: {m["name"]}\n    right: {m["line"]}\n    wrong: {m["wrong"] or "(the line is missing)"}')
        tell(m)
    elif what.startswith('-'):
        sys.exit(__doc__)
    else:
        return hunt([a for a in arguments if a])


if __name__ == '__main__':
    os.chdir(Path(__file__).resolve().parents[2])
    os.environ['OMP_NUM_THREADS'] = '1'
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit('\nmutants: stopped')
    except Wrong as why:
        sys.exit(f'mutants: {why}')
