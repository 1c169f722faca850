"""Names, orders and maps: every order is checked against the numbers the data sets and released programs use."""

import ast
import itertools
from pathlib import Path

import pytest

import ferkit
from ferkit import labels


def test_canonical_names_are_eight_and_every_order_uses_them_once():
    assert len(labels.EMOTIONS) == len(set(labels.EMOTIONS)) == 8
    for key, names in labels.ORDERS.items():
        assert len(set(names)) == len(names) in (7, 8), key
        expected = set(labels.EMOTIONS) if len(names) == 8 else set(labels.EMOTIONS[:7])
        assert set(names) == expected, key


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("angry", "anger"), ("Anger", "anger"), ("HAPPY", "happiness"), (" joy ", "happiness"), ("sad", "sadness"),
        ("Surprised", "surprise"), ("scared", "fear"), ("fearful", "fear"), ("disgusted", "disgust"),
        ("neutral", "neutral"), ("contempt", "contempt"),
    ],
)  # fmt: skip
def test_aliases(word, name):
    assert labels.canonical(word) == name


def test_no_alias_names_two_emotions():
    words = [word for name, more in labels.ALIASES.items() for word in (name, *more)]
    assert len(words) == len(set(words))
    assert tuple(labels.ALIASES) == labels.EMOTIONS


def test_unknown_words_list_the_known_ones():
    with pytest.raises(ValueError, match=r"found 'bored'.*anger \(angry\)"):
        labels.canonical("bored")
    with pytest.raises(ValueError, match=r"found 'ckplus'.*fer2013.*papers"):
        labels.order("ckplus")
    with pytest.raises(ValueError, match="happiness more than once"):
        labels.index_map(("happy", "joy"), "fer2013")


@pytest.mark.parametrize(
    ("source", "expected"),
    [  # native label -> logit of ResEmoteNet's released code, written out as numbers
        ("fer2013", (3, 4, 5, 0, 2, 1, 6)),
        ("expw", (3, 4, 5, 0, 2, 1, 6)),
        ("rafdb", (1, 5, 4, 0, 2, 3, 6)),
        ("affectnet7", (6, 0, 2, 1, 5, 4, 3)),
        ("affectnet8", (6, 0, 2, 1, 5, 4, 3, -1)),
        ("papers", (3, 4, 5, 0, 6, 2, 1)),
    ],
)
def test_maps_into_resemotenet(source, expected):
    assert labels.index_map(source, "resemotenet") == expected


def test_ferplus_to_affectnet_swaps_columns_2_3_and_4_6():
    assert labels.index_map("ferplus", "affectnet8") == (0, 1, 3, 2, 6, 5, 4, 7)
    assert labels.index_map("ferplus", "esr") == (0, 1, 3, 2, 6, 5, 4, 7)
    header = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    assert ",".join(labels.FERPLUS_COLUMNS) == header


def test_papers_order_is_alphabetical_in_the_papers_own_words():
    printed = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
    assert printed == sorted(printed)
    assert labels.order("papers") == tuple(labels.canonical(word) for word in printed)


def test_maps_there_and_back():
    for source, target in itertools.product(labels.ORDERS, repeat=2):
        there, back = labels.index_map(source, target), labels.index_map(target, source)
        for i, j in enumerate(there):
            assert (j == -1) == (labels.order(source)[i] not in labels.order(target))
            if j != -1:
                assert back[j] == i and labels.order(target)[j] == labels.order(source)[i]


def test_maps_accept_names():
    assert labels.index_map(("Happy", "Angry"), ("anger", "fear", "happiness")) == (2, 0)
    assert labels.index_map(("contempt",), "fer2013") == (-1,)


def test_native_codes():
    assert labels.native_code("rafdb", "surprise") == 1 and labels.native_code("rafdb", "neutral") == 7
    assert labels.native_code("fer2013", "angry") == 0 and labels.native_code("affectnet8", "contempt") == 7
    for key, names in labels.ORDERS.items():
        assert [labels.from_native(key, labels.native_code(key, name)) for name in names] == list(names)


@pytest.mark.parametrize(
    ("key", "code"), [("rafdb", 0), ("rafdb", 8), ("fer2013", -1), ("fer2013", 7), ("affectnet8", 9)]
)
def test_codes_out_of_range_say_the_range(key, code):
    with pytest.raises(ValueError, match=rf"label of {key} from [01] to \d, found {code}\. Known: [01] "):
        labels.from_native(key, code)
    with pytest.raises(ValueError, match="fer2013 has: anger"):
        labels.native_code("fer2013", "contempt")


def _written_orders(source: str) -> list[int]:
    """Lines on which a tuple or list of five or more emotion words is written out."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Tuple | ast.List):
            words = [e.value.lower() for e in node.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)]
            if len({labels._CANONICAL[word] for word in words if word in labels._CANONICAL}) >= 5:
                found.append(node.lineno)
    return found


def test_no_other_module_writes_an_order():
    package = Path(ferkit.__file__).parent
    modules = [path for path in package.rglob("*.py") if path != package / "labels.py"]
    assert modules and _written_orders((package / "labels.py").read_text())
    offenders = {
        str(path.relative_to(package)): lines for path in modules if (lines := _written_orders(path.read_text()))
    }
    assert not offenders, f"label orders are written in ferkit/labels.py only, found more in {offenders}"
