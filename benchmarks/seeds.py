"""One recipe with several seeds: ``python -m benchmarks.seeds --architecture convnet --seeds 5``.

Each seed is a whole ``digits retrain`` in a process of its own, under a name of its own, so none is
compared with another. Prints a line for each, and the mean and the worst.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.prefect_server import prefect_server
from benchmarks.training import parser_with_data, peak_mib, wait_for
from storage import read_table


def main() -> None:
    """Train, and print what each seed reached."""
    parser = parser_with_data("seeds", __doc__)
    parser.add_argument("--architecture", default="convnet", help="[default: %(default)s]")
    parser.add_argument("--seeds", type=int, default=5, help="from 0 [default: %(default)s]")
    parser.add_argument("--first", type=int, default=0, help="seed [default: %(default)s]")
    parser.add_argument("--max-minutes", default="0", help="for each training [default: none]")
    told = parser.parse_args()
    recipe = ["--architecture", told.architecture, "--max-minutes", told.max_minutes]
    with tempfile.TemporaryDirectory() as home, prefect_server(Path(home)) as environment:
        rows = []
        for seed in range(told.first, told.first + told.seeds):
            rows.append(_run(told.data, seed, recipe, environment))
            print(_line(rows[-1]), flush=True)
        accuracies = [row["test_accuracy"] for row in rows]
        print(f"mean {fmean(accuracies):.4%}, worst {min(accuracies):.4%}")
        url = f"sqlite:///{environment['DIGITS_HOME']}/metrics.db"
        table = read_table("robustness", url)
    shares = table.groupby("transformation", sort=False)[["correct", "total"]].sum()
    print((shares["correct"] / shares["total"]).round(4).to_string())


def _run(data: Path, seed: int, recipe: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """The row of a run, with its processor seconds and peak memory."""
    command = [
        str(Path(sys.executable).with_name("digits")), "retrain", "--dataset", str(data),
        "--seed", str(seed), "--name", f"seed-{seed}", "--json", *recipe,
    ]  # fmt: skip
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=environment, stdout=output)
        usage = wait_for(process)
        if process.returncode not in {0, 3}:
            sys.exit(f"expected a decision, received exit code {process.returncode}")
        output.seek(0)
        row: dict[str, Any] = json.loads(output.read())
    return row | {"cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": peak_mib(usage)}


def _line(row: dict[str, Any]) -> str:
    validation = row["validation_accuracy"]
    return (
        f"seed {row['seed']}: {row['test_total'] - row['test_correct']} of {row['test_total']:,}"
        f" wrong, validation {'none' if validation is None else format(validation, '.4f')}, ECE"
        f" {row['calibration_error']:.4f}, {row['epochs']} epochs in {row['fit_s']:.0f} s;"
        f" {row['status']}; the whole command {row['cpu_s']:.0f} s of the processor,"
        f" {row['peak_mib']:,.0f} MiB"
    )


if __name__ == "__main__":
    main()
