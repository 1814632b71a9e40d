"""What lies in the folder of a corpus.

    documents/           accepted text, under its relative path
    tokenizer/           what `tokenizers` saves
    database/            chunks, and where they come from
    database.partial/    what is finished of a database that is being made
    keys/                keys of the chunks, in shards
    keys.before/         keys of earlier chunks, until those of the present ones are written
    index/               the index over the keys, and the neighbors that it found
    index.partial/       what is finished of an index that is being made
    corpus.json          settings of the newest build

A folder that is finished holds a manifest of its kind. Importing this module needs neither
torch nor FAISS.
"""

from pathlib import Path

from retro.config.checks import config_from_dict
from retro.config.corpus import CorpusConfig
from retro.data.documents import DOCUMENTS_NAME
from retro.json_files import read_object

CONFIG_NAME = "corpus.json"
TOKENIZER_NAME = "tokenizer"
TOKENIZER_KIND = "tokenizer"
DATABASE_NAME = "database"
DATABASE_PARTIAL_NAME = "database.partial"
KEYS_NAME = "keys"
KEYS_BEFORE_NAME = "keys.before"
INDEX_NAME = "index"
INDEX_KIND = "index"
INDEX_PARTIAL_NAME = "index.partial"


def read_config(corpus_dir: Path) -> CorpusConfig:
    """Return the settings of the newest build of a corpus, finished or not.

    Raises:
        ArtifactMissingError: It was never built.
    """
    return config_from_dict(CorpusConfig, read_object(corpus_dir / CONFIG_NAME))


def is_corpus(folder: Path) -> bool:
    """Return whether a folder is a corpus that a build has begun with."""
    return (folder / CONFIG_NAME).is_file() and (folder / DOCUMENTS_NAME).is_dir()
