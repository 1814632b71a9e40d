"""One-click workflows of the Start page."""

from app.services.corpora import CorpusService
from app.services.generations import GenerationService
from app.services.runs import RunService
from app.services.views.generations import Generation
from app.services.views.runs import Run

SAMPLE = "python-docs"
SAMPLE_NAME = "Python documentation (sample)"


class Doors:
    """Sequences of service calls with good defaults."""

    def __init__(
        self, corpora: CorpusService, runs: RunService, generations: GenerationService
    ) -> None:
        self._corpora = corpora
        self._runs = runs
        self._generations = generations

    def try_sample(self) -> Run:
        """Make the sample corpus, build it, and train a small model on it.

        Returns:
            The run; its training waits for the build.
        """
        corpus = self._corpora.create(SAMPLE_NAME, sample=SAMPLE)
        self._corpora.build(corpus.id)
        return self._runs.create("First model", corpus.id)

    def build_and_train(self, corpus_id: str) -> Run:
        """Build a corpus if needed, and train a model with defaults for its size.

        Returns:
            The run; its training waits for the build.
        """
        corpus = self._corpora.get(corpus_id)
        if corpus.state not in ("ready", "building"):
            self._corpora.build(corpus_id)
        return self._runs.create(f"{corpus.name}, first model"[:200], corpus_id)

    def write(self, run_id: str) -> Generation:
        """Start a generation from the newest checkpoint, with a prompt from held-out text.

        Returns:
            The generation.
        """
        corpus_id = self._runs.get(run_id).corpus_id
        prompt = self._corpora.suggest_prompt(corpus_id)
        return self._generations.start(run_id=run_id, prompt=prompt, retrieval="on")
