"""A block that fails resets the attributes of an estimator."""

from __future__ import annotations

from contextlib import suppress

import pytest

from skae._data.estimator_rollback import all_or_nothing


class Holder:
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_block_resets_attributes(error):
    holder = Holder()
    holder.kept = 1
    with suppress(error), all_or_nothing(holder):
        holder.kept, holder.added = 2, 3
        raise error
    assert vars(holder) == {"kept": 1}


def test_all_or_nothing_hides_no_error():
    with pytest.raises(KeyError), all_or_nothing(Holder()):
        raise KeyError


def test_all_or_nothing_keeps_what_succeeds():
    holder = Holder()
    with all_or_nothing(holder):
        holder.added = 3
    assert vars(holder) == {"added": 3}
