"""The choice of image size, batch and epochs, with known costs."""

from dataclasses import replace

import pytest

from sanslabel.training.defaults import SIZES, Cost, Question, calm, chosen, largest_batch, sizes

GIB = 1 << 30
SPEED = 1200 * 32**2
"""pixels a second of the machine in these tests"""


def cost(size: int) -> Cost:
    """The cost on a machine whose time and memory grow with the pixels."""
    pixels = max(size, 8) ** 2
    return Cost(
        step=1e-3, sample=pixels / SPEED, fixed=GIB // 2, step_bytes=0, sample_bytes=300 * pixels, disk=1 << 24, once=20
    )


def asked(samples: int, **others) -> Question:
    return replace(Question(samples=samples, side=224, minutes=10, memory=16 * GIB, batch=256), **others)


@pytest.mark.parametrize(
    ("samples", "minutes", "size", "batch", "epochs"),
    [
        (2, 10, 64, 2, 400),
        (99, 10, 64, 32, 400),
        (300, 10, 64, 32, 400),
        (796, 10, 32, 64, 330),
        (3_000, 10, 32, 128, 170),
        (8_121, 10, 32, 128, 75),
        (30_000, 10, 32, 128, 20),
        (3_000_000, 10, 32, 256, 1),
        (796, 1, 32, 64, 55),
        (796, 120, 160, 64, 400),
        (8_121, 120, 48, 256, 190),
        (3_000_000, 600, 64, 256, 3),
    ],
)
def test_known_choices(samples, minutes, size, batch, epochs):
    choice = chosen(asked(samples, minutes=minutes), cost)
    assert (choice.size, choice.batch, choice.epochs) == (size, batch, epochs)


@pytest.mark.parametrize("samples", [2, 5, 31, 99, 300, 796, 3_000, 8_121, 30_000, 300_000])
@pytest.mark.parametrize("minutes", [0.5, 2, 10, 60])
def test_a_run_ends_in_its_time_unless_one_epoch_takes_longer(samples, minutes):
    choice = chosen(asked(samples, minutes=minutes), cost)
    steps = samples // choice.batch * choice.epochs
    assert choice.epochs == 1 or cost(choice.size).seconds(choice.batch, steps) <= 60 * minutes
    assert 2 <= choice.batch <= min(256, samples)


def test_what_was_given_stays_as_given():
    given = asked(796, size_given=100, batch_given=50, epochs_given=7)
    choice = chosen(given, cost)
    assert (choice.size, choice.batch, choice.epochs, choice.reasons) == (100, 50, 7, {})
    assert chosen(asked(796, epochs_given=20), cost).size > chosen(asked(796, epochs_given=500), cost).size
    assert chosen(asked(796, batch_given=256), cost).batch == 256
    assert set(chosen(asked(796, size_given=32), cost).reasons) == {"batch", "epochs"}


def test_small_pictures_keep_their_size():
    assert sizes(asked(100, side=20)) == [20]
    assert sizes(asked(100, side=104)) == [32, 48, 64, 96]
    assert sizes(asked(100, side=5000)) == list(SIZES)
    assert sizes(asked(100, side=0)) == [0]
    assert sizes(asked(99)) == [32, 48, 64]


def test_batches_leave_twelve_steps_an_epoch():
    assert [largest_batch(asked(n)) for n in (2, 20, 99, 400, 796, 1_600, 3_072, 10**6)] == [
        2,
        20,
        32,
        32,
        64,
        128,
        256,
        256,
    ]
    assert largest_batch(asked(10**6, batch=4096)) == 4096


def test_short_memory_makes_pictures_and_then_batches_smaller():
    roomy, tight = (chosen(asked(300, minutes=600, memory=m), cost) for m in (16 * GIB, GIB * 9 // 16))
    assert (roomy.size, roomy.batch) == (224, 32)
    assert (tight.size, tight.batch) == (64, 32)
    assert cost(tight.size).memory(tight.batch) <= GIB * 9 // 16
    assert tight.reasons["image_size"] == "since larger pictures would not fit into memory"
    tiny = chosen(asked(30_000, memory=GIB // 2 + 300 * 32**2 * 20), cost)
    assert (tiny.size, tiny.batch) == (32, 16)


def test_chunks_need_the_memory_of_a_chunk():
    chunked = replace(cost(64), chunk=32, loaded_bytes=100)
    assert chunked.memory(4096) == chunked.fixed + 32 * chunked.sample_bytes + 4096 * 100


def test_several_processes_share_a_batch():
    for processes in (2, 3, 7):
        assert chosen(asked(796, processes=processes), cost).batch % processes == 0


def test_a_size_at_which_the_method_cannot_train_is_passed_over():
    assert chosen(asked(796), lambda size: cost(size) if size == 48 else None).size == 48
    assert chosen(asked(796), lambda size: None) is None


def test_reasons():
    def reasons(*args, **others):
        return chosen(asked(*args, **others), cost).reasons

    assert reasons(796) == {
        "image_size": "since larger pictures would leave too few steps in 10 minutes",
        "batch": "for 12 steps an epoch",
        "epochs": "for 3,960 steps in all",
    }
    assert reasons(8_121, minutes=3)["epochs"] == "as many as end in 3 minutes"
    assert reasons(2)["batch"] == "all images at once"
    assert reasons(2, epochs_given=None)["epochs"] == "for 400 steps in all"
    assert reasons(796, minutes=1)["epochs"] == "as many as end in 1 minute; 660 steps are few, so give more --minutes"
    assert reasons(3_000_000)["epochs"] == "the least, though it takes more than 10 minutes"
    assert reasons(300, side=48)["image_size"] == "the pictures' own size"
    assert reasons(300, minutes=600, side=104)["image_size"] == "close to the pictures' own size"
    assert reasons(300, minutes=600, side=224)["image_size"] == "the largest size that is chosen"
    assert reasons(99, side=224)["image_size"] == "enough for so few pictures"
    assert reasons(20)["batch"] == "all images at once"
    assert reasons(40)["batch"] == "for 1 step an epoch"
    assert reasons(10_000, minutes=100)["batch"] == "as the recipe has it"


def test_numbers_are_rounded_down_to_calm_ones():
    assert [calm(n) for n in (1, 9, 13, 27, 99, 167, 400)] == [1, 9, 12, 25, 95, 160, 400]
