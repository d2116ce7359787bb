"""Two published convolutional networks in Keras, trained by its ``fit``.

Takes a seed, a folder with MNIST's four IDX files, the number of epochs, and which of them:

- ``example``: Keras' code example "Simple MNIST convnet" (examples/vision/mnist_convnet.py).
- ``kaggle``: one of the 15 networks of Chris Deotte's Kaggle kernel "25 Million Images! [0.99757]
  MNIST", with its augmentation and learning rates.

Both hold out a tenth of the training images, as published. Their validation is left out.
"""

import os
import sys
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import keras
import mnist
import tensorflow as tf
from clock import Clock
from keras import layers

TRAINED_ON = 54_000


def example() -> list[keras.Layer]:
    """Two convolutions with pooling."""
    return [
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]


def kaggle() -> list[keras.Layer]:
    """Pairs of convolutions, each before one of stride 2; batch normalisation after each relu."""
    made: list[keras.Layer] = []
    for filters in (32, 64):
        for side, options in ((3, {}), (3, {}), (5, {"strides": 2, "padding": "same"})):
            convolution = layers.Conv2D(filters, side, activation="relu", **options)
            made += [convolution, layers.BatchNormalization()]
        made += [layers.Dropout(0.4)]
    made += [layers.Conv2D(128, 4, activation="relu"), layers.BatchNormalization()]
    return [*made, layers.Flatten(), layers.Dropout(0.4), layers.Dense(10, activation="softmax")]


def batches_of(seed: int) -> Any:
    """The augmented images of ``kaggle``, 64 at once, without a shorter last batch."""
    augment = tf.keras.preprocessing.image.ImageDataGenerator(
        rotation_range=10, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1
    )
    whole = TRAINED_ON // 64 * 64
    return augment.flow(x_train[:whole], y_train[:whole], batch_size=64, seed=seed)


def each_epoch(*_: object) -> None:
    """Evaluate, and end the training when that is enough."""
    model.stop_training = clock.epoch(accuracy)


def accuracy() -> float:
    """The share of the test images that are right."""
    answers = [model.predict_on_batch(x_test[at : at + 500]) for at in range(0, 10_000, 500)]
    return float((tf.concat(answers, 0).numpy().argmax(axis=1) == labels_test).mean())


seed, epochs = int(sys.argv[1]), int(sys.argv[3])
x_train, labels, x_test, labels_test = mnist.read()
x_train, x_test = x_train.reshape(-1, 28, 28, 1)[:TRAINED_ON], x_test.reshape(-1, 28, 28, 1)
y_train = keras.utils.to_categorical(labels)[:TRAINED_ON]
clock = Clock()
keras.utils.set_random_seed(seed)
after = keras.callbacks.LambdaCallback(on_epoch_end=each_epoch)
if sys.argv[4] == "kaggle":
    model = keras.Sequential([keras.Input((28, 28, 1)), *kaggle()])
    model.compile("adam", "categorical_crossentropy")
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3 * 0.95**epoch)
    model.fit(batches_of(seed), epochs=epochs, callbacks=[rates, after], verbose=0)
else:
    model = keras.Sequential([keras.Input((28, 28, 1)), *example()])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, 128, epochs=epochs, callbacks=[after], verbose=0)
