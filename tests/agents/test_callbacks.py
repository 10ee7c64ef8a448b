"""DUS as a callback of Lightning and of Hugging Face's Trainer, with the real libraries."""

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from dus_gym import DUS, true_class_probability
from dus_gym.errors import CheckpointError, ConfigError

N, EPOCHS = 48, 3


def made_up(n, seed):
    """Two views of two classes, the first the clearer one."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    return torch.randn(n, 4, generator=rng) + 2 * y[:, None], torch.randn(n, 3, generator=rng) + y[:, None], y


class Net(torch.nn.Module):
    """A head per view, and the sum of their logits on the rows that both have."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.heads = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 2), "b": torch.nn.Linear(3, 2)})
        self.sizes = []

    def forward(self, a, b):
        if self.training:
            self.sizes.append((len(a[1]), len(b[1])))
        logits = {name: self.heads[name](x) for name, (x, _) in (("a", a), ("b", b))}
        loss = sum(torch.nn.functional.cross_entropy(logits[name], y) for name, (_, y) in (("a", a), ("b", b)))
        sure = {name: true_class_probability(logits[name], y) for name, (_, y) in (("a", a), ("b", b))}
        return {"loss": loss, "true_class_probability": sure}


def kit(**options):
    a, b, y = made_up(N, 1)
    dus = DUS(["a", "b"], batch_size=8, epochs=EPOCHS, agent="holdout", seed=2, **options)
    return dus, dus.loaders({"a": a, "b": b}, y)


def validation():
    a, b, y = made_up(16, 2)
    return [{"a": (a[i], y[i]), "b": (b[i], y[i])} for i in range(16)]


@pytest.fixture(scope="module")
def by_hand():
    """What a loop of one's own comes to."""
    dus, loaders = kit()
    net = Net()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    held_out = default_collate(validation())
    for _ in loaders.epochs():
        for batch in loaders:
            optimiser.zero_grad()
            found = net(**batch)
            found["loss"].backward()
            optimiser.step()
            dus.observe(found["true_class_probability"])
        net.eval()
        dus.observe_validation(net(**held_out)["true_class_probability"])
        net.train()
    assert len(set(net.sizes)) == EPOCHS
    return dus, net


def same_run(dus, net, by_hand, start=0):
    expected, trained = by_hand
    assert net.sizes == trained.sizes[start:]
    for entry, other in zip(dus.history, expected.history, strict=True):
        assert entry["sizes"] == other["sizes"]
        for scores in ("scores", "train_scores", "val_scores"):
            assert entry[scores] == pytest.approx(other[scores], abs=1e-6)
    for name, weight in trained.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], weight, rtol=1e-5, atol=1e-6)


# -- Lightning --------------------------------------------------------------------------------------


@pytest.fixture
def fit(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    from dus_gym.agents.lightning import DUSCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def training_step(self, batch, index):
            return self.net(**batch)

        validation_step = training_step

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    def run(dus, loaders, checkpoint=None, **options):
        module = Module()
        saving = lightning.callbacks.ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
        trainer = lightning.Trainer(
            max_epochs=EPOCHS,
            callbacks=[DUSCallback(dus, loaders), saving],
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **options,
        )
        trainer.fit(module, loaders, DataLoader(validation(), batch_size=5), ckpt_path=checkpoint)
        return trainer, module.net

    return run


def test_lightning_makes_the_run_of_a_loop_by_hand_and_goes_on_from_its_checkpoint(fit, by_hand, tmp_path):
    dus, loaders = kit()
    _, net = fit(dus, loaders)
    same_run(dus, net, by_hand)
    for steps in (4, 9):
        dus, loaders = kit()
        _, net = fit(dus, loaders, tmp_path / f"step={steps}.ckpt")
        same_run(dus, net, by_hand, start=steps)


def test_lightning_goes_on_after_the_epoch_that_it_stopped_at(fit, by_hand, tmp_path):
    trainer, _ = fit(*kit(), max_steps=6)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    dus, loaders = kit()
    _, net = fit(dus, loaders, tmp_path / "stopped.ckpt")
    same_run(dus, net, by_hand, start=6)


def test_an_epoch_that_lightning_cuts_short_is_an_epoch(fit):
    dus, loaders = kit()
    _, net = fit(dus, loaders, limit_train_batches=2)
    assert [entry["iterations"] for entry in dus.history] == [2, 4, 6]
    assert len(net.sizes) == 6


# -- Hugging Face -----------------------------------------------------------------------------------


@pytest.fixture
def trainer(tmp_path):
    pytest.importorskip("accelerate")
    import transformers

    from dus_gym.agents.hf_trainer import DUSTrainerCallback

    def made(dus, loaders, **options):
        class Balanced(transformers.Trainer):
            def get_train_dataloader(self):
                return loaders

        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "trainer"),
            num_train_epochs=EPOCHS,
            eval_strategy="epoch",
            save_steps=1,
            learning_rate=0.5,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            optim="sgd",
            prediction_loss_only=True,
            per_device_eval_batch_size=5,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            **{"save_strategy": "steps"} | options,
        )
        callback = DUSTrainerCallback(dus, loaders)
        net = Net()
        made = Balanced(net, arguments, eval_dataset=validation(), data_collator=default_collate, callbacks=[callback])
        return made, callback, net

    return made


@pytest.mark.parametrize(("saved", "stops"), [("steps", (4, 9)), ("epoch", (6,))])
def test_the_trainer_makes_the_run_of_a_loop_by_hand_and_goes_on_from_its_checkpoint(
    trainer, by_hand, tmp_path, saved, stops
):
    dus, loaders = kit()
    whole, _, net = trainer(dus, loaders, save_strategy=saved)
    whole.train()
    same_run(dus, net, by_hand)
    assert not net._forward_hooks
    for steps in stops:
        folder = tmp_path / "trainer" / f"checkpoint-{steps}"
        dus, loaders = kit()
        resumed, callback, net = trainer(dus, loaders, ignore_data_skip=True)
        callback.load(folder)
        resumed.train(resume_from_checkpoint=str(folder))
        same_run(dus, net, by_hand, start=steps)


def test_the_trainer_says_what_a_resumed_training_needs(trainer, tmp_path):
    dus, loaders = kit()
    forgetful, callback, _ = trainer(dus, loaders)
    with pytest.raises(CheckpointError, match=r"dus.pt does not exist"):
        callback.load(tmp_path)
    loaders.next_epoch()
    with pytest.raises(ConfigError, match="ignore_data_skip=False is not allowed here"):
        forgetful.train()


# -- both -------------------------------------------------------------------------------------------


def test_a_callback_refuses_what_it_can_not_do():
    from dus_gym.agents.callbacks import Watching

    with pytest.raises(ConfigError, match="interval=5 is not allowed: callbacks decide once per epoch"):
        Watching(*kit(interval=5))
    watching = Watching(*kit())
    watching.loaders.next_epoch()
    for outputs in (torch.tensor(1.0), {"loss": torch.tensor(1.0)}):
        with pytest.raises(ConfigError, match="a step's output has no 'true_class_probability'; return a dict"):
            watching.see_training(outputs)
