"""The update size of an arm: its learning rate, or the one that its operating point gives it.

An operating point is a rule that gives each arm of a family of strong models its learning rate: `matched`, one for all
arms, chosen by the Human arm alone; `own_best`, for each method the one with the best mean gold reward. Both were chosen on
development seeds (experiment=tuning) and stand in `update_sizes` of the scale.
"""

from dataclasses import replace

from cwpo.config.schema import Config, UpdateSizes

POINTS = ("matched", "own_best")


def at_operating_point(cfg: Config) -> Config:
    """The configuration with the learning rate of its operating point where alignment.learning_rate is null."""
    sizes = sizes_of(cfg)
    if cfg.alignment.learning_rate is not None or sizes is None:
        return cfg
    rate = _rate(sizes, cfg.operating_point, cfg.method.name)
    return replace(cfg, alignment=replace(cfg.alignment, learning_rate=rate))


def point_of(cfg: Config) -> str | None:
    """The operating points at which the arm's learning rate lies: matched, own_best, both, or None.

    A method whose own best was not looked for is at none.
    """
    sizes = sizes_of(cfg)
    if sizes is None:
        return None
    rates = {"matched": sizes.matched, "own_best": sizes.own_best.get(cfg.method.name)}
    at = [point for point, rate in rates.items() if rate == cfg.alignment.learning_rate]
    return "both" if len(at) == 2 else next(iter(at), None)


def sizes_of(cfg: Config) -> UpdateSizes | None:
    """The update sizes of the strong model's family, else those named `other`; None where the scale has none."""
    model = cfg.pair.strong.rpartition("/")[2].lower()
    family = next((name for name in cfg.update_sizes if model.startswith(name)), "other")
    return cfg.update_sizes.get(family)


def _rate(sizes: UpdateSizes, point: str, method: str) -> float:
    return sizes.matched if point == "matched" else sizes.own_best.get(method, sizes.matched)
