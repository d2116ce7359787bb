"""Two published convolutional networks in PyTorch.

Takes a seed, a folder with MNIST's four IDX files, the number of epochs, and which of them:

- ``example``: PyTorch's examples/mnist, with images shuffled (on a CPU the original does not) and
  without torchvision's loader, which decodes each image anew.
- ``tinygrad``: tinygrad's examples/beautiful_mnist.py. tinygrad needs clang or LLVM on a CPU and is
  slower there than PyTorch.
"""

import sys
from collections.abc import Iterator

import mnist
import torch
from clock import Clock
from torch import nn

Batch = tuple[torch.Tensor, torch.Tensor]


def example() -> nn.Module:
    """Two convolutions, dropout, two dense layers."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10),
    )  # fmt: skip


def tinygrad() -> nn.Module:
    """Two pairs of convolutions, each normalised and pooled."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5), nn.ReLU(), nn.Conv2d(32, 32, 5), nn.ReLU(),
        nn.BatchNorm2d(32), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(),
        nn.BatchNorm2d(64), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(576, 10),
    )  # fmt: skip


def batches() -> Iterator[torch.Tensor]:
    """The rows of an epoch's batches: shuffled, or drawn with repetition as tinygrad's are."""
    if is_tinygrad:
        yield from torch.randint(len(x_train), (len(x_train) // 512, 512))
    else:
        yield from torch.randperm(len(x_train)).split(64)


def accuracy() -> float:
    """The share of the test images that are right."""
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(part) for part in x_test.split(500)])
    model.train()
    return (answers.argmax(dim=1) == y_test).double().mean().item()


is_tinygrad = sys.argv[4] == "tinygrad"
x_train, y_train, x_test, y_test = map(torch.from_numpy, mnist.read())
x_train, x_test = x_train.reshape(-1, 1, 28, 28), x_test.reshape(-1, 1, 28, 28)
y_train = y_train.long()
clock = Clock()
torch.manual_seed(int(sys.argv[1]))
if is_tinygrad:  # it takes the pixels as they are, 0 to 255
    x_train, x_test = x_train * 255, x_test * 255
    model = tinygrad()
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters())
    decay = 1.0
else:
    x_train, x_test = (x_train - 0.1307) / 0.3081, (x_test - 0.1307) / 0.3081
    model = example()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    decay = 0.7
rates = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
loss_of = nn.CrossEntropyLoss()
for _ in range(int(sys.argv[3])):
    for rows in batches():
        optimizer.zero_grad()
        loss_of(model(x_train[rows]), y_train[rows]).backward()
        optimizer.step()
    rates.step()
    if clock.epoch(accuracy):
        break
