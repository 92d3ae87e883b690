"""Turn stored activations and BOLD, or files of RDMs, into similarities of geometry: every layer, model and stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainsim.core.checks import check_choice, check_node_name
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress


@dataclass(frozen=True)
class RsaSummary:
    """What an RSA did and found.

    Parameters
    ----------
    name, dataset, store : str
        Where the result lies: ``rsa/{name}/{dataset}/{subject}`` and ``…/group``.
    protocol : str
        "default", "study" or "both" (then the study's result is called ``{name}-study``).
    subjects : tuple of str
        Who was compared.
    n_models, n_layers : int
        What was compared.
    distance, compare : str
        How.
    rows : tuple of dict
        Per stream and model: mean over subjects with interval, p and q.
    unique : tuple of dict
        Per stream and family: unique held-out variance of RDMs, with interval.
    ceilings : tuple of dict
        Per stream: lower and upper noise ceiling.
    audit : tuple of dict
        With both protocols: conclusions that differ, and which step changes them.
    n_nodes_written, n_nodes_reused : int
        Result nodes made now, and found complete.
    warnings : tuple of str
        What must be known beside the scores.
    seconds : float
        Wall time.
    """

    name: str
    dataset: str
    store: str
    protocol: str
    subjects: tuple[str, ...]
    n_models: int
    n_layers: int
    distance: str
    compare: str
    rows: tuple[dict[str, Any], ...]
    unique: tuple[dict[str, Any], ...]
    ceilings: tuple[dict[str, Any], ...]
    audit: tuple[dict[str, Any], ...]
    n_nodes_written: int
    n_nodes_reused: int
    warnings: tuple[str, ...]
    seconds: float


def rsa(
    name: str,
    *,
    dataset: str,
    store: Path | str = "store/brainsim.zarr",
    models: Sequence[str] | None = None,
    rdms: Mapping[str, Sequence[str]] | None = None,
    model_rdms: Mapping[str, Sequence[str]] | None = None,
    conditions: Sequence[str] = (),
    protocol: str = "default",
    method: str = "auto",
    distance: str = "correlation",
    compare: str | None = None,
    combine: str = "nnls",
    cv: str = "runs",
    pairs: str = "within-run",
    min_lag_s: float | None = None,
    trim_s: float | None = None,
    keep_lag_means: bool = False,
    families: Mapping[str, Sequence[str]] | None = None,
    subsets: str = "leave-one-out",
    squared: bool = False,
    raw_ceiling: bool = False,
    n_bootstraps: int = 1000,
    subjects: Sequence[str] = (),
    device: str = "cpu",
    seed: int = 0,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> RsaSummary:
    """Compare the representational geometry of models with that of each stream, run by run or stimulus by stimulus.

    For movies model features follow the haemodynamic response, exactly, in their inner products; RDMs hold the
    dissimilarities of TRs; a model's layers are combined with weights that never saw what is scored. Of datasets that
    were ingested as betas RDMs hold the dissimilarities of stimuli. With --rdms RDMs of brains come from files, and
    those of models from stored activations or from files.

    Parameters
    ----------
    name : str
        Name of the analysis in the store.
    dataset : str
        Dataset given at ingest; with --rdms any name for these data.
    store : Path
        Store that holds the activations and the BOLD.
    models : sequence of str, optional
        Globs over stored models or feature sets; all by default, and none beside --model-rdms.
    rdms : mapping of str to sequence of str, optional
        RDMs of brains from files, STREAM=FILE: .npy, .npz, .mat, .csv or .tsv of one RDM, or of one per subject.
    model_rdms : mapping of str to sequence of str, optional
        RDMs of models from files, MODEL=FILE: one RDM, or one per layer. Stored models are compared beside them only
        where --models or --conditions name any.
    conditions : sequence of str
        With --rdms: stored stimuli whose rows are the conditions, in order; the only ones by default.
    protocol : {"default", "study", "both"}
        study scores exactly as the study's scripts do; both puts the two side by side and says what changes.
    method : {"auto", "partition", "residual", "none"}
        What is told of models beside one another: partition of RDM variance, or the study's residual correlation, which
        is auto in protocol study.
    distance : {"correlation", "cosine", "euclidean", "sqeuclidean", "mahalanobis", "crossnobis"}
        Dissimilarity over features or voxels. The last two need stimuli that were shown at least twice (betas:
        ingest --repeats keep).
    compare : {"spearman", "pearson", "kendall", "cosine", "whitened-cosine", "cka"}
        Similarity of two RDMs; kendall is tau-a. By default spearman, in protocol study pearson.
    combine : {"nnls", "ridge"}
        How layers are combined: non-negative least squares, or ridge with a penalty chosen inside the training runs.
    cv : {"runs", "subjects"}
        What layers' weights never saw: the run that is scored, or the subject.
    pairs : {"within-run", "between-run", "all"}
        Pairs of TRs that count; with those between runs two runs are held out at a time.
    min_lag_s : float, optional
        Pairs of TRs that are closer than this are left out, in seconds. By default 8, in protocol study 0.
    trim_s : float, optional
        What is cut from both edges of every run, in seconds. By default 8, in protocol study 0.
    keep_lag_means : bool
        Keep what depends on the time between TRs alone; unrelated slow series are alike in it. Protocol study keeps it.
    families : mapping of str to sequence of str, optional
        Families as globs over models, each of which must match one; those of the models' rows by default.
    subsets : {"all", "leave-one-out", "singles", "max-order=K"}
        Subsets of families whose joint score is taken.
    squared : bool
        With --rdms: square each subject's similarity before averaging, as some tools do.
    raw_ceiling : bool
        With --rdms: average RDMs for the ceilings as they are, not ranked or scaled.
    n_bootstraps : int
        With --rdms and betas: resamples of stimuli and subjects for intervals.
    subjects : sequence of str
        Subjects to compare; all by default.
    device : str
        Where inner products are computed: cpu or cuda.
    seed : int
        Seed of resampling.
    dry_run : bool
        Say what would be done, and do nothing.
    overwrite : bool
        Replace an analysis of this name that was made with other options.
    progress : Progress
        Where progress is told.

    Returns
    -------
    RsaSummary

    Raises
    ------
    UnknownNameError, InvalidValueError, AlignmentError
        Names that are not stored, options that do not fit the data, TRs without features.

    References
    ----------
    Kriegeskorte, Mur and Bandettini 2008, Front. Syst. Neurosci. 2; Nili et al. 2014, PLoS Comput. Biol. 10.
    """
    from brainsim.commands.rsa_options import PROTOCOLS, RsaRequest, check_words, condition_settings

    check_node_name(name, what="the analysis' name")
    check_node_name(dataset, what="--dataset")
    check_choice("--protocol", protocol, PROTOCOLS)
    words: dict[str, Any] = {
        "distance": distance,
        "compare": compare,
        "combine": combine,
        "cv": cv,
        "pairs": pairs,
        "method": method,
        "min_lag_s": min_lag_s,
        "trim_s": trim_s,
        "keep_lag_means": keep_lag_means,
    }
    request = RsaRequest(
        name=name,
        dataset=dataset,
        store=store,
        models=("*",) if models is None else tuple(models),
        families=families,
        subset_spec=subsets,
        subjects=tuple(subjects),
        n_bootstraps=n_bootstraps,
        device=device,
        seed=seed,
        dry_run=dry_run,
        overwrite=overwrite,
        progress=progress,
    )
    if rdms is not None:
        from brainsim.commands.rsa_conditions import compare_conditions

        return compare_conditions(
            request,
            condition_settings(protocol, words, what="stimulus sets (--rdms)"),
            rdms=rdms,
            model_rdms=model_rdms or {},
            conditions=conditions,
            # What a store holds has nothing to do with files, unless it is named: it may be movies.
            with_stored=not model_rdms or models is not None or bool(conditions),
            squared=squared,
            raw_ceiling=raw_ceiling,
        )
    for flag, given in (("--model-rdms", model_rdms), ("--conditions", conditions), ("--squared", squared)):
        if given:
            raise InvalidValueError(f"{flag} goes with --rdms: files of RDMs belong to stimulus sets.")
    from brainsim.commands.rsa_betas import compare_betas, has_betas

    check_words(protocol, words)
    if has_betas(store, dataset, subjects):
        return compare_betas(request, condition_settings(protocol, words, what="betas"))
    from brainsim.commands.rsa_movies import compare_movies

    return compare_movies(request, protocol, words)
