"""What tune images choose for the ensemble: weights of the models, and the sizes below which a region is no object.

Judge images are never looked at here, so that they can say whether the fit was worth it.
"""

from segpipe.ensemble.average import Ensemble
from segpipe.ensemble.candidates import Candidate
from segpipe.ensemble.cleaning import CleaningFit
from segpipe.ensemble.weights import PixelSample, greedy_counts, shrunk_weights
from segpipe.metrics.confusion import mean_iou
from segpipe.params import EnsembleParams
from segpipe.progress import track

FIT_BYTES = 2**26  # of probabilities held at once while weights are fitted


def fit_candidates(ensemble: Ensemble, unfitted: list[Candidate], settings: EnsembleParams) -> list[Candidate]:
    """The candidates `weighted` and `cleaned`, as far as `settings` ask for them; none where no fold is scored.

    `unfitted` are all others, the mean of all models among them as the one with most parts. Every tune image is
    predicted by the models that did not learn from it. Raises ValueError where a model lacks one or learned from it.
    """
    fitted: list[Candidate] = []
    if not ensemble.tune_indices or not (settings.fits_weights or settings.cleans):
        return fitted
    ensemble.require_tune()
    if settings.fits_weights:
        fitted.append(_weighted(ensemble, max(unfitted, key=lambda each: len(each.parts)), settings))
    if settings.cleans:
        fitted.append(_cleaned(ensemble, [*unfitted, *fitted], settings))
    return fitted


def _weighted(ensemble: Ensemble, everything: Candidate, settings: EnsembleParams) -> Candidate:
    entries = [ensemble.prepared.entries[index] for index in ensemble.tune_indices]
    sizes = [ensemble.scored_size or (entry.height, entry.width) for entry in entries]
    sample = PixelSample(sizes, len(everything.parts), ensemble.prepared.classes.num_classes, FIT_BYTES)
    for index in track(ensemble.tune_indices, "fit weights", "images"):
        probs = ensemble.mean_probs(index, everything.parts)
        sample.add([probs[part] for part in everything.parts], ensemble.target(index))
    counts = greedy_counts(*sample.arrays(), settings.rounds)
    return Candidate("weighted", everything.parts, weights=shrunk_weights(counts, settings.shrink))


def _cleaned(ensemble: Ensemble, bases: list[Candidate], settings: EnsembleParams) -> Candidate:
    """The best of `bases` on tune images, cleaned by the sizes that are best there."""
    confusion = ensemble.tune_confusion(bases)
    base = max(bases, key=lambda each: mean_iou(confusion[each.name]))
    fit = CleaningFit(ensemble.prepared.classes.num_classes, settings.min_pixels, settings.fill_holes)
    for index in track(ensemble.tune_indices, "fit sizes", "images"):
        fit.add(ensemble.label_map(base, index), ensemble.target(index))
    return Candidate("cleaned", base.parts, base.weights, fit.choose())
