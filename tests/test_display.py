import io

from segpipe.training.display import TrainingDisplay


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class LossSum:
    """A scalar on a device; counts how often it is read, which waits for the device."""

    def __init__(self):
        self.value, self.reads = 0.0, 0

    def item(self):
        self.reads += 1
        return self.value


def run(stream, *, epochs=4, updates=10, every=2, update_seconds=1.0, scoring_seconds=5.0):
    """A run of `updates` updates an epoch with 8 labelled and 8 pseudo-labelled images each; loss 0.5, mIoU 0.25."""
    clock, loss_sum = Clock(), LossSum()
    with TrainingDisplay(epochs, updates, epochs // every, 12, stream=stream, clock=clock) as display:
        for epoch in range(1, epochs + 1):
            display.start_epoch(epoch)
            loss_sum.value = 0.0
            for update in range(updates):
                clock.now += update_seconds
                loss_sum.value += 0.5
                display.after_update(16, loss_sum, update + 1)
            scored = epoch % every == 0
            if scored:
                with display.scoring():
                    clock.now += scoring_seconds
            display.end_epoch({"train_loss": 0.5, "tune_miou": 0.25 if scored else float("nan")}, scored=scored)
    return stream.getvalue(), loss_sum


def test_a_log_gets_a_line_an_epoch_with_mIoU_where_it_was_scored():
    printed, _ = run(io.StringIO(), updates=8)
    assert printed.splitlines() == [
        # 3 epochs of 8 s; two scorings of 12 images at a third of 1/16 s each are a guess
        "epoch 1/4: loss 0.500, 16 images/s, 0:24 left",
        # 2 epochs of 8 s and one scoring that is known to take 5 s
        "epoch 2/4: loss 0.500, mIoU 0.250, 16 images/s, 0:21 left",
        "epoch 3/4: loss 0.500, 16 images/s, 0:13 left",
        "epoch 4/4: loss 0.500, mIoU 0.250, 16 images/s",
        "train: 32 updates in 0:42",
    ]


def test_terms_of_a_loss_are_told_with_their_shares_of_the_gradient_where_there_are_several():
    stream = io.StringIO()
    row = {"train_loss": 1.5, "loss_ce": 1.25, "loss_dice": 0.5, "gradient_ce": 0.8, "gradient_dice": 0.2}
    alone = {"train_loss": 1.25, "loss_ce": 1.25, "gradient_ce": 1.0}
    with TrainingDisplay(2, 1, 0, 0, stream=stream, clock=Clock()) as display:
        for epoch, told in enumerate((row, alone), start=1):
            display.start_epoch(epoch)
            display.end_epoch(told, scored=False)
    assert stream.getvalue().splitlines() == [
        "epoch 1/2: loss 1.500 [ce 1.25, 80% of gradient; dice 0.5, 20%]",
        "epoch 2/2: loss 1.250",
    ]


def test_a_loss_in_the_thousands_is_told_in_powers_of_ten():
    stream = io.StringIO()
    with TrainingDisplay(3, 1, 0, 0, stream=stream, clock=Clock()) as display:
        for epoch, loss in enumerate((999.5, 8.111e11, float("nan")), start=1):
            display.start_epoch(epoch)
            display.end_epoch({"train_loss": loss}, scored=False)
    assert stream.getvalue().splitlines() == [
        "epoch 1/3: loss 999.500",
        "epoch 2/3: loss 8.11e+11",
        "epoch 3/3: loss nan",
    ]


def test_a_long_epoch_gets_lines_in_between_with_the_last_mIoU_that_is_known():
    printed, loss_sum = run(io.StringIO(), epochs=2, updates=25, every=1)
    assert printed.splitlines() == [
        "train 20%: epoch 1/2, loss 0.500, 16 images/s, 0:40 left",
        "train 40%: epoch 1/2, loss 0.500, 16 images/s, 0:30 left",
        "epoch 1/2: loss 0.500, mIoU 0.250, 16 images/s, 0:30 left",
        "train 70%: epoch 2/2, loss 0.500, mIoU 0.250, 16 images/s, 0:20 left",
        "train 90%: epoch 2/2, loss 0.500, mIoU 0.250, 16 images/s, 0:10 left",
        "epoch 2/2: loss 0.500, mIoU 0.250, 16 images/s",
        "train: 50 updates in 1:00",
    ]
    assert loss_sum.reads == 4, "once for each line within an epoch"


def test_the_device_is_not_waited_for_after_each_update():
    printed, loss_sum = run(io.StringIO(), updates=500, update_seconds=0.001)
    assert loss_sum.reads == 0
    assert "nan" not in printed


def test_the_bar_of_a_terminal_tells_loss_mIoU_speed_and_time_left():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    printed, loss_sum = run(Terminal(), update_seconds=0.5)
    drawn = [part for part in printed.split("\r") if "epoch" in part]
    assert loss_sum.reads == len(drawn) == 20, "once a second, of 20 seconds of updates"
    assert drawn[0].startswith("train   5%")
    assert drawn[0].rstrip().endswith("epoch 1/4, loss 0.500, 32 images/s, 0:19 left")
    assert drawn[-2].rstrip().endswith("epoch 4/4, loss 0.500, mIoU 0.250, 32 images/s, 0:06 left")
    assert printed.endswith("\rtrain: 40 updates in 0:30\n")


def test_a_run_that_goes_on_from_a_later_epoch_counts_only_what_is_left():
    stream, clock = io.StringIO(), Clock()
    with TrainingDisplay(4, 10, 0, 12, stream=stream, clock=clock) as display:
        display.start_epoch(3)
        for _ in range(10):
            clock.now += 1
            display.after_update(16, LossSum(), 1)
    assert stream.getvalue().splitlines()[0] == "train 75%: epoch 3/4, loss 0.000, 16 images/s, 0:10 left"
