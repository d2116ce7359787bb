"""Any compiled Keras model: our loop if it does the same as ``fit``, else ``fit`` itself."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

from tasks.data.dataset import Dataset
from tasks.preprocess import Examples, preprocess
from tasks.training.fit import fit, supports_graph, supports_xla

BATCH = 50


@pytest.fixture(scope="module")
def examples(few: Dataset) -> Examples:
    """130: not a multiple of the batch size."""
    return preprocess.fn(few)[0][:130]


def network(*hidden: Any, optimizer: Any = "sgd", **compiled: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10, activation="softmax")])
    model.compile(optimizer, **{"loss": "categorical_crossentropy", **compiled})
    return model


def twin(model: keras.Model) -> keras.Model:
    """A copy with the same weights and its own optimizer."""
    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    config = model.get_compile_config()
    made.compile_from_config(config)
    return made


def fitted(model: keras.Model, examples: Examples, epochs: int = 1) -> list[tuple[float, float]]:
    curve: list[tuple[float, float]] = []
    fit(
        model, examples, epochs=epochs, batch_size=BATCH, seed=0,
        on_epoch_end=lambda loss, accuracy: curve.append((loss, accuracy)),
    )  # fmt: skip
    assert len(curve) == epochs
    return curve


def fitted_by_keras(model: keras.Model, examples: Examples) -> float:
    """The loss of one epoch of Keras' ``fit``, in the order of seed 0."""
    shuffled = examples[np.random.default_rng(0).permutation(len(examples))]
    history = model.fit(
        shuffled.inputs, shuffled.targets, batch_size=BATCH, shuffle=False, verbose=0
    )
    return float(history.history["loss"][0])


def assert_alike(model: keras.Model, other: keras.Model) -> None:
    for weight, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-5)


def assert_ends_where_fit_ends(model: keras.Model, examples: Examples) -> None:
    other = twin(model)
    ((loss, _),) = fitted(model, examples)
    assert loss == pytest.approx(fitted_by_keras(other, examples), rel=1e-4)
    assert_alike(model, other)


QUICK = ["SGD", "RMSprop", "Adam"]
OTHERS = [
    "AdamW", "Adagrad", "Adadelta", "Adamax", "Nadam", "Ftrl", "Lion", "Lamb", "Adafactor",
]  # fmt: skip
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


@pytest.mark.parametrize("name", NAMES)
def test_each_optimizer_of_keras_compiled_by_xla_ends_where_fit_ends(
    name: str, examples: Examples
) -> None:
    model = network(layers.Dense(16, activation="relu"), optimizer=getattr(optimizers, name)(1e-3))
    assert supports_graph(model)
    assert supports_xla(model.optimizer, model.trainable_weights)
    assert_ends_where_fit_ends(model, examples)
    assert int(model.optimizer.iterations) == 3


def scheduled() -> optimizers.Optimizer:
    schedule = optimizers.schedules.ExponentialDecay(0.01, decay_steps=1, decay_rate=0.5)
    return optimizers.SGD(schedule, momentum=0.9, clipnorm=0.5, weight_decay=0.01, use_ema=True)


@keras.saving.register_keras_serializable()
class Reciprocal(optimizers.schedules.LearningRateSchedule):
    """A user's schedule that XLA cannot compile: it calls Python."""

    def __call__(self, step: Any) -> Any:
        import tensorflow as tf

        rate = tf.numpy_function(lambda at: np.float32(0.1 / (1 + at)), [step], tf.float32)
        return tf.ensure_shape(rate, ())

    def get_config(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("hidden", "optimizer"),
    [
        ([layers.Dense(8, kernel_regularizer="l2", kernel_constraint="non_neg")], "sgd"),
        ([layers.Dense(8), layers.BatchNormalization(), layers.ReLU()], "sgd"),
        ([layers.Reshape((28, 28, 1)), layers.Conv2D(2, 5, 2), layers.Flatten()], "adam"),
        ([layers.Dense(8)], scheduled),
        ([layers.Dense(8)], lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.01))),
        ([layers.Dense(8, trainable=False), layers.ReLU()], "rmsprop"),
        ([layers.Embedding(256, 1), layers.Flatten()], "rmsprop"),
        ([layers.Dense(8)], lambda: optimizers.Adam(gradient_accumulation_steps=2)),
        ([layers.Dense(8)], lambda: optimizers.LossScaleOptimizer(optimizers.SGD(Reciprocal()))),
    ],
    ids=[
        "regularised",
        "normalised",
        "convolution",
        "schedule and clipping",
        "loss scaling",
        "a frozen layer",
        "an embedding",
        "accumulated gradients",
        "a user's schedule, loss scaling",
    ],
)
def test_a_model_with_this_part_ends_where_fit_ends(
    hidden: list[Any], optimizer: Any, examples: Examples
) -> None:
    model = network(*hidden, optimizer=optimizer() if callable(optimizer) else optimizer)
    assert supports_graph(model)
    assert_ends_where_fit_ends(model, examples)


def test_a_model_in_bfloat16_is_trained_in_bfloat16(examples: Examples) -> None:
    model = network(layers.Dense(16, dtype="mixed_bfloat16"), optimizer=optimizers.SGD(0.1))
    assert supports_graph(model)
    assert model.layers[0].compute_dtype == "bfloat16"
    losses = [loss for loss, _ in fitted(model, examples, epochs=5)]
    assert losses[-1] < losses[0]
    assert {weight.dtype for weight in model.get_weights()} == {np.dtype("float32")}


class Halving(optimizers.Optimizer):
    """A user's optimizer that XLA cannot compile: it calls Python."""

    def __init__(self) -> None:
        super().__init__(learning_rate=1.0)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        import tensorflow as tf

        halved = tf.numpy_function(lambda value: value / 2, [variable], tf.float32)
        variable.assign(tf.reshape(halved, variable.shape))


def test_an_optimizer_that_xla_cannot_compile_is_left_to_tensorflow(examples: Examples) -> None:
    model = network(optimizer=Halving())
    before = model.get_weights()[0]
    assert supports_graph(model)
    assert not supports_xla(model.optimizer, model.trainable_weights)
    fitted(model, examples)
    np.testing.assert_array_equal(model.get_weights()[0], before / 8)


class Counting(keras.Sequential):
    """A model whose own training step counts its calls."""

    def train_step(self, data: Any) -> Any:
        self.steps = getattr(self, "steps", 0) + 1
        return super().train_step(data)


class Subclassed(keras.Model):
    """A network that is defined by its call alone."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = layers.Dense(10, activation="softmax")

    def call(self, x: Any) -> Any:
        return self.answer(x)


def test_a_training_step_of_its_own_is_called(examples: Examples) -> None:
    model = Counting([keras.Input((784,)), layers.Dense(10, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    assert not supports_graph(model)
    fitted(model, examples)
    assert model.steps >= 1  # it is traced
    assert int(model.optimizer.iterations) == 3


class Silent(keras.Sequential):
    """A model whose training step does not return the loss."""

    def train_step(self, data: Any) -> Any:
        return {"steps": super().train_step(data)["loss"]}


def test_a_training_step_that_returns_no_loss_is_one_clear_message(examples: Examples) -> None:
    model = Silent([keras.Input((784,)), layers.Dense(10, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ValueError, match="expected loss among the returned logs, received steps"):
        fitted(model, examples)


class OwnLoss(keras.Sequential):
    """A model that computes its own loss."""

    def compute_loss(self, *arguments: Any, **named: Any) -> Any:
        return 2 * super().compute_loss(*arguments, **named)


def test_a_model_that_our_loop_does_not_support_goes_to_fit() -> None:
    x, y = keras.Input((784,)), layers.Dense(10)
    own_loss = OwnLoss([keras.Input((784,)), layers.Dense(10)])
    answer = y(x)
    two_inputs = keras.Model([x, keras.Input((2,))], answer)
    two_outputs = keras.Model(x, [answer, layers.Dense(3)(x)])
    patched = keras.Sequential([keras.Input((784,)), layers.Dense(10)])
    patched.train_step = lambda data: {}
    for model in (own_loss, two_inputs, two_outputs, patched):
        model.compile("sgd", "mse")
        assert not supports_graph(model), model


@pytest.mark.parametrize("eager", [False, True])
def test_a_model_that_names_its_output_ends_where_fit_ends(eager: bool, examples: Examples) -> None:
    keras.utils.set_random_seed(1)
    x = keras.Input((784,))
    model = keras.Model(x, {"digit": layers.Dense(10, activation="softmax")(x)})
    model.compile("sgd", "categorical_crossentropy", run_eagerly=eager)
    assert supports_graph(model) is not eager
    assert_ends_where_fit_ends(model, examples)


def test_a_loss_that_is_not_reduced_ends_where_fit_ends(examples: Examples) -> None:
    model = network(layers.Dense(8), loss=keras.losses.CategoricalCrossentropy(reduction=None))
    assert supports_graph(model)
    assert_ends_where_fit_ends(model, examples)


def test_a_model_without_trainable_weights_keeps_its_weights(examples: Examples) -> None:
    model = network(layers.Dense(8, trainable=False))
    model.layers[-1].trainable = False
    before = model.get_weights()
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        ((loss, accuracy),) = fitted(model, examples)
    assert loss > 0
    assert 0 <= accuracy <= 1
    for weight, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, was)


def test_training_continues_where_an_earlier_one_ended(examples: Examples) -> None:
    def accelerated() -> optimizers.Optimizer:
        return optimizers.LossScaleOptimizer(optimizers.SGD(0.01, momentum=0.9))

    model = network(layers.Dense(8), optimizer=accelerated())
    other = twin(model)
    for _ in range(2):
        fitted(model, examples)
        fitted_by_keras(other, examples)
    assert_alike(model, other)
    assert len(model.optimizer.variables) == len(other.optimizer.variables)


@pytest.mark.parametrize("metrics", [["accuracy"], None])
@pytest.mark.parametrize("kind", ["subclassed", "eager"])
def test_a_model_that_our_loop_does_not_support_is_trained_by_fit_in_our_order(
    kind: str, metrics: list[str] | None, examples: Examples
) -> None:
    if kind == "subclassed":
        model: keras.Model = Subclassed()
        model.compile("sgd", "categorical_crossentropy", metrics=metrics)
        model(examples.inputs[:1])
    else:
        model = network(metrics=metrics, run_eagerly=True)
    assert not supports_graph(model)
    other = network(metrics=metrics)
    other.set_weights(model.get_weights())
    ((loss, accuracy),) = fitted(model, examples)
    assert loss == pytest.approx(fitted_by_keras(other, examples), rel=1e-5)
    assert_alike(model, other)
    if metrics:
        expected = other.history.history["accuracy"][0]
    else:
        predicted = other.predict(examples.inputs, verbose=0).argmax(axis=1)
        expected = (predicted == examples.labels).mean()
    assert accuracy == pytest.approx(expected)


@pytest.mark.parametrize("eager", [True, False])
def test_each_epoch_takes_each_example_once_in_a_new_order(eager: bool) -> None:
    # Each image has ink in one pixel of its own, by which the first layer identifies it.
    seen: list[int] = []

    class Noting(layers.Layer):
        def call(self, x: Any) -> Any:
            import tensorflow as tf

            def note(values: Any) -> Any:
                seen.extend(values.argmax(axis=1).tolist())
                return values

            noted = tf.numpy_function(note, [x], tf.float32)
            return tf.ensure_shape(noted, x.shape)

    pixels = np.eye(130, 784, dtype=np.uint8) * 255
    one_each = Examples(pixels, np.arange(130, dtype=np.uint8) % 10)
    model = network(Noting(), metrics=["accuracy"], run_eagerly=eager)
    seen.clear()
    fitted(model, one_each, epochs=2)
    assert supports_graph(model) is not eager
    first, second = seen[:130], seen[130:]
    assert sorted(first) == sorted(second) == list(range(130))
    assert first != second
    shuffler = np.random.default_rng(0)
    assert first == shuffler.permutation(130).tolist()
    assert second == shuffler.permutation(130).tolist()


@pytest.mark.parametrize("eager", [True, False])
def test_an_exception_at_the_end_of_an_epoch_ends_the_training(
    eager: bool, examples: Examples
) -> None:
    ends = []

    def stop(loss: float, accuracy: float) -> None:
        ends.append(loss)
        raise RuntimeError("enough")

    model = network(run_eagerly=eager)
    with pytest.raises(RuntimeError, match="enough"):
        fit(model, examples, epochs=3, batch_size=BATCH, seed=0, on_epoch_end=stop)
    assert len(ends) == 1


def test_the_accuracy_leaves_out_what_became_no_digit(examples: Examples) -> None:
    def doubt_all_but_zeros(x: Any, y: Any, step: Any) -> tuple[Any, Any]:
        return x, tf.where(y[:, :1] > 0, y, 0.1)

    model = network(optimizer=optimizers.SGD(0.0))
    model.set_weights([np.zeros((784, 10)), np.eye(10)[0]])  # always answers 0
    curve: list[float] = []
    fit(
        model, examples, epochs=1, batch_size=BATCH, seed=0, augment=doubt_all_but_zeros,
        on_epoch_end=lambda _, accuracy: curve.append(accuracy),
    )  # fmt: skip
    assert curve == [1.0]
