"""The night: load, check, train, measure, decide, and promote or reject."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from storage import recipe as parameters
from storage.recipe import Recipe
from storage.settings import read_settings
from tasks.announce import announce
from tasks.build import build
from tasks.corrections import add_corrections
from tasks.data.sources import resolve, run_name
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
    dataset: parameters.Dataset = Recipe.dataset,
    name: parameters.OrDefault[parameters.Name] = None,
    architecture: parameters.Architecture = Recipe.architecture,
    epochs: parameters.Epochs = Recipe.epochs,
    batch_size: parameters.BatchSize = Recipe.batch_size,
    learning_rate: parameters.LearningRate = Recipe.learning_rate,
    seed: parameters.OrDefault[parameters.Seed] = None,
    min_accuracy: parameters.OrDefault[parameters.MinAccuracy] = None,
    confident: parameters.Confident = Recipe.confident,
    min_recall: parameters.OrDefault[parameters.MinRecall] = None,
    champion_rule: parameters.ChampionRule = Recipe.champion_rule,
    margin: parameters.Margin = Recipe.margin,
    max_drift: parameters.MaxDrift = Recipe.max_drift,
    corrections: parameters.Corrections = Recipe.corrections,
    corrections_share: parameters.CorrectionsShare = Recipe.corrections_share,
) -> State[None]:
    """Train a challenger, and promote it if it passes the gate."""
    recipe = resolve(**flow_run.parameters)
    import_keras_in_background()
    with record(recipe, read_settings()) as run:
        data = run.loaded(load(recipe.dataset))
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
