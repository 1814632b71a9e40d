"""What arguments mean, said once by their names, and what operations come in."""

from app.services.views.docstrings import docstrings_of
from retro.config.sampling import SamplingConfig

TAGS = {
    "system": "What the app runs on, how it was set up, and what its files take up.",
    "corpora": "Text that is chunked, embedded and indexed, so that models can be trained on it "
    "and retrieve from it.",
    "jobs": "The queue: builds and training runs in processes of their own.",
    "runs": "Training runs with their checkpoints and measured values.",
    "generations": "Texts, and for each of their chunks the neighbors that it was written from.",
}

WORDS = {
    # Ids and addresses.
    "corpus_id": "Id of the corpus, from the list of corpora.",
    "chunk_id": "Id of the chunk in its corpus, counted from 0; search has it.",
    "run_id": "Id of the training run, from the list of runs; to write also smollm2-135m, a "
    "pretrained model.",
    "job_id": "Id of the job, from the list of jobs or from what started it.",
    "generation_id": "Id of the text.",
    "step": "Step of the checkpoint.",
    # Choices among what there is.
    "action": "What the run is to do.",
    "state": "Only those in this state.",
    "kind": "Only those of this kind: build or train.",
    "before": "Only those with a smaller number.",
    "limit": "Most items of the answer.",
    "offset": "How many are left out first.",
    "lines": "Most lines, from the end.",
    "start": "Character that the page has.",
    "name": "Name for people, 1 to 200 printable characters.",
    "max_points": "Most points per name; the rest is thinned on the server.",
    "format": "json, markdown or html.",
    "timeout_s": "Most seconds to wait.",
    # Corpora, runs and checkpoints.
    "text": "What to look for, in the words of the documents.",
    "k": "How many chunks.",
    "sample": "Name of a built-in sample that fills the corpus.",
    "settings": "Settings by name; those left out keep their value.",
    "preset": "Size of the model, such as tiny or small; see /api/v1/presets.",
    "base": "Pretrained model to start from: smollm2-135m, a name on the Hub, or a folder.",
    "revision": "Branch, tag or commit of the base on the Hub.",
    "mode": "What is trained in the base: gates, lora or full.",
    "model": "Fields of the model that replace those of the preset.",
    "training": "Fields of the training that replace those of the preset.",
    "after": "Id of a run that must succeed first.",
    "parent_id": "Id of the run whose settings it takes over.",
    "priority": "A higher one starts first.",
    "max_steps": "The last step.",
    "pinned": "Whether it is kept when newer ones come.",
    "tags": "Words to find it by.",
    "notes": "Plain text.",
    "what": "What is to be removed.",
    # Texts.
    "prompt": "The beginning of the text.",
    "checkpoint_step": "Step of the checkpoint; the newest if left out.",
    "retrieval": "on, off, or both for two texts from one seed.",
    "steering": "exclude_chunks, exclude_documents, and given: neighbors by position of the chunk.",
    "stream": "Whether to answer with server-sent events.",
    "chunk_index": "First chunk that is written anew.",
    "variant": "Which text of several, such as on, off or on:1.",
    "exclude_chunks": "Ids of chunks that must not be retrieved.",
    "exclude_documents": "Paths of documents that nothing may be retrieved from.",
    "neighbors": "Exactly the neighbors that the first new chunk reads.",
}


def words_for(name: str) -> str:
    """Return what an argument means."""
    return WORDS.get(name) or docstrings_of(SamplingConfig)[name]
