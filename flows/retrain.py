"""The night: load, check, train, measure, decide, and promote or reject."""

from prefect import flow
from prefect.client.schemas.objects import State

from storage.settings import read_settings
from tasks.build import build
from tasks.evaluate import evaluate
from tasks.gate import gate
from tasks.keras_import import import_keras_meanwhile
from tasks.load import load
from tasks.parameters import (
    Architecture,
    BatchSize,
    Epochs,
    LearningRate,
    MinAccuracy,
    Name,
    Seed,
)
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.recipe import make_recipe, run_name
from tasks.record import record
from tasks.report import report
from tasks.stage import stage
from tasks.train import train
from tasks.validate import validate


@flow(flow_run_name=run_name)
def retrain(
    dataset: str = "mnist",
    name: Name | None = None,
    architecture: Architecture = "mlp",
    epochs: Epochs = 10,
    batch_size: BatchSize = 128,
    learning_rate: LearningRate = 0.001,
    seed: Seed | None = None,
    min_accuracy: MinAccuracy | None = None,
) -> State[None]:
    """Train a challenger, and promote it if it passes the gate.

    Args:
        dataset: mnist, mnist-5k, or a folder with MNIST's four IDX files.
        name: Where runs and champions are kept; empty means the dataset's own name.
        architecture: The network: mlp (Dense 512) or cnn (two convolutions).
        epochs: Passes over the training images.
        batch_size: Images per step of the optimizer.
        learning_rate: Step size of the optimizer.
        seed: Decides initial weights and order of the images; empty draws one.
        min_accuracy: Share of the test images that has to be right; empty means the
            dataset's own (0.97, mnist-5k 0.90).
    """
    import_keras_meanwhile()
    recipe = make_recipe(
        dataset=dataset, name=name, architecture=architecture, epochs=epochs,
        batch_size=batch_size, learning_rate=learning_rate, seed=seed, min_accuracy=min_accuracy,
    )  # fmt: skip
    with record(recipe, read_settings()) as run:
        data = load(recipe.source)
        run.loaded(data)
        validate(data)
        training, test = preprocess(data)
        model = build(recipe)
        curve = train(model, training, recipe)
        run.trained(curve)
        evaluation = evaluate(model, test)
        stage(run, model, evaluation)
        decision = gate(evaluation, recipe.min_accuracy)
        run.decided(evaluation, decision)
        promote(run, decision)
        report(run, evaluation, decision)
    return run.state()
