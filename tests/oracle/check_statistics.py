"""The fits of `deepseek scaling fit` against SciPy and NumPy, on runs that are made up here; and what
`deepseek measure specialisation` says of a router, from the choices that `deepseek measure load` counts.

Straight lines with the standard errors of both coefficients (scipy.stats.linregress), the intervals that Student's
t makes of them (scipy.stats.t), parabolas (numpy.polyfit), power laws with an offset (scipy.optimize.curve_fit),
entropies (scipy.stats.entropy) and mutual information (half the G of scipy.stats.chi2_contingency, by choice).

Tolerances, relative: lines, intervals, parabolas and information 1e-10 (measured 1.2e-11), the offset law, where both
search for a minimum, 1e-7 (1.7e-9).
"""

import csv
import json
import pathlib
import tempfile

import numpy as np
from scipy.optimize import curve_fit
from scipy.stats import chi2_contingency, entropy, linregress, t

from common import deepseek, options, verdict, write_tokens

LINES, OFFSET = 1e-10, 1e-7


def fit(args, rows, *more):
    """Our figures of runs, each a dict with the same columns."""
    with tempfile.TemporaryDirectory() as folder:
        runs, out = pathlib.Path(folder) / "runs.csv", pathlib.Path(folder) / "fit.json"
        lines = [",".join(rows[0])] + [",".join(repr(float(x)) for x in row.values()) for row in rows]
        runs.write_text("\n".join(lines) + "\n")
        deepseek(args, "scaling", "fit", runs, "--json", out, *more)
        return json.loads(out.read_text())


def worst(ours, theirs):
    ours, theirs = np.array(ours, float), np.array(theirs, float)
    return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))


def law_by_scipy(x, y):
    """A power law as (ln k, exponent, their standard errors, their four limits)."""
    line = linregress(np.log(x), np.log(y))
    q = t.ppf(0.975, len(x) - 2)
    return [line.intercept, line.slope, line.intercept_stderr, line.stderr,
            line.intercept - q * line.intercept_stderr, line.intercept + q * line.intercept_stderr,
            line.slope - q * line.stderr, line.slope + q * line.stderr]  # fmt: skip


def law_by_us(law):
    return [np.log(law["k"]), law["exponent"], law["ln_k_error"], law["exponent_error"],
            *np.log(law["k_interval"]), *law["exponent_interval"]]  # fmt: skip


def isoflop(random, budgets, sizes):
    """Runs with an optimum that is noisy from budget to budget; and the parabolas' vertices and lowest values."""
    rows, optima = [], []
    for C in np.geomspace(1e11, 1e17, budgets):
        ln_M = np.log(0.2 * C**0.5) + 0.1 * random.normal() + np.linspace(-1, 1, sizes)
        loss = 1.8 + 30 * C**-0.12 + 0.05 * (ln_M - ln_M[sizes // 2] + 0.05) ** 2 + 1e-4 * random.normal(size=sizes)
        rows += [{"M": np.exp(m), "C": C, "loss": y} for m, y in zip(ln_M, loss)]
        c = np.polyfit(ln_M - ln_M.mean(), loss, 2)
        optima.append((C, np.exp(ln_M.mean() - c[1] / 2 / c[0]), c[2] - c[1] ** 2 / 4 / c[0]))
    return rows, np.array(optima).T


def offset_law(C, y_inf, ln_k, g):
    return y_inf + np.exp(ln_k - g * np.log(C / 1e14))


def offset_by_scipy(C, loss):
    return curve_fit(offset_law, C, loss, p0=(1.8, -0.5, 0.12), ftol=1e-15, xtol=1e-15, gtol=1e-15, maxfev=20000)[0]


def check_isoflop(args, failures):
    random = np.random.default_rng(1)
    for budgets in range(3, 13):
        for sizes in (3, 7):
            rows, (C, M, loss) = isoflop(random, budgets, sizes)
            ours = fit(args, rows, "--points", 0, "--predict", 1e19)
            line = max(
                worst([b["M"] for b in ours["budgets"]], M),
                worst([b["loss"] for b in ours["budgets"]], loss),
                worst(law_by_us(ours["M_opt"]), law_by_scipy(C, M)),
                worst(law_by_us(ours["D_opt"]), law_by_scipy(C, C / M)),
            )
            power = linregress(np.log(C), np.log(loss))
            line = max(line, worst([ours["loss"]["power"]["exponent"]], [power.slope]))
            law, bend = ours["loss"]["offset"], float("nan")
            if budgets > 3:
                y_inf, ln_k, g = theirs = offset_by_scipy(C, loss)
                bend = worst([law["L_inf"], law["exponent"]], [y_inf, -g])
                if ours["loss"]["form"] == "offset":
                    bend = max(bend, worst([ours["predictions"][0]["loss"]], [offset_law(1e19, *theirs)]))
            held_out = ours["loss"]["held_out"]["M D"]
            if budgets > 4 and held_out["offset"] is not None:
                foretold = offset_law(C[-1], *offset_by_scipy(C[:-1], loss[:-1]))
                bend = max(bend, abs(1 + held_out["offset"] - foretold / loss[-1]))
            report(f"{budgets} budgets, {sizes} sizes", line, bend, failures)


def check_grid(args, failures):
    """Learning rates and batches within a percent of the best."""
    random = np.random.default_rng(2)
    rows, near = [], []
    for C in np.geomspace(1e12, 1e16, 5):
        lr = 0.3 * C**-0.125 * 2.0 ** np.arange(-3, 4)
        batch = 0.3 * C**0.33 * 2.0 ** np.arange(-3, 4)
        i, j = np.meshgrid(np.arange(-3, 4), np.arange(-3, 4), indexing="ij")
        loss = 2 + 30 * C**-0.12 + 0.01 * (i**2 + j**2 + 0.5 * i * j) + 0.003 * random.normal(size=i.shape)
        cells = [(C, lr[a], batch[b], loss[a, b]) for a in range(7) for b in range(7)]
        rows += [{"M": 1e6, "C": C, "lr": a, "batch": b, "loss": y} for C, a, b, y in cells]
        near += [cell for cell in cells if cell[3] <= loss.min() * 1.01]
    ours, (C, lr, batch, _) = fit(args, rows, "--within", 1), np.array(near).T
    line = max(
        worst(law_by_us(ours["lr_opt"]), law_by_scipy(C, lr)),
        worst(law_by_us(ours["batch_opt"]), law_by_scipy(C, batch)),
    )
    report(f"learning rates and batches, {len(near)} cells", line, float("nan"), failures)


def measured(args, out, which, *more):
    """Rows of a measure, by item."""
    deepseek(args, "measure", which, "--out", out, *more)
    with open(out) as file:
        return {row["item"]: row for row in csv.DictReader(file)}


def check_information(args, failures):
    """What each expert tells of a sequence's label, of four that have tokens of their own and others."""
    random = np.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model, ids, labels, out = (folder / name for name in ("model", "ids", "labels", "out.csv"))
        text, counts, names = folder / "text.txt", {}, []
        text.write_text("to be or not to be " * 200)
        deepseek(args, "train", "--preset", "moe-tiny", "--data", text, "--steps", 1, "--out", model)
        for label in range(4):
            sequences = random.integers(30 * label, 30 * label + 100, size=(5, 40))
            write_tokens(ids, sequences)
            for item, row in measured(args, out, "load", "--model", model, "--tokens", ids).items():
                if " expert " in item:
                    router, expert = item.split(" expert ")
                    counts.setdefault(router, np.zeros((4, 63)))[label, int(expert)] = float(row["tokens"])
            names += [(label, row) for row in sequences]
        write_tokens(ids, np.array([row for _, row in names]))
        labels.write_text("".join(f"topic {label}\n" for label, _ in names))
        ours = measured(args, out, "specialisation", "--model", model, "--tokens", ids, "--labels", labels)
    for router, table in counts.items():
        table = table[:, table.sum(0) > 0]
        G = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
        theirs = [G / 2 / table.sum(), entropy(table.sum(1))]
        figures = [float(ours[router][column]) for column in ("information", "entropy")]
        report(f"{router}, {theirs[0]:.4f} nats", worst(figures, theirs), float("nan"), failures)


def report(label, line, bend, failures):
    print(f"{label:44}{line:10.1e}{bend:10.1e}", flush=True)
    for what, value, limit in (("lines", line, LINES), ("offset law", bend, OFFSET)):
        if value > limit or what == "lines" and not value <= limit:
            failures.append(f"{label}: {what}: error {value:.1e} above {limit:.0e}")


def main():
    args, failures = options(__doc__.splitlines()[0]).parse_args(), []
    print(f"{'errors against SciPy':44}{'lines':>10}{'offset':>10}")
    check_isoflop(args, failures)
    check_grid(args, failures)
    check_information(args, failures)
    verdict(failures)


if __name__ == "__main__":
    main()
