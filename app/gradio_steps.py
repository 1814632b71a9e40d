"""Functions for ``gradio_client`` that make a corpus and a model, step by step.

Work that takes long is a job: a function returns it at once, and ``wait_for_job`` waits. Files
are uploaded, and everything is deleted, over the REST API alone: Gradio would lose the folders
of an upload, and its functions are open to whoever lists them.
"""

from gradio.events import api

from app.gradio_api import CALLABLE, Json, errors_for_people, text_of, whole_of
from app.services.doors import SAMPLE
from app.services.services import Services
from retro.errors import ConfigError

MOST_WAIT_S = 600


def build(services: Services) -> None:
    """Add the functions to the Gradio app that is being made."""
    _add_making(services)
    _add_looking(services)


def _add_making(services: Services) -> None:
    def create_corpus(name: str, sample: str | None = SAMPLE) -> Json:
        """Make a corpus, filled with a built-in sample.

        Args:
            name: For people.
            sample: Name of the sample; none makes an empty corpus, for files that are uploaded
                over the REST API.

        Returns:
            The corpus.
        """
        with errors_for_people():
            chosen = None if sample is None else text_of("sample", sample)
            return services.corpora.create(text_of("name", name), sample=chosen)

    def build_corpus(corpus_id: str) -> Json:
        """Start the job that chunks, embeds and indexes a corpus.

        Args:
            corpus_id: Id of the corpus; see list_corpora.

        Returns:
            The job; see wait_for_job.
        """
        with errors_for_people():
            return services.corpora.build(text_of("corpus_id", corpus_id))

    def start_run(
        name: str, corpus_id: str, preset: str | None = None, max_steps: int | None = None
    ) -> Json:
        """Start training a model; it waits for the build of its corpus.

        Args:
            name: For people.
            corpus_id: Id of the corpus; see list_corpora.
            preset: Size of the model, such as tiny or small; none is tiny.
            max_steps: Last step; none is that of the preset.

        Returns:
            The run; its job_id is the job to wait for.
        """
        with errors_for_people():
            training = {} if max_steps is None else {"max_steps": whole_of("max_steps", max_steps)}
            return services.runs.create(
                text_of("name", name),
                text_of("corpus_id", corpus_id),
                preset=None if preset is None else text_of("preset", preset),
                training=training,
            )

    for function in (create_corpus, build_corpus, start_run):
        api(function, **CALLABLE)


def _add_looking(services: Services) -> None:
    def get_corpus(corpus_id: str) -> Json:
        """Return a corpus with its state and counts.

        Args:
            corpus_id: Id of the corpus; see list_corpora.

        Returns:
            The corpus.
        """
        with errors_for_people():
            return services.corpora.get(text_of("corpus_id", corpus_id))

    def get_run(run_id: str) -> Json:
        """Return a run with its state, step and checkpoints.

        Args:
            run_id: Id of the run; see list_runs.

        Returns:
            The run.
        """
        with errors_for_people():
            return services.runs.get(text_of("run_id", run_id))

    def get_job(job_id: str) -> Json:
        """Return a job with its state, stage and progress.

        Args:
            job_id: Id of the job.

        Returns:
            The job.
        """
        with errors_for_people():
            return services.jobs.get(text_of("job_id", job_id))

    async def wait_for_job(job_id: str, timeout_s: int = 60) -> Json:
        """Wait until a job has ended, or until the time is over.

        Args:
            job_id: Id of the job.
            timeout_s: Most seconds to wait, at most 600; call again to wait longer.

        Returns:
            The job as it is then; its state tells whether it has ended.
        """
        with errors_for_people():
            wanted = text_of("job_id", job_id)
            if not 0 <= whole_of("timeout_s", timeout_s) <= MOST_WAIT_S:
                raise ConfigError(
                    f"timeout_s must be between 0 and {MOST_WAIT_S}, got {timeout_s}. Call again "
                    f"to wait longer."
                )
            return await services.job_waits.wait(wanted, timeout_s)

    for function in (get_corpus, get_run, get_job, wait_for_job):
        api(function, **CALLABLE)
