"""``convform planted``: how often the diagnosis is right."""

from __future__ import annotations

import click

from convform.conformance.doors.cli.progress import status
from convform.conformance.teeth.planted import plant_all, plant_pairs, summary


@click.command()
@click.option("--pairs", type=click.IntRange(0), default=200, show_default=True, help="Number of pairs.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of every choice.")
def planted(pairs: int, seed: int) -> None:
    """Plant misreadings into a homework, and count how often the diagnosis names the right cause."""
    with status() as progress:
        for title, plants in (("alone", plant_all(seed=seed)), ("pairs", plant_pairs(pairs, seed))):
            done = []
            for plant in plants:
                done.append(plant)
                progress(plant.operator, " + ".join(plant.planted))
            click.echo(summary(done, title))
