"""Families x tokenizers x precisions x adapters: cwpo's numbers are those of plain transformers."""

import pytest
from architectures import ARCHITECTURES
from differential import grid, table
from differential.compare import compare

CELLS = [  # every second one runs with the longer tests
    pytest.param(cell, id=", ".join(cell), marks=[pytest.mark.soak] * (place % 2))
    for place, cell in enumerate(grid.bounded())
]


@pytest.mark.parametrize("cell", CELLS)
def test_values_are_those_of_plain_transformers(cell, tmp_path):
    compare(cell, tmp_path)
    assert table.computed(cell.family) == table.written()[cell.family]


@pytest.mark.slow
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_whole_grid(family, tmp_path):
    wrong = []
    for number, cell in enumerate(cell for cell in grid.full() if cell.family == family):
        try:
            compare(cell, tmp_path / str(number))
        except AssertionError as error:
            wrong.append(f"{', '.join(cell)}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_the_table_is_what_the_harness_computes():
    assert list(table.written().values()) == [table.computed(family) for family in ARCHITECTURES]


def test_the_table_has_every_family():
    assert list(table.written()) == list(ARCHITECTURES)
    assert {cell.tokenizer for cell in grid.bounded()} == set(grid.tokenizers())
