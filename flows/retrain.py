"""The night: load, check, train, measure, decide, and promote or reject."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from storage import recipe as parameters
from storage.recipe import Recipe
from storage.settings import read_settings
from tasks.announce import announce
from tasks.budget import budget
from tasks.build import build
from tasks.calibrate import calibrate
from tasks.compare import compare
from tasks.corrections import add_corrections
from tasks.data.sources import resolve_night, run_name
from tasks.evaluate import evaluate
from tasks.gate import gate
from tasks.hold import hold
from tasks.journal import journal, state_of
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.report import report
from tasks.reporting import best_effort
from tasks.stage import origin_of, stage
from tasks.train import train
from tasks.training.checkpoint import Checkpoint, interrupted
from tasks.training.keras_import import import_keras_in_background
from tasks.training.validation import hold_out
from tasks.validate import champion_statistics, validate


@flow(flow_run_name=run_name)
def retrain(
    dataset: parameters.Dataset = Recipe.dataset,
    name: parameters.OrDefault[parameters.Name] = None,
    architecture: parameters.OrChampions[parameters.Architecture] = None,
    epochs: parameters.OrChampions[parameters.Epochs] = None,
    max_minutes: parameters.MaxMinutes = Recipe.max_minutes,
    batch_size: parameters.OrChampions[parameters.BatchSize] = None,
    learning_rate: parameters.OrChampions[parameters.LearningRate] = None,
    seed: parameters.OrDefault[parameters.Seed] = None,
    min_accuracy: parameters.OrDefault[parameters.MinAccuracy] = None,
    confident: parameters.Confident = Recipe.confident,
    min_recall: parameters.OrDefault[parameters.MinRecall] = None,
    champion_rule: parameters.ChampionRule = Recipe.champion_rule,
    margin: parameters.Margin = Recipe.margin,
    robust: parameters.Robust = Recipe.robust,
    max_drift: parameters.MaxDrift = Recipe.max_drift,
    accept_change: parameters.AcceptChange = Recipe.accept_change,
    corrections: parameters.Corrections = Recipe.corrections,
    corrections_share: parameters.CorrectionsShare = Recipe.corrections_share,
    max_hours: parameters.MaxHours = Recipe.max_hours,
) -> State[None]:
    """Train a challenger, and promote it if it passes the gate."""
    settings = read_settings()
    begun = interrupted(settings.home, flow_run.id)  # if this flow run is retried
    recipe = resolve_night(settings, **flow_run.parameters | begun)
    import_keras_in_background()
    with journal(recipe, settings) as run:
        store = run.store
        loaded = run.note(load(recipe.dataset))
        check = run.note(validate(loaded, champion_statistics(store), recipe.max_drift))
        held = run.note(hold(run.corrections(), store))
        corrected = run.note(add_corrections(loaded, held.rows, recipe))
        data = corrected.dataset
        training, test = preprocess(data)
        held_out = hold_out(training, data.corrections, recipe)
        recipe = run.note(budget(recipe, training, held_out)).recipe
        model = build(recipe)
        checkpoint = Checkpoint(settings.home, recipe, training, run.provenance)
        trained = run.note(train(model, training, recipe, held_out, checkpoint))
        model = run.note(calibrate(trained.model, training, held_out)).model
        evaluation = evaluate(model, test)
        origin = origin_of(recipe, run.provenance, corrected, check, evaluation)
        candidate = run.note(stage(store, run.id, model, data, origin, held_out))
        outcome = None
        while outcome is None:  # once, and again if the champion changes in the meantime
            measurements = run.note(compare(store, candidate, data, evaluation, recipe))
            decision = run.note(gate(measurements, run.accepting(data)))
            outcome = promote(store, candidate, measurements.compared_with, decision)
        run.close(outcome)
        checkpoint.remove()
        with best_effort("the report"):
            folder = settings.home / "reports"
            report(run.row(), run.newest_rows(30), data, trained.curve, measurements, folder)
    with best_effort("the announcement"):
        announce(run.row())
    return state_of(run.outcome)
