"""The networks of the paper at their full size: one step on two samples, in less than 8 GB."""

import os
import subprocess
import sys

import pytest

CODE = """
import resource, sys, time, torch
from dus_gym.encoders import build_encoder, width
torch.set_num_threads(1)
word, shape = sys.argv[1], tuple(map(int, sys.argv[2].split(",")))
torch.manual_seed(0)
encoder = build_encoder(word, shape)
batch = torch.randint(1, 30000, (2, *shape)) if len(shape) == 1 else torch.randn(2, *shape)
start = time.monotonic()
features = encoder(batch)
features.square().mean().backward()
assert features.shape == (2, width(encoder)) and features.isfinite().all()
assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
weights = sum(p.numel() for p in encoder.parameters())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(width(encoder), weights, f"{peak:.2f}", f"{time.monotonic() - start:.1f}")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "shape", "width", "millions"),
    [
        ("resnet18", "1,257,1003", 512, 11.2),
        ("resnet18", "3,3,224,224", 512, 11.2),
        # 23.5 without its classifier, and 2048·1024 of the projection.
        ("resnet50", "3,224,224", 1024, 25.6),
        # 109.5 with its pooler, and 768·1024.
        ("bert:weights=none", "64", 1024, 110.3),
        # 63.4 and 87.8 with their projections, and 512·1024 each.
        ("clip-text:weights=none", "77", 1024, 64.0),
        ("clip-image:weights=none", "3,224,224", 1024, 88.4),
        ("i3d", "3,64,224,224", 1024, 12.3),
        ("i3d", "2,80,224,224", 1024, 12.3),
        ("i3d", "1,64,224,224", 1024, 12.2),
    ],
)
def test_a_step_of_the_full_network_on_two_samples(word, shape, width, millions):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE, word, shape], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    features, weights, gigabytes, seconds = done.stdout.split()
    print(f"{word} {shape}: {int(weights) / 1e6:.1f} million weights, {gigabytes} GiB, {seconds} s")
    assert int(features) == width
    assert int(weights) / 1e6 == pytest.approx(millions, abs=0.06)
    assert float(gigabytes) < 8
