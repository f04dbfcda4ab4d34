"""The training of tune_cifar10.py, searched by Ray Tune: its grid and its cluster instead of Optuna's storage.

    pip install "gpuaug[ray,tune]"
    python examples/tune_ray.py --data cifar10 --cpus 1

Here all settings are one grid, without stages. Where there is a Ray cluster already, this uses all of it.
"""

from functools import partial
from typing import Any

import ray
import torch
from ray import tune
from tune_cifar10 import BASELINE, load, parser, train

import gpuaug as ga
from gpuaug.tuning import Reporter, run

parser.add_argument("--cpus", type=float, default=1, help="of each run")
SETTINGS = {"num_ops": [1, 2], "magnitude": [5, 9], "mix_p": [0.0, 0.4]}


def trainable(config: dict[str, Any], given: Any, data: Any, validation: Any, classes: int) -> None:
    """One run: a setting with a seed; each epoch is reported to Ray."""
    torch.set_num_threads(given.threads)
    policy = ga.RandAugment(config["num_ops"], config["magnitude"], interpolation="bilinear")
    steps = [*BASELINE[:2], policy, *BASELINE[2:]]
    if config["mix_p"]:
        steps.append(ga.RandomChoice([ga.MixUp(num_classes=classes)], p=[config["mix_p"]]))
    single = ("accuracy", "macro_f1", "pr_auc", "loss")
    reporter = Reporter(each=lambda epoch, values: tune.report({name: values[name] for name in single}))
    run(partial(train, given, data, validation), steps, config["seed"], reporter)


def main() -> None:
    given = parser.parse_args()
    if not ray.is_initialized():
        ray.init(include_dashboard=False)
    data, validation, _ = load(given)
    fixed = tune.with_parameters(
        trainable, given=given, data=data, validation=validation, classes=int(data[1].max()) + 1
    )
    grid = {name: tune.grid_search(values) for name, values in SETTINGS.items()}
    tuner = tune.Tuner(
        tune.with_resources(fixed, {"cpu": given.cpus}),
        param_space=grid | {"seed": tune.grid_search(list(range(given.seeds)))},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
        run_config=tune.RunConfig(name="tune_ray", storage_path=str(given.out.resolve()), verbose=0),
    )
    table = tuner.fit().get_dataframe()
    names = [f"config/{name}" for name in SETTINGS]
    ranked = table.groupby(names)["accuracy"].agg(["mean", "std", "count"]).sort_values("mean", ascending=False)
    print(ranked.to_string())


if __name__ == "__main__":
    main()
