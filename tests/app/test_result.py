"""A text on the Generate page: cards, colors, marks, neighbors, and what can be done from them."""

import html
import json
import re
from itertools import product
from typing import Any

import pytest

from app.figures import runs_in_chunk, runs_in_neighbor, texts_of
from app.pages.generate_form import (
    PRESETS,
    preset_of,
    preset_values,
    read_form,
    read_stops,
    show_stops,
)
from app.pages.output import Output, render_controls
from app.pages.result import MOST_CARDS
from retro.config.checks import config_from_dict
from retro.config.sampling import SamplingConfig
from retro.errors import ConfigError
from retro.generation.events import OutputChunk, ShownNeighbor
from tests.app import written
from tests.app.real_app import Trained

HOSTILE = "<img src=x onerror=alert(1)>\"'`${7*7}{{x}}\u202e</script>"


def plain(shown: str) -> str:
    """Return the text that a browser would show."""
    return html.unescape(re.sub(r"<[^>]*>", "", shown))


def card(shown: str, index: int, variant: str = "on") -> str:
    found = re.search(rf'<article [^>]*id="card-{variant}-{index}".*?</article>', shown, re.DOTALL)
    assert found is not None
    return found[0]


def side(shown: str, index: int) -> str:
    return re.split(r'(?=<div data-side=")', shown)[1 + index]


def bodies(shown: str) -> list[dict[str, Any]]:
    """Return what the branch buttons send."""
    return [json.loads(html.unescape(body)) for body in re.findall(r'data-body="([^"]*)"', shown)]


def spans(shown: str) -> list[tuple[str, list[int]]]:
    """Return the tokens with runs: their text and the numbers of their runs."""
    found = re.findall(r'<span class="t[^"]*" data-run="([\d ]+)"[^>]*>([^<]*)</span>', shown)
    return [(text, [int(run) for run in runs.split()]) for runs, text in found]


def test_each_card_tells_its_place_and_what_conditioned_it() -> None:
    shown = written.shown(written.generation(), {}, 0)

    first, second = plain(card(shown, 0)), plain(card(shown, 1))
    assert "Chunk 1 tokens 1-10" in first
    assert "no neighbors yet" in first
    assert "Chunk 2 tokens 11-32" in second
    assert "copied 27 %" in second
    assert "log-prob -1.91" in second
    assert "2 neighbors that conditioned this chunk" in second
    assert "found with chunk 1" in side(shown, 1)
    assert "The first chunk has no neighbors" in side(shown, 0)
    hidden = [" hidden" in side(shown, index)[:30] for index in range(3)]
    assert hidden == [True, False, True]
    assert 'data-focus="1"' in shown


def test_the_text_of_a_card_is_whole_and_every_token_has_its_log_probability() -> None:
    generation = written.generation()
    shown = card(written.shown(generation, {}, 0), 1)

    body = re.search(r'<div class="text">(.*?)</div>', shown, re.DOTALL)
    assert body is not None
    assert plain(body[1]) == generation["chunks"][1]["text"]
    titles = re.findall(r'title="log-prob ([-\d.]+)"', body[1])
    assert titles == [f"{value:.2f}" for value in generation["chunks"][1]["logprobs"]]


def test_colors_follow_the_runs() -> None:
    chunk = written.generation()["chunks"][1]
    shown = card(written.shown(written.generation(), {}, 0), 1)

    colors = re.findall(r'<span class="t(?: lcp(\d))?"', shown.split('<div class="acts">')[0])
    assert [int(color or 0) for color in colors] == [min(run, 5) for _, run in chunk["segments"]]
    assert "5" in colors


def test_a_run_is_the_same_tokens_on_both_sides() -> None:
    chunk = written.generation()["chunks"][1]
    ids = chunk["token_ids"]
    here = runs_in_chunk(OutputChunk.from_dict(chunk))
    met = 0
    for neighbor in chunk["neighbors"]:
        value = neighbor["token_ids"] + neighbor["continuation_token_ids"]
        own, after = runs_in_neighbor(
            OutputChunk.from_dict(chunk), ShownNeighbor.from_dict(neighbor)
        )
        there = own + after
        expected: list[set[int]] = [set() for _ in value]
        for number, run in enumerate(chunk["runs"]):
            for place in run["places"]:
                if place["rank"] == neighbor["rank"]:
                    length = run["end"] - run["start"]
                    tokens = range(place["start"], place["start"] + length)
                    assert [value[token] for token in tokens] == ids[run["start"] : run["end"]]
                    for token in tokens:
                        expected[token].add(number)
                    met += 1
            assert all(number in here[token] for token in range(run["start"], run["end"]))
        assert [set(numbers) for numbers in there] == expected
    assert met >= 4


def test_marks_of_card_and_neighbor_name_the_same_runs() -> None:
    shown = written.shown(written.generation(), {}, 0)
    own = card(shown, 1).split('<details class="under"')[0]

    runs = {run for _, numbers in spans(own) for run in numbers}
    assert runs == {run for _, numbers in spans(side(shown, 1)) for run in numbers}
    landlocked = [text for text, numbers in spans(own) if "none--landlocked" in text and numbers]
    assert len(landlocked) == 2


def test_the_longest_run_of_a_token_comes_first() -> None:
    chunk = written.chunk(0, "a b c d", [])
    chunk["runs"] = [
        {"start": 1, "end": 2, "places": [{"rank": 1, "start": 0}]},
        {"start": 0, "end": 3, "places": [{"rank": 1, "start": 4}]},
    ]

    assert runs_in_chunk(OutputChunk.from_dict(chunk)) == [[1], [1, 0], [1], []]


def test_neighbors_tell_their_share_and_what_is_remarkable() -> None:
    shown = side(written.shown(written.generation(), {}, 0), 1)

    assert "64 % of attention, 40 % on its continuation" in shown
    assert "copied run, 6 tokens" in shown
    assert "distance 0.310, lower is nearer" in shown
    assert "% similar" not in shown
    assert "/corpora?corpus=corpus1&amp;document=world%2F1.txt&amp;start=512&amp;end=803" in shown


@pytest.mark.parametrize(
    ("text", "changes", "tag"),
    [
        (written.HUNGARY, {"document": "world/1.txt"}, "same document"),
        (written.SWITZERLAND, {}, "duplicate"),
        (written.HUNGARY, {"source": "edited", "distance": None}, "edited"),
        (written.HUNGARY, {"source": "chosen", "distance": None}, "chosen by hand"),
    ],
)
def test_badges(text: str, changes: dict[str, Any], tag: str) -> None:
    first = written.neighbor(1, written.SWITZERLAND)
    second = written.neighbor(2, text, **changes)
    chunk = written.chunk(1, written.FIRST, [first, second])
    boxes = side(written.shown(written.generation(chunks=[chunk]), {}, 0), 0).split(
        'class="neighbor"'
    )

    assert f'<span class="tag">{tag}</span>' in boxes[2]
    assert ("same document" in boxes[1]) == (tag == "same document")
    assert "duplicate" not in boxes[1]


def test_a_neighbor_written_by_hand_has_no_place() -> None:
    nowhere = dict.fromkeys(
        ["chunk_id", "document_id", "start", "end", "chunk_index", "num_chunks", "distance"]
    )
    by_hand = written.neighbor(1, "my own", source="written", document="", **nowhere)
    shown = written.shown(
        written.generation(chunks=[written.chunk(1, written.FIRST, [by_hand])]), {}, 0
    )

    assert "written by hand" in side(shown, 0)
    assert "None" not in shown
    assert not [body for body in bodies(shown) if "exclude_chunks" in body]


def test_buttons_branch_from_written_chunks_only() -> None:
    shown = written.shown(written.generation(), {}, 0)

    assert bodies(card(shown, 0)) == []
    assert "Regenerate" not in card(shown, 0)
    start = {"chunk_index": 1, "variant": "on"}
    assert bodies(side(shown, 1)) == [
        {**start, "exclude_chunks": [17]},
        {**start, "exclude_documents": ["world/1.txt"]},
        {**start, "exclude_chunks": [18]},
        {**start, "exclude_documents": ["world/2.txt"]},
    ]
    assert bodies(card(shown, 1))[0] == start
    assert 'data-call="POST /api/v1/generations/gen1/branch"' in card(shown, 1)
    for label in ("Regenerate from here", "Exclude and branch", "Edit neighbors", "Copy"):
        assert f">{label}</button>" in card(shown, 1)


def test_the_chunk_being_written_is_colored_and_shows_its_neighbors() -> None:
    chunks = written.chunks()
    live = {"index": 2, "is_prompt": False, **{k: chunks[2][k] for k in ("segments", "neighbors")}}
    live["segments"] = live["segments"][:3]
    generation = written.generation(chunks=chunks[:2], state="running", result=None)

    shown = written.shown(generation, {"on": live}, 0)

    now = card(shown, 2)
    assert "being written" in now
    assert 'class="text cursor"' in now
    assert "lcp1" in now
    assert "1 neighbor that conditioned this chunk" in now
    assert 'data-focus="2"' in shown
    assert 'disabled title="Possible when the text has ended"' in card(shown, 1)
    assert "Exclude" not in side(shown, 2)


def test_a_chunk_that_was_stored_a_moment_ago_is_shown_once() -> None:
    chunks = written.chunks()
    live = {"index": 2, "is_prompt": False, "segments": chunks[2]["segments"][:2], "neighbors": []}
    generation = written.generation(state="running", result=None)

    shown = written.shown(generation, {"on": live}, 0)

    assert shown.count('id="card-on-2"') == 1
    assert "being written" not in shown


def test_a_chunk_that_is_written_to_its_end_replaces_its_beginning() -> None:
    chunks = written.chunks()
    short = {**chunks[2], "segments": chunks[2]["segments"][:2]}
    live = {"index": 2, "is_prompt": False, "segments": chunks[2]["segments"][:4], "neighbors": []}
    generation = written.generation(chunks=[*chunks[:2], short], state="running", result=None)

    shown = written.shown(generation, {"on": live}, 0)

    assert shown.count('id="card-on-2"') == 1
    assert "being written" in card(shown, 2)


def test_side_by_side_aligns_chunks_and_measures_the_same_tokens_under_both() -> None:
    shown = written.shown(written.both(), {}, 0)

    order = re.findall(r'id="card-(on|off)-(\d)"', shown)
    assert order == [(side, str(index)) for index in range(3) for side in ("on", "off")]
    heads = shown.split('<div class="side-head">')
    assert "log-prob of these tokens on -1.90 off -2.90" in plain(heads[1])
    # The text without retrieval was measured the other way round.
    assert "log-prob of these tokens on -2.90 off -1.90" in plain(heads[2].split("<article")[0])
    assert "0.37 s per chunk" in plain(heads[1])
    assert "0.18 s per chunk" in plain(heads[2])
    assert "distinct-2 1.00" in plain(heads[1])
    assert 'title="log-prob on -0.50, off -1.50"' in card(shown, 1)
    assert 'title="log-prob on -1.50, off -0.50"' in card(shown, 1, "off")
    assert 'data-variant="off"' in card(shown, 1, "off")


def test_a_side_that_ended_by_itself_says_why_it_is_not_continued() -> None:
    generation = written.both()
    generation["result"]["off"]["reason"] = "stop"
    shown = written.shown(generation, {}, 0)

    on, off = re.findall(r"<button[^>]*data-continue[^>]*>", shown)
    assert "disabled" not in on
    assert "disabled" in off
    assert "A stop string ended this text." in off


def test_several_texts_are_one_link_each() -> None:
    generation = written.generation(settings={"num_samples": 3})
    other = written.chunks()
    other[1]["text"] = "another"
    generation["samples"] = [
        {"text": "", "seed": 3, "chunks": generation["chunks"]},
        {"text": "", "seed": 4, "chunks": other[:2]},
        {"text": "", "seed": 5, "chunks": []},
    ]

    shown = written.shown(generation, {}, 0, {"text": "2"})

    assert [text.variant for text in texts_of(written.view(generation))] == ["on", "on:1", "on:2"]
    assert re.findall(r"&amp;text=(\d)", shown) == ["1", "2", "3"]
    assert "aria-current=true>Text 2</a>" in shown
    assert 'id="card-on-1-1"' in shown
    assert bodies(shown)[0] == {"chunk_index": 1, "variant": "on:1"}
    assert 'data-seed="4"' in shown


@pytest.mark.parametrize("text", ["0", "99", "-1", "x", "\u0663", "9" * 40])
def test_an_address_with_a_strange_text_shows_one_that_is_there(text: str) -> None:
    assert 'id="card-on-0"' in written.shown(written.generation(), {}, 0, {"text": text})


def test_a_branch_tells_where_it_comes_from_and_what_was_left_out() -> None:
    steering = {"exclude_chunks": [17, 99], "exclude_documents": ["<b>.txt"], "given": {"2": []}}
    child = written.generation(
        id="gen2", parent_id="gen1", branch_index=2, settings={"steering": steering}
    )

    shown = written.shown(child, {}, 0, parent=written.generation(), names={99: "far.txt chunk 8"})

    words = plain(shown)
    assert "Branch of Austria Geography" in words
    assert "from chunk 3, without neighbor world/1.txt chunk 1, neighbor far.txt chunk 8, " in words
    assert "document <b>.txt, with neighbors set by hand." in words
    assert 'href="/generate?gen=gen1"' in shown
    assert 'class="card inherited"' in card(shown, 1)
    assert "taken over" in card(shown, 1)
    assert "inherited" not in card(shown, 2)
    assert 'data-focus="2"' in shown
    assert "a text that was deleted" in written.shown(child, {}, 0)


def test_a_continuation_is_told_from_a_branch() -> None:
    parent = written.generation(chunks=written.chunks()[:2])
    child = written.generation(id="gen2", parent_id="gen1", branch_index=2)

    assert "Continues <a" in written.shown(child, {}, 0, parent=parent)
    again = {**child, "branch_index": 1}
    assert "Branch of <a" in written.shown(again, {}, 0, parent=written.generation())


def test_settings_that_do_nothing_are_left_out() -> None:
    words = plain(written.shown(written.generation(settings={"stop": ["\n\n"]}), {}, 0))

    assert "seed 3" in words
    assert "temperature 0.8" in words
    assert r"stop string '\n\n'" in words
    for quiet in ("top-k", "min-p", "repetition penalty"):
        assert quiet not in words


def test_a_text_that_outgrew_the_window_says_so() -> None:
    generation = written.generation()
    assert "outgrew the window" not in written.shown(generation, {}, 0)

    generation["result"]["on"]["slid"] = True

    assert "outgrew the window" in written.shown(generation, {}, 0)


def test_a_long_text_has_pages() -> None:
    num_chunks = MOST_CARDS + 3
    many = [written.chunk(index, "word", is_prompt=index == 0) for index in range(num_chunks)]
    generation = written.generation(chunks=many)

    first = written.shown(generation, {}, 0)
    last = written.shown(generation, {}, 0, {"chunk": str(MOST_CARDS + 2)})

    assert first.count("<article") == MOST_CARDS
    assert last.count("<article") == 3
    assert f"chunks {MOST_CARDS + 1}-{num_chunks} of {num_chunks}" in last
    assert f"&amp;chunk={MOST_CARDS + 1}" in first
    running = {**generation, "state": "running", "result": None}
    assert f'data-card="{num_chunks}"' in written.shown(running, {}, 0)


def test_rows_of_earlier_versions_render() -> None:
    shown = written.shown(written.old(), {}, 0)

    assert "copied 27 %" in shown
    assert "copied run, 6 tokens" in shown
    assert "lcp5" in shown
    assert "data-run" not in shown
    assert "None" not in plain(shown)


def test_hostile_text_is_text_everywhere() -> None:
    neighbor = written.neighbor(1, HOSTILE, HOSTILE, document=HOSTILE)
    chunk = written.chunk(1, HOSTILE, [neighbor])
    steering = {"exclude_chunks": [], "exclude_documents": [HOSTILE], "given": {}}
    generation = written.generation(
        chunks=[chunk], prompt=HOSTILE, run_name=HOSTILE, message=HOSTILE, parent_id=HOSTILE,
        id='"><img>', settings={"steering": steering, "stop": [HOSTILE]},
    )  # fmt: skip

    shown = written.shown(generation, {}, 0, {"text": HOSTILE}, parent={**generation})

    assert "<img" not in shown
    assert "</script" not in shown
    assert "\u202e" not in shown
    for attribute in re.findall(r'="([^"]*)"', shown):
        assert "<" not in attribute


def test_presets_are_settings_that_the_engine_takes() -> None:
    for name, pretrained in product(PRESETS, (True, False)):
        values = preset_values(name, pretrained=pretrained)
        assert preset_of(values, pretrained=pretrained) == name
        fields = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        config_from_dict(SamplingConfig, dict(zip(fields, values, strict=True)))
    assert preset_values("Balanced", pretrained=True) != preset_values("Balanced", pretrained=False)
    assert preset_of((0.33, 1.0, 0, 0.0, 1.0), pretrained=False) is None
    assert preset_of((None, 1.0, 0, 0.0, 1.0), pretrained=False) is None


def test_stop_strings_survive_the_field() -> None:
    stops = ["\n\n", "END", "a\\nb", "\t", " x", "\\"]

    assert read_stops(show_stops(stops)) == stops
    assert read_stops("a\n\nb\n") == ["a", "b"]
    assert read_stops("tail\\") == ["tail\\"]


def test_the_form_becomes_a_request() -> None:
    numbers = [3, 50, 7, 0.5, 0.9, None, 0.1, 1.2, 2]

    request = read_form(("run1:400", "", "Once", "both", *numbers, "\\n", True))

    assert request["run_id"] == "run1"
    assert request["checkpoint_step"] == 400
    assert request["corpus_id"] is None
    assert request["retrieval"] == "both"
    assert "top_k" not in request["sampling"]
    config = config_from_dict(SamplingConfig, request["sampling"])
    assert (config.num_neighbors, config.max_new_tokens, config.seed) == (3, 50, 7)
    assert (config.temperature, config.min_p, config.num_samples) == (0.5, 0.1, 2)
    assert config.stop == ("\n",)
    with pytest.raises(ConfigError, match="model must be chosen"):
        read_form((None, "", "Once", "on", *numbers, "", False))


@pytest.mark.slow
def test_a_text_that_has_ended_is_read_once(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = trained.services
    body = {"run_id": trained.run_id, "prompt": "the cat sat on a mat", "max_new_tokens": 8}
    generation = trained.client.post("/api/v1/generations", json=body).json()
    shown, query = Output(services), {"gen": generation["id"]}
    first = shown.render(query)
    reads: list[str] = []
    read = services.generations.get
    monkeypatch.setattr(
        services.generations, "get", lambda wanted: reads.append(wanted) or read(wanted)
    )

    assert shown.render(query) == first
    assert reads == []
    shown.render({**query, "text": "2"})
    assert reads == [generation["id"]]
    assert f"/corpora?corpus={generation['corpus_id']}" in first
    with monkeypatch.context() as gone:
        gone.setattr(services.corpora, "exists", lambda _: False)
        assert "/corpora?" not in shown.render(query)
    services.generations.delete(generation["id"])
    assert "There is no generation" in shown.render(query)


@pytest.mark.slow
def test_buttons_show_what_is_possible(trained: Trained) -> None:
    def buttons(query: dict[str, str]) -> dict[str, bool]:
        shown = render_controls(trained.services, query)
        return {
            name: "disabled" not in rest for name, rest in re.findall(r'id="(\w+)"(.*?)>', shown)
        }

    body = {"run_id": trained.run_id, "prompt": "the cat sat on a mat", "max_new_tokens": 8}
    ended = trained.client.post("/api/v1/generations", json=body).json()
    running = trained.services.generations.start(
        run_id=trained.run_id, prompt="the cat", sampling={"max_new_tokens": 100_000}
    )

    assert buttons({}) == {"stop": False, "continue": False}
    assert buttons({"gen": "nothing"}) == {"stop": False, "continue": False}
    own_end = ended["result"]["on"]["reason"] == "end"
    assert buttons({"gen": ended["id"]}) == {"stop": False, "continue": not own_end}
    assert buttons({"gen": running.id}) == {"stop": True, "continue": False}
    trained.services.generations.stop(running.id)
