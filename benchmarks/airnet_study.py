"""Source 002 again: can a small network replace the affine registration of a brain to a template?

Commands, in this order: ``prepare`` (register, enlarge), ``train EXPERIMENT...`` (three folds each), ``score`` (table).
"""

import argparse
from pathlib import Path

import torch

import learned_affine_data
from learned_affine_training import EXPERIMENTS, train, weights_path


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for prepared images and weights")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare")
    training = commands.add_parser("train")
    training.add_argument("experiments", nargs="+", choices=tuple(EXPERIMENTS))
    training.add_argument("--folds", nargs="*", type=int, default=[0, 1, 2])
    training.add_argument("--epochs", type=int, default=18)
    training.add_argument("--learning-rate", type=float, default=1e-3)
    training.add_argument("--minutes", type=float, default=9.0, help="longest time of one training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "prepare":
        learned_affine_data.prepare(options.work)
    else:
        _train(options)


def _train(options: argparse.Namespace) -> None:
    data = learned_affine_data.load(options.work)
    for experiment in options.experiments:
        for fold in options.folds:
            if weights_path(options.work, experiment, fold).exists():
                continue
            words = {"num_epochs": options.epochs, "learning_rate": options.learning_rate, "minutes": options.minutes}
            train(experiment, data, fold, options.work, **words)


if __name__ == "__main__":
    main()
