"""One thread a test process: small networks are slower with two, and two workers share the machine."""

import torch

torch.set_num_threads(1)
