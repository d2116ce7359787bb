"""The seed recipe in PyTorch: eager, or with ``--compile`` through `torch.compile`.

Takes a seed and a folder with MNIST's four IDX files.
"""

import json
import sys
import time

import mnist
import torch
from torch import nn

torch.manual_seed(int(sys.argv[1]))
x_train, y_train, x_test, y_test = map(torch.from_numpy, mnist.read())
y_train, y_test = y_train.long(), y_test.long()
started = time.perf_counter()
model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
for layer in (model[0], model[2]):
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.001, alpha=0.9, eps=1e-7)
loss_of = nn.CrossEntropyLoss()


def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """One batch."""
    loss = loss_of(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


if "--compile" in sys.argv:
    step = torch.compile(step)
for _ in range(10):
    total = torch.zeros(())
    for batch in torch.randperm(len(x_train)).split(128):
        total += step(x_train[batch], y_train[batch]) * len(batch)
    print(f"loss {total.item() / len(x_train):.4f}", file=sys.stderr)
fit_s = time.perf_counter() - started
with torch.no_grad():
    right = model(x_test).argmax(dim=1) == y_test
print(json.dumps({"fit_s": fit_s, "accuracy": right.double().mean().item()}))
