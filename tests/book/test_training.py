import copy
import dataclasses
import time
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from maso import MasoError
from maso_book.networks import resnet, small_cnn
from maso_book.training import OutOfTime, Training, accuracy, augmented, fit, fit_many, scaled, settings
from maso_book.training.samples import Samples, draw_moves


class Own(nn.Module):
    """A network that is not in the package: two paths, a parameter of its own, one that is frozen, and dropout."""

    def __init__(self, dropout: float = 0.1):
        super().__init__()
        self.left, self.right = nn.Linear(2, 16), nn.Linear(2, 16)
        self.norm, self.drop, self.out = nn.BatchNorm1d(16), nn.Dropout(dropout), nn.Linear(16, 2)
        self.gain = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.randn(16), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.relu(self.left(x)) - self.gain * torch.relu(self.right(x)) + self.offset
        return self.out(self.drop(torch.relu(self.norm(both))))


def problem():
    torch.manual_seed(0)
    x = torch.randn(200, 2)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def network(seed=1, dropout=0.1):
    torch.manual_seed(seed)
    return Own(dropout)


def weights(model):
    return torch.cat([v.detach().flatten().double() for v in model.state_dict().values()])


# One ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
def test_it_learns_and_reports(schedule):
    (x, y), seen = problem(), []
    model = network()
    training = Training(epochs=40, batch=50, lr=0.02, schedule=schedule)
    history = fit(model, x, y, training, validation=(x, y), on_epoch=lambda e, m: seen.append((e, m.training)))
    assert history.validation_accuracy[-1] > 0.9
    assert history.validation_accuracy[-1] == accuracy(model, x, y)
    assert history.loss[-1] < history.loss[0]
    assert [len(a) for a in (history.loss, history.accuracy, history.seconds)] == [40, 40, 40]
    assert seen == [(e, False) for e in range(41)]
    assert not model.training
    assert not history.diverged


def test_the_schedule_goes_up_and_down_to_zero():
    rates = [Training(lr=2.0, schedule="one-cycle").rate(step, 100) for step in range(100)]
    assert max(rates) == rates[24] == 2.0
    assert rates[:25] == sorted(rates[:25])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] < 0.03


def test_a_seed_fixes_everything_and_leaves_the_callers_random_numbers_alone():
    x, y = problem()
    models = [network() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        before = torch.get_rng_state()
        fit(model, x, y, Training(epochs=2, batch=50, seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(7)
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


def test_divergence_stops_and_is_reported():
    x, y = problem()
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    history = fit(model, x, y, Training(epochs=50, lr=1e30))
    assert history.diverged
    assert len(history.loss) < 50


def test_images_are_scaled_and_augmented_on_the_way():
    x = torch.randint(0, 256, (8, 3, 6, 6), dtype=torch.uint8)
    assert scaled(x).max() <= 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 2))
    fit(model, x, torch.arange(8) % 2, Training(epochs=1, batch=3, augment=True))


def test_augmentation_only_moves_and_flips():
    images = torch.rand(50, 2, 5, 7) + 1
    moved = augmented(images, draw_moves(50, torch.Generator().manual_seed(0), shift=2), shift=2)
    assert moved.shape == images.shape
    padded = nn.functional.pad(images, [2] * 4)
    for image, source in zip(moved, padded, strict=True):
        windows = [source[:, i : i + 5, j : j + 7] for i in range(5) for j in range(5)]
        flipped = [source.flip(2)[:, i : i + 5, j : j + 7] for i in range(5) for j in range(5)]
        assert any(torch.equal(image, w) for w in windows + flipped)


def test_only_the_same_samples_are_kept_once():
    x, y = torch.randn(4, 3, 3), torch.zeros(4, dtype=torch.int64)
    samples = Samples([x, x.mT, x[:]], [y] * 3, [Training()] * 3, torch.device("cpu"))
    assert torch.equal(samples.x[1], x.mT)
    assert samples.x[0] is samples.x[2]


# Checkpoints ----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def kill_after(epoch):
    def on_epoch(*at):
        if at[-2] == epoch:
            raise Killed

    return on_epoch


def images():
    return torch.randint(0, 256, (40, 3, 22, 22), dtype=torch.uint8), torch.arange(40) % 10


@pytest.mark.parametrize("kind", ["points", "images"])
def test_a_resumed_run_gives_the_same_weights_bit_for_bit(kind, tmp_path):
    x, y = problem() if kind == "points" else images()
    make = network if kind == "points" else lambda: cnn(1)
    training = Training(6, 50, 0.02, 0.01, "one-cycle", augment=kind == "images", seed=3)
    whole, stopped, seen, file = make(), make(), [], tmp_path / "new" / "checkpoint.npz"
    history = fit(whole, x, y, training, validation=(x, y))
    with pytest.raises(Killed):
        fit(stopped, x, y, training, validation=(x, y), checkpoint=file, on_epoch=kill_after(4))
    resumed = make()
    again = fit(resumed, x, y, training, validation=(x, y), checkpoint=file, on_epoch=lambda e, m: seen.append(e))
    assert seen == [4, 5, 6]
    assert torch.equal(weights(resumed), weights(whole))
    for name in ("loss", "accuracy", "validation_accuracy"):
        assert (getattr(again, name) == getattr(history, name)).all()

    finished = make()
    fit(finished, x, y, training, validation=(x, y), checkpoint=file, on_epoch=lambda e, m: seen.append(e))
    assert seen == [4, 5, 6]  # nothing is left to do
    assert torch.equal(weights(finished), weights(whole))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(tmp_path):
    x, y = problem()
    file = tmp_path / "checkpoint.npz"
    fit(network(), x, y, Training(epochs=1), checkpoint=file)
    for change in ((x, 1 - y, Training(epochs=1)), (x, y, Training(epochs=2)), (x[:, :, None], y, Training(epochs=1))):
        with pytest.raises(MasoError, match="another training"):
            fit(network(), *change, checkpoint=file)
    whole = file.read_bytes()
    entry = whole.index(b"PK\x01\x02")
    odd = whole[: entry + 10] + b"\x63" + whole[entry + 11 :]  # a compression that there is not
    for garbage in (whole[:100], b"PK\x03\x04", odd):
        file.write_bytes(garbage)
        with pytest.raises(MasoError, match="damaged"):
            fit(network(), x, y, Training(epochs=1), checkpoint=file)


def test_the_deadline_stops_between_epochs_and_the_same_call_goes_on(tmp_path, monkeypatch):
    x, y = problem()
    file, whole, model = tmp_path / "checkpoint.npz", network(), network()
    training = Training(epochs=4)
    fit(whole, x, y, training)
    with pytest.raises(OutOfTime, match="0 of 4 epochs"):
        fit(model, x, y, training, checkpoint=file, deadline=time.monotonic() - 1)
    assert not file.exists()

    ticks = iter((0, 1000, 2000))
    monkeypatch.setattr(settings, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with pytest.raises(OutOfTime, match="2 of 4 epochs"):
        fit(model, x, y, training, checkpoint=file, deadline=1500)
    monkeypatch.undo()
    fit(model, x, y, training, checkpoint=file, deadline=time.monotonic() + 60)
    assert torch.equal(weights(model), weights(whole))


# Many -----------------------------------------------------------------------------------------------------------------

ARMS = [
    Training(3, 24, 0.02, seed=3),
    Training(3, 24, 0.005, 0.1, schedule="one-cycle", seed=4),
    Training(3, 24, 0.01, 0.3, seed=4),
]


def arms(make, x, y):
    """Three copies with their own initial weights, samples and labels, in double precision."""
    labels = [y, y[torch.randperm(len(y))], y]
    return [make(seed).double() for seed in range(3)], [x, x, x.flip(0)], labels


def dense(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 16, False), nn.BatchNorm1d(16), nn.LeakyReLU(), nn.Dropout(0.0), nn.Linear(16, 2))


def cnn(seed):
    torch.manual_seed(seed)
    return small_cnn((3, 22, 22), bias=False)  # a bias before a BatchNorm learns from rounding alone


def residual(seed):
    torch.manual_seed(seed)
    return resnet((4, 8), 1, bias=False)


@pytest.mark.parametrize("make", [dense, cnn, residual])
@pytest.mark.parametrize("augment", [False, True])
def test_many_at_once_are_as_one_by_one(make, augment):
    x, y = problem() if make is dense else images()
    if x.ndim != 4 and augment:
        pytest.skip("points are not augmented")
    trainings = [dataclasses.replace(arm, augment=augment) for arm in ARMS]
    models, xs, ys = arms(make, x.double() / (255 if x.ndim == 4 else 1), y)
    alone, seen = copy.deepcopy(models), []
    validation = (xs[0], y)
    together = fit_many(models, xs, ys, trainings, validation=validation, on_epoch=lambda *at: seen.append(at[:2]))
    for one, many, history, *data in zip(alone, models, together, xs, ys, trainings, strict=True):
        expected = fit(one, *data, validation=validation)
        assert (weights(one) - weights(many)).abs().max() < 1e-8
        assert abs(history.loss - expected.loss).max() < 1e-6  # the sums are in single precision
        assert (history.accuracy == expected.accuracy).all()
        assert (history.validation_accuracy == expected.validation_accuracy).all()
        assert not many.training
    assert seen == [(number, epoch) for epoch in range(4) for number in range(3)]


def test_one_copy_that_diverges_does_not_touch_the_others():
    x, y = images()
    trainings = [ARMS[0], dataclasses.replace(ARMS[1], schedule="constant", lr=1e200), ARMS[2]]
    models, xs, ys = arms(cnn, x.double() / 255, y)
    alone, seen = copy.deepcopy(models), []
    histories = fit_many(models, xs, ys, trainings, on_epoch=lambda *at: seen.append(at[:2]))
    assert [history.diverged for history in histories] == [False, True, False]
    assert len(histories[1].loss) < 3
    assert (1, 3) not in seen
    for one, many, *data in list(zip(alone, models, xs, ys, trainings, strict=True))[::2]:
        fit(one, *data)
        assert (weights(one) - weights(many)).abs().max() < 1e-8


@pytest.mark.parametrize("diverging", [0, 1])
def test_many_resume_bit_for_bit_also_after_a_divergence(diverging, tmp_path):
    x, y = problem()
    trainings = list(ARMS)
    trainings[diverging] = dataclasses.replace(ARMS[2], lr=1e200)
    whole, xs, ys = arms(dense, x.double(), y)
    for model in whole:
        model[3].p = 0.1
    resumed, file = copy.deepcopy(whole), tmp_path / "checkpoint.npz"
    histories = fit_many(whole, xs, ys, trainings)
    with pytest.raises(Killed):
        fit_many(resumed, xs, ys, trainings, checkpoint=file, on_epoch=kill_after(3))
    resumed = [copy.deepcopy(resumed[0]) for _ in resumed]
    again = fit_many(resumed, xs, ys, trainings, checkpoint=file)
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(weights(one).nan_to_num(), weights(other).nan_to_num())
    for history, other in zip(again, histories, strict=True):
        assert history.loss.tolist() == pytest.approx(other.loss.tolist(), rel=0, abs=0, nan_ok=True)
    assert [history.diverged for history in again] == [number == diverging for number in range(3)]
    with pytest.raises(OutOfTime):
        fit_many(
            [dense(0).double() for _ in xs],
            xs,
            ys,
            ARMS,
            checkpoint=tmp_path / "other.npz",
            deadline=time.monotonic() - 1,
        )


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"epochs": -1}, {"batch": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"weight_decay": -1}, {"schedule": "x"}]
)
def test_bad_settings_are_refused(change):
    with pytest.raises(MasoError, match=r"expected|schedule"):
        Training(**change)


def test_bad_data_are_refused():
    x, y = problem()
    for labels in (y[:5], y.float(), y[:, None]):
        with pytest.raises(MasoError, match="labels"):
            fit(network(), x, labels, Training())
    with pytest.raises(MasoError, match="images"):
        fit(network(), x, y, Training(augment=True))
    with pytest.raises(MasoError, match="checkpoint"):
        fit(network(), x, y, Training(), deadline=time.monotonic())


def test_copies_that_do_not_fit_together_are_refused():
    x, y = problem()
    two, trainings = [network(), network()], [Training(), Training()]
    for wrong, message in (
        (([], [], [], []), "one of each"),
        ((two, [x], [y, y], trainings), "one of each"),
        (([network(), nn.Linear(2, 2)], [x, x], [y, y], trainings), "copies of one network"),
        ((two, [x, x[:50]], [y, y[:50]], trainings), "same shape"),
        ((two, [x, x], [y, y], [Training(), Training(epochs=2)]), "epochs, batch or augment"),
        ((two, [x, x], [y, y[:5]], trainings), "labels"),
        ((two, [x, x], [y, y], trainings), "cannot be stacked"),
        (([nn.Sequential(nn.LayerNorm(2)) for _ in two], [x, x], [y, y], trainings), "cannot be stacked"),
    ):
        with pytest.raises(MasoError, match=message):
            fit_many(*wrong)
