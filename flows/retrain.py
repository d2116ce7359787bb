"""The night: load, check, train, measure, decide, and promote or reject."""

from prefect import flow
from prefect.client.schemas.objects import State

from storage.settings import read_settings
from tasks import parameters
from tasks.announce import announce
from tasks.build import build
from tasks.corrections import add_corrections
from tasks.data.sources import make_recipe, run_name
from tasks.evaluate import evaluate
from tasks.gate import gate
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.record import record
from tasks.report import report
from tasks.score import score
from tasks.stage import stage
from tasks.train import train
from tasks.training.keras_import import import_keras_in_background
from tasks.validate import validate


@flow(flow_run_name=run_name)
def retrain(
    dataset: str = "mnist",
    name: parameters.Name | None = None,
    architecture: parameters.Architecture = "mlp",
    epochs: parameters.Epochs = 10,
    batch_size: parameters.BatchSize = 128,
    learning_rate: parameters.LearningRate = 0.001,
    seed: parameters.Seed | None = None,
    min_accuracy: parameters.Share | None = None,
    confident: bool = False,
    min_recall: parameters.Share | None = None,
    champion_rule: parameters.ChampionRule = "not-worse",
    margin: parameters.Margin = 0,
    max_drift: parameters.Share = 0.2,
    corrections: bool = False,
    corrections_share: parameters.CorrectionsShare = 0.1,
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
        min_accuracy: Share of the test images that has to be right; empty means 0.97, mnist-5k 0.9.
        confident: Whether the lower bound of the accuracy's 95 % interval has to meet it too.
        min_recall: Share of each digit's test images to be found; empty means 0.8, mnist-5k 0.7.
        champion_rule: What the comparison with the champion on the same images asks for.
        margin: Test images by which non-inferior may be behind the best champion ever.
        max_drift: Jensen-Shannon distance that the data may have from the champion's, 0 to 1.
        corrections: Whether it learns from what people corrected in the dataset's answers.
        corrections_share: Share of an epoch's images that come from corrections at most.
    """
    recipe = make_recipe(**locals())  # they take the same parameters
    import_keras_in_background()
    with record(recipe, read_settings()) as run:
        data = run.loaded(load(recipe.source))
        run.checked(validate(data, run.champion_data(), recipe.max_drift))
        data = add_corrections(run, data)
        training, test = preprocess(data)
        model = build(recipe)
        curve = run.trained(train(model, training, recipe))
        evaluation = evaluate(model, test)
        stage(run, model, data, evaluation)
        while run.outcome is None:  # once, and again if the champion changed meanwhile
            measurements = score(run, data, evaluation)
            decision = gate(measurements, recipe)
            promote(run, measurements, decision)
        report(run, data, curve, measurements, decision)
    announce(run)
    return run.state()
