"""What the OpenAPI description says of each REST route beside its signature and docstring."""

from dataclasses import dataclass
from typing import Any

from app.services.views import corpora, curves, documents, generations, jobs, runs, system
from app.services.views.base import View
from app.services.views.examples import CORPUS_ID, RUN_ID


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """Adds to one operation."""

    answer: type[View] | None = None
    """Shape of the answer, None where another one is described by the route."""
    body: Any = None
    """An example of the body."""
    form: dict[str, Any] | None = None
    """Properties of a multipart form, where that is the body."""
    text: str = ""
    """What a caller should know beyond the first line of the docstring."""


TAGS = {
    "system": "What the app runs on, how it was set up, and what its files take up.",
    "corpora": "Text that is chunked, embedded and indexed, so that models can be trained on it "
    "and retrieve from it.",
    "jobs": "The queue: builds and training runs in processes of their own.",
    "runs": "Training runs with their checkpoints and measured values.",
    "generations": "Texts, and for each of their chunks the neighbors that it was written from.",
}

PARAMETERS = {
    "corpus_id": "Id of the corpus.",
    "chunk_id": "Id of the chunk, counted from 0.",
    "run_id": "Id of the run.",
    "job_id": "Id of the job.",
    "generation_id": "Id of the text.",
    "step": "Step of the checkpoint.",
    "action": "What the run is to do.",
    "limit": "At most so many.",
    "offset": "So many are left out first.",
    "lines": "At most so many lines, from the end.",
    "state": "Only those in this state.",
    "tag": "Only those with this tag.",
    "name": "Name of the measured value; none gives all of them.",
    "names": "Names of measured values, with commas between.",
    "ids": "Ids of runs, with commas between.",
    "since_step": "Only what was measured at this step or later.",
    "max_points": "Most points per name; the rest is thinned on the server.",
    "format": "json, markdown or html.",
    "kind": "Only those of this kind: build or train.",
    "before": "Only those with a smaller number.",
    "start": "First character of the passage.",
    "end": "Character after the passage.",
    "document": "Path of the document.",
    "path": "Path of the document.",
    "query": "Only those whose path has this text.",
    "version": "Version of the corpus.",
}
FIELDS = {
    "name": "Name for people, 1 to 200 printable characters.",
    "text": "What to look for.",
    "k": "How many chunks.",
    "sample": "Name of a built-in sample that fills the corpus.",
    "settings": "Settings by name; those left out keep their value.",
    "corpus_id": "Id of the corpus.",
    "chunk_id": "Id of a chunk of the corpus.",
    "run_id": "Id of the run whose model writes, or whose tokenizer is taken.",
    "preset": "Size of the model; see /api/v1/presets.",
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
    "prompt": "The beginning of the text.",
    "checkpoint_step": "Step of the checkpoint; the newest if left out.",
    "retrieval": "on, off, or both for two texts from one seed.",
    "steering": "exclude_chunks, exclude_documents, and given: neighbors by position of the chunk.",
    "stream": "Whether to answer with server-sent events.",
    "max_new_tokens": "Most tokens to write.",
    "temperature": "Divides the logits; 0 always takes the likeliest token.",
    "top_k": "Draw from this many likeliest tokens only; 0 is all.",
    "top_p": "Draw from the likeliest tokens that together reach this probability.",
    "min_p": "Draw from tokens at least this share as likely as the likeliest one.",
    "repetition_penalty": "Makes tokens that are in the text less likely; 1 does nothing.",
    "stop": "The text ends before the first of these that would appear in it.",
    "seed": "The same seed and settings write the same text.",
    "num_samples": "Texts to write, each with the next seed.",
    "num_neighbors": "Neighbors read for each chunk.",
    "chunk_index": "First chunk that is written anew.",
    "variant": "Which text of several, such as on, off or on:1.",
    "exclude_chunks": "Ids of chunks that must not be retrieved.",
    "exclude_documents": "Paths of documents that nothing may be retrieved from.",
    "neighbors": "Exactly the neighbors that the first new chunk reads.",
}
UPLOAD_FORM: dict[str, Any] = {
    "files": {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "The files, one part each.",
    },
    "paths": {
        "type": "array",
        "items": {"type": "string"},
        "description": "The relative path of each file, in the same order; the names of the files "
        "where it is left out.",
    },
    "text_field": {
        "type": "string",
        "default": "text",
        "description": "The field of .jsonl lines that holds their text.",
    },
    "keep_duplicates": {
        "type": "boolean",
        "default": False,
        "description": "Whether a text that is there already is stored again under its other path.",
    },
}
UPLOAD_EXAMPLE = {"files": ["(a file)"], "paths": ["notes/first.txt"]}

OPERATIONS = {
    "system": Operation(
        answer=system.System, text="Times are UTC seconds, sizes are bytes, ages are seconds."
    ),
    "system_presets": Operation(
        answer=system.Presets, text="Every field of a preset can be replaced when a run is made."
    ),
    "system_settings": Operation(answer=system.Installation),
    "system_storage": Operation(
        answer=system.Storage,
        text="Sizes are bytes. What is among the leftovers can be removed, see "
        "/api/v1/storage/clean.",
    ),
    "system_clean": Operation(answer=system.Cleaned, body={"what": "logs"}),
    "corpora_list": Operation(answer=corpora.Corpora),
    "corpora_create": Operation(
        answer=corpora.Corpus,
        body={"name": "Notes", "settings": {"chunk_size": 64}},
        text='The sample is called "python-docs". Add files, then build.',
    ),
    "corpora_get": Operation(
        answer=corpora.Corpus,
        text="With has_changes, documents were added, replaced or removed after the last build.",
    ),
    "corpora_change": Operation(answer=corpora.Corpus),
    "corpora_versions": Operation(answer=corpora.CorpusVersions),
    "corpora_sizes": Operation(answer=corpora.CorpusSizes),
    "corpora_delete": Operation(text="Refused while a run or an unfinished job needs it."),
    "corpora_add_files": Operation(
        answer=documents.UploadReport,
        form=UPLOAD_FORM,
        body=UPLOAD_EXAMPLE,
        text="Zip files are unpacked. Every file is either accepted or skipped with a reason.",
    ),
    "corpora_build": Operation(
        answer=jobs.Job,
        body={"settings": {"chunk_size": 64}},
        text="Answers at once with the job; ask for /api/v1/jobs/{job_id} until it has ended. "
        "What is finished already is not done again.",
    ),
    "corpora_copy": Operation(
        answer=corpora.Corpus, body={"name": "Notes for the first model", "run_id": RUN_ID}
    ),
    "corpora_build_and_train": Operation(answer=runs.Run),
    "corpora_documents": Operation(
        answer=documents.DocumentPage, text="In the order of their paths, page by page."
    ),
    "corpora_document": Operation(
        answer=documents.DocumentText,
        text="Positions are characters of the document, counted from 0.",
    ),
    "corpora_chunk": Operation(
        answer=documents.CorpusChunk,
        text="start and end are characters of the document; distances are squared L2, lower is "
        "nearer.",
    ),
    "corpora_search": Operation(
        answer=documents.Neighbors,
        body={"text": "how to iterate over a sequence", "k": 3},
        text="Distances are squared L2, lower is nearer.",
    ),
    "jobs_list": Operation(
        answer=jobs.Jobs,
        text="States: queued, starting, running, succeeded, failed, canceled, timed_out, "
        "interrupted, dead.",
    ),
    "jobs_get": Operation(
        answer=jobs.Job, text="done and total count the present stage; error says why it failed."
    ),
    "jobs_log": Operation(answer=jobs.JobLog, text="Empty as long as nothing was written."),
    "jobs_events": Operation(answer=jobs.JobEvents),
    "jobs_change": Operation(
        answer=jobs.Job, body={"priority": 5}, text="Only a job that waits can be changed."
    ),
    "jobs_run_next": Operation(answer=jobs.Job, text="Only a job that waits can be moved."),
    "jobs_cancel": Operation(
        answer=jobs.Job,
        text="A training run writes a checkpoint first; a job that does not react is ended by "
        "force after 30 seconds.",
    ),
    "jobs_retry": Operation(
        answer=jobs.Job,
        text="Makes a new job that names this one as its parent and goes on from what is finished.",
    ),
    "runs_list": Operation(answer=runs.Runs),
    "runs_create": Operation(
        answer=runs.Run,
        body={
            "name": "First model",
            "corpus_id": CORPUS_ID,
            "preset": "tiny",
            "training": {"max_steps": 2000, "batch_size": 16},
        },
        text="The presets are at /api/v1/presets; model and training replace their fields by name. "
        "With after, it waits until that run has succeeded.",
    ),
    "runs_estimate": Operation(answer=runs.Estimate),
    "runs_curves": Operation(answer=curves.Curves),
    "runs_compare": Operation(answer=curves.Comparison),
    "runs_recipe": Operation(answer=runs.Recipe),
    "runs_get": Operation(
        answer=runs.Run,
        text="States: queued, starting, running, paused, succeeded, failed, canceled, interrupted.",
    ),
    "runs_change": Operation(answer=runs.Run, body={"name": "Larger batches"}),
    "runs_delete": Operation(text="Refused while it waits or trains. Texts it wrote are kept."),
    "runs_write": Operation(answer=generations.Generation),
    "runs_duplicate": Operation(answer=runs.Run, body={"training": {"learning_rate": 0.0003}}),
    "runs_extend": Operation(answer=runs.Run, body={"max_steps": 4000}),
    "runs_change_checkpoint": Operation(answer=runs.Run, body={"pinned": True}),
    "runs_act": Operation(
        answer=runs.Run,
        text="Pausing and stopping write a checkpoint first; resuming goes on from the newest one.",
    ),
    "runs_metrics": Operation(
        answer=runs.Points,
        text="Names: train_loss, val_loss_on, val_loss_off, learning_rate, tokens_per_second and "
        "others. At most max_points per name.",
    ),
    "generations_list": Operation(answer=generations.Generations),
    "generations_create": Operation(
        answer=generations.Generation,
        body={
            "run_id": RUN_ID,
            "prompt": "The for statement",
            "max_new_tokens": 128,
            "temperature": 0.8,
            "retrieval": "on",
        },
        text='With retrieval "both", one text is under "on" and one under "off", from the same '
        "seed.",
    ),
    "generations_branch": Operation(
        answer=generations.Generation, body={"chunk_index": 2, "exclude_chunks": [17]}
    ),
    "generations_go_on": Operation(answer=generations.Generation, body={"max_new_tokens": 64}),
    "generations_stop": Operation(answer=generations.Generation),
    "generations_get": Operation(
        answer=generations.Generation,
        text="States: running, succeeded, failed, canceled, interrupted. A chunk's neighbors are "
        "those that conditioned it: they were retrieved with the chunk before. The first has none.",
    ),
    "generations_events": Operation(
        text="The data of each is JSON: start has id; chunk_start has variant, index and "
        "is_prompt; neighbors has variant, index and neighbors; token has variant, chunk_index, "
        "token_id, text, logprob and run; chunk_end has variant and the fields of a chunk; error "
        "has detail; done is the text as it is read by its id. The variant is on or off, or on:1 "
        "and so on for more samples. Neighbors and tokens are told while a text is being written, "
        "not once it has ended. The text goes on when nobody reads its events.",
    ),
    "generations_export": Operation(text="The answer is a file to be saved."),
    "generations_delete": Operation(text="Refused while it is being written."),
}
