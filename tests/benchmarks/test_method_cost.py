"""The cost of methods is measured phase by phase, against the reference in the same epochs."""

import pytest

from dus_gym.benchmarks.method_cost import Epoch, main, measure, ratios


def test_ratios_by_hand():
    reference = [Epoch("train", 1.0, 2.0), Epoch("train", 3.0, 4.0), Epoch("train", 1.0, 2.0)]
    found = ratios([Epoch("a", 2.0, 2.0), Epoch("b", 3.0, 8.0), Epoch("a", 4.0, 6.0)], reference)
    assert found == {"all": (9 / 5, 2.0), "a": (3.0, 2.0), "b": (1.0, 2.0)}
    assert ratios(reference, reference) == {"all": (1.0, 1.0)}


def test_every_epoch_is_measured_in_its_phase():
    found = measure("Digits", ["baseline", "reconboost", "di_mml:fusion=0.5"], 4, 3)
    assert [epoch.phase for epoch in found["baseline"]] == ["train"] * 4
    assert [epoch.phase for epoch in found["reconboost"]] == ["boost pixels", "rectify", "boost columns", "rectify"]
    assert [epoch.phase for epoch in found["di_mml:fusion=0.5"]] == ["encoders"] * 2 + ["fusion"] * 2
    for epochs in found.values():
        assert all(0.0 < epoch.step < epoch.whole for epoch in epochs)


def test_too_few_iterations_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["method_cost", "--iterations", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "use 3 or more" in capsys.readouterr().err
