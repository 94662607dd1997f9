"""`deepseek data --prepare` against brute force: every text is compared with every other one, in plain Python.

    python3 tests/oracle/check_prepare.py --binary ./deepseek

Two folders are made. In the first, texts are equal but for how lines end, or their Jaccard index is at least 0.93, or
it is below 0.8: LSH misses one of a million such pairs, so what stays must be the same set. In the second the index
is between 0.8 and 0.93: what is removed must be a near duplicate of what stays, and what was missed must be as
much as 1 - (1 - s^8)^16 says. Needs nothing but Python; the exit code is 1 if anything differs.
"""
import argparse
import json
import math
import pathlib
import random
import re
import subprocess
import sys
import tempfile

RULES = 'too-short,invalid-utf8,few-letters,many-symbols,word-length,repeated-lines,repeated-words'
ALONE = '\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff'
WORD = re.compile(f'[{ALONE}]|[^ \t-\r{ALONE}]+')
NEAR = 0.8


def shingles(text):
    words = WORD.findall(text)
    return {tuple(words[i:i + 5]) for i in range(max(1, len(words) - 4))} if words else set()


def jaccard(a, b):
    return len(a & b) / len(a | b) if a or b else 1


def normalised(text):
    return '\n'.join(line.rstrip(' \t\r') for line in text.split('\n')).rstrip(' \t\r\n')


def words(rng, n, chinese=False):
    letters = '的一是在不了有和人这中大为上个国我以要他' if chinese else 'abcdefghijklmnopqrstuvwxyz'
    return [''.join(rng.choices(letters, k=1 if chinese else rng.randrange(2, 9))) for _ in range(n)]


def write(rng, page, chinese=False):
    """As a text: blanks of several kinds between words, ends of lines in several ways."""
    blanks = ['', '', ' ', '\n'] if chinese else [' ', ' ', ' ', '  ', '\t', '\n', ' \n', '\r\n', '\n\n']
    return ''.join(word + rng.choice(blanks) for word in page)


def edited(rng, page, n, chinese):
    page = list(page)
    for at in rng.sample(range(len(page)), n):
        page[at] = words(rng, 1, chinese)[0]
    return page


def same_but_for_ends(rng, text):
    return text.replace('\n', rng.choice([' \n', '\r\n', '\t\r\n'])) + rng.choice(['', '\n', ' \r\n\n'])


def far_or_near(rng, pages, versions):
    """Of each page: itself, equal ones, ones with a word changed, ones with every twelfth word changed."""
    for p in range(pages):
        chinese = p % 5 == 0
        page = words(rng, rng.choice([3, 4, 5, 6]) if p % 7 == 0 else rng.randrange(350, 500), chinese)
        text = write(rng, page, chinese)
        yield text
        for _ in range(versions):
            kind = rng.randrange(4)
            if kind == 0 or len(page) < 350:
                yield same_but_for_ends(rng, text)
            else:
                yield write(rng, edited(rng, page, [0, 0, 1, len(page) // 12][kind], chinese), chinese)


def between(rng, pages):
    """Pairs of pages that differ in two to nine of 300 words."""
    for p in range(pages):
        page = words(rng, 300)
        yield write(rng, page)
        yield write(rng, edited(rng, page, 2 + p % 8, False))


def prepare(binary, texts, folder):
    """Writes the texts in a random order; what stays of the paths, in order: [(path, text)], kept."""
    for i, text in enumerate(texts):
        place = folder / 'in' / f's{i % 3}'
        place.mkdir(parents=True, exist_ok=True)
        (place / f'{i:05}.txt').write_bytes(text.encode())
    out = folder / 'out.jsonl'
    run = subprocess.run([binary, 'data', '--prepare', folder / 'in', '--out', out, '--no-filter', RULES], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f'exit code {run.returncode}: {run.stderr}')
    paths = sorted((folder / 'in').rglob('*.txt'))
    named = [(str(p.relative_to(folder / 'in')), p.read_bytes().decode()) for p in paths]
    return named, {json.loads(line)['path'] for line in out.read_text(encoding='utf-8').splitlines()}


def brute_force(named):
    """What stays, and all pairs' indices among what one loop compares."""
    stay, seen, indices = [], set(), []
    for path, text in named:
        plain = normalised(text)
        if plain in seen:
            continue
        seen.add(plain)
        mine = shingles(text)
        found = [jaccard(mine, other) for _, other in stay]
        indices += found
        if not any(s >= NEAR for s in found):
            stay.append((path, mine))
    return {path for path, _ in stay}, indices


def check_same_set(binary, folder, rng, pages):
    texts = [t for t in far_or_near(rng, pages, 6) if t.strip()]
    rng.shuffle(texts)
    named, kept = prepare(binary, texts, folder)
    expected, indices = brute_force(named)
    doubtful = sum(NEAR <= s < 0.93 for s in indices)
    print(f'{len(named)} texts, {len(indices)} pairs ({sum(0.3 < s < NEAR for s in indices)} of 0.3 to 0.8, {sum(s >= NEAR for s in indices)} near, '
          f'{doubtful} doubtful): {len(expected)} stay, {len(expected ^ kept)} differ')
    return len(expected ^ kept) + doubtful


def check_misses(binary, folder, rng, pages):
    named, kept = prepare(binary, list(between(rng, pages)), folder)
    text = dict(named)
    paths = sorted(text, key=lambda path: path[-9:])
    met = expected = variance = wrong = pairs = 0
    for a, b in zip(paths[::2], paths[1::2]):
        s = jaccard(shingles(text[a]), shingles(text[b]))
        both = a in kept and b in kept
        if s < NEAR:
            wrong += not both
            continue
        p = 1 - (1 - s ** 8) ** 16
        pairs, met, expected, variance = pairs + 1, met + (not both), expected + p, variance + p * (1 - p)
    off = abs(met - expected) / math.sqrt(variance)
    print(f'{pairs} pairs of 0.8 and more: {met} met, {expected:.1f} expected ({off:.1f} standard errors, at most 5); of others {wrong} removed')
    return wrong + (off > 5) + (pairs < pages // 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--binary', required=True)
    parser.add_argument('--pages', type=int, default=120)
    parser.add_argument('--seed', type=int, default=1)
    o = parser.parse_args()
    rng, wrong = random.Random(o.seed), 0
    for check, pages in (check_same_set, o.pages), (check_misses, 5 * o.pages):
        with tempfile.TemporaryDirectory() as folder:
            wrong += check(o.binary, pathlib.Path(folder), rng, pages)
    print('all as brute force says' if not wrong else f'{wrong} wrong')
    sys.exit(wrong > 0)


main()
