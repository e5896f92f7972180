import pytest
import torch
from torch import nn

from maso import MasoError
from maso.training import Training, accuracy, augmented, fit, scaled


def problem():
    torch.manual_seed(0)
    x = torch.randn(200, 2)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


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


def test_a_seed_fixes_the_order_of_the_samples():
    x, y = problem()
    models = [network() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        model[3].p = 0.0
        fit(model, x, y, Training(epochs=2, batch=50, seed=seed))
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
    moved = augmented(images, torch.Generator().manual_seed(0), shift=2)
    assert moved.shape == images.shape
    padded = nn.functional.pad(images, [2] * 4)
    for image, source in zip(moved, padded, strict=True):
        windows = [source[:, i : i + 5, j : j + 7] for i in range(5) for j in range(5)]
        flipped = [source.flip(2)[:, i : i + 5, j : j + 7] for i in range(5) for j in range(5)]
        assert any(torch.equal(image, w) for w in windows + flipped)


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
