"""Tests of the label sets: their form, their alignment and their errors."""

from __future__ import annotations

import re
import unicodedata
from importlib import resources

import pytest

from classy.labels import LANGUAGES, UnknownLabelSet, class_ids, label_set

SET = "imagenet-1k"
COLUMNS = ("wnid", *LANGUAGES)

# Japanese names whose ordinary spelling holds Latin letters.
LATIN_ALLOWED = {"ATM", "CDプレーヤー", "iPod", "Tシャツ", "T型フォード"}

EXAMPLES = [
    (0, "n01440764", "tench", "テンチ"),
    (1, "n01443537", "goldfish", "金魚"),
    (9, "n01518878", "ostrich", "ダチョウ"),
    (21, "n01608432", "kite (bird)", "トビ"),
    (51, "n01704323", "triceratops", "トリケラトプス"),
    (97, "n01847000", "drake", "オスのカモ"),
    (130, "n02007558", "flamingo", "フラミンゴ"),
    (134, "n02012849", "crane (bird)", "ツル"),
    (151, "n02085620", "Chihuahua", "チワワ"),
    (164, "n02088632", "bluetick coonhound", "ブルーティッククーンハウンド"),
    (207, "n02099601", "golden retriever", "ゴールデンレトリバー"),
    (229, "n02105641", "Old English sheepdog", "オールドイングリッシュシープドッグ"),
    (264, "n02113186", "Cardigan Welsh corgi", "ウェルシュコーギーカーディガン"),
    (281, "n02123045", "tabby cat", "キジトラ猫"),
    (282, "n02123159", "tiger cat", "トラ猫"),
    (285, "n02124075", "Egyptian Mau", "エジプシャンマウ"),
    (291, "n02129165", "lion", "ライオン"),
    (323, "n02279972", "monarch butterfly", "オオカバマダラ"),
    (339, "n02389026", "sorrel horse", "栗毛の馬"),
    (388, "n02510455", "giant panda", "ジャイアントパンダ"),
    (407, "n02701002", "ambulance", "救急車"),
    (463, "n02909870", "bucket", "バケツ"),
    (474, "n02963159", "cardigan sweater", "カーディガン"),
    (508, "n03085013", "computer keyboard", "パソコンのキーボード"),
    (517, "n03126707", "crane (machine)", "クレーン（重機）"),
    (563, "n03388183", "fountain pen", "万年筆"),
    (610, "n03595614", "T-shirt", "Tシャツ"),
    (673, "n03793489", "computer mouse", "パソコンのマウス"),
    (714, "n03929660", "guitar pick", "ギターピック"),
    (760, "n04070727", "refrigerator", "冷蔵庫"),
    (817, "n04285008", "sports car", "スポーツカー"),
    (837, "n04356056", "sunglasses", "サングラス"),
    (879, "n04507155", "umbrella", "傘"),
    (920, "n06874185", "traffic light", "信号機"),
    (954, "n07753592", "banana", "バナナ"),
    (963, "n07873807", "pizza", "ピザ"),
    (967, "n07920052", "espresso", "エスプレッソ"),
    (980, "n09472597", "volcano", "火山"),
    (982, "n10148035", "bridegroom", "新郎"),
    (998, "n13133613", "ear of corn", "トウモロコシの穂"),
    (999, "n15075141", "toilet paper", "トイレットペーパー"),
]


def column(name: str) -> tuple[str, ...]:
    """Return one column of the label set.

    Args:
        name: "wnid" or a language.

    Returns:
        One entry per class.
    """
    return class_ids(SET) if name == "wnid" else label_set(SET, name)


@pytest.mark.parametrize("name", COLUMNS)
def test_files_are_1000_lf_terminated_lines(name: str) -> None:
    """Each file is 1,000 lines of UTF-8 that end in LF, with no byte-order mark."""
    package = resources.files("classy.labels")
    data = package.joinpath(f"{SET}.{name}.txt").read_bytes()
    assert data.count(b"\n") == 1000
    assert data.endswith(b"\n")
    assert b"\r" not in data
    assert not data.startswith(b"\xef\xbb\xbf")
    assert len(data.decode("utf-8").splitlines()) == 1000


@pytest.mark.parametrize("name", COLUMNS)
def test_every_class_has_one_entry_of_its_own(name: str) -> None:
    """No entry is empty, padded with blanks, or shared but for letter case."""
    entries = column(name)
    assert len(entries) == 1000
    assert [e for e in entries if not e or e != e.strip()] == []
    assert len({e.casefold() for e in entries}) == 1000


def test_ids_are_wordnet_nouns_in_ilsvrc2012_order() -> None:
    """Every id is n and eight digits, and class order is ascending id order."""
    ids = class_ids(SET)
    assert [i for i in ids if not re.fullmatch(r"n\d{8}", i)] == []
    assert list(ids) == sorted(ids)


@pytest.mark.parametrize(("index", "wnid", "en", "ja"), EXAMPLES)
def test_columns_name_the_same_class(index: int, wnid: str, en: str, ja: str) -> None:
    """At sampled indices, the id and both names belong to the class known there."""
    assert [column(name)[index] for name in ("wnid", "en", "ja")] == [wnid, en, ja]


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_in_composed_form(language: str) -> None:
    """Names are NFC-normalised, so equal names compare equal as strings."""
    names = label_set(SET, language)
    assert [n for n in names if unicodedata.normalize("NFC", n) != n] == []


def test_english_names_are_latin_script() -> None:
    """English names hold Latin letters and plain punctuation only."""
    names = label_set(SET, "en")
    assert [n for n in names if not re.fullmatch(r"[A-Za-zçé' ()-]+", n)] == []


def test_japanese_names_are_in_japanese_script() -> None:
    """Japanese names hold Latin letters only where ordinary Japanese spelling does."""
    names = label_set(SET, "ja")
    assert {n for n in names if re.search(r"[A-Za-z]", n)} == LATIN_ALLOWED
    script = re.compile(r"[ぁ-んァ-ヶー一-鿿々（）]+")
    odd = [n for n in names if n not in LATIN_ALLOWED and not script.fullmatch(n)]
    assert odd == []


def test_chinese_names_are_in_simplified_characters() -> None:
    """Chinese names hold Latin letters only where ordinary Chinese spelling does, and no character of Japanese."""
    names = label_set(SET, "zh")
    assert {n for n in names if re.search(r"[A-Za-z]", n)} == {"iPod播放器", "T恤", "福特T型车"}
    odd = [n for n in names if not re.fullmatch(r"[A-Za-z一-鿿䴕（）]+", n) or re.search("[機鳥魚車馬貓]", n)]
    assert odd == []


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (1, "金鱼"),
        (151, "吉娃娃"),
        (207, "金毛寻回犬"),
        (282, "虎猫"),
        (388, "大熊猫"),
        (407, "救护车"),
        (499, "切肉刀"),
        (500, "崖居"),
        (620, "膝上型电脑"),
        (760, "冰箱"),
        (817, "跑车"),
        (920, "交通信号灯"),
        (954, "香蕉"),
        (967, "意式浓缩咖啡"),
        (980, "火山"),
        (999, "卫生纸"),
    ],
)
def test_chinese_names_stand_at_their_class(index: int, name: str) -> None:
    """At sampled indices, the Chinese name belongs to the class known there."""
    assert label_set(SET, "zh")[index] == name


def test_japanese_names_have_no_half_width_katakana() -> None:
    """Katakana is always written full-width."""
    names = label_set(SET, "ja")
    assert [n for n in names if re.search("[\uff61-\uff9f]", n)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_brackets_pair_up(language: str) -> None:
    """A qualifier in brackets closes at the name's end and never stands alone."""
    pattern = r"[^()（）]+( \([^()]+\)|（[^（）]+）)?"
    names = label_set(SET, language)
    assert [n for n in names if not re.fullmatch(pattern, n)] == []


def test_unknown_set_is_refused_by_name() -> None:
    """Asking for a set that does not exist names it and the sets that do."""
    with pytest.raises(UnknownLabelSet, match=r"'coco'.*imagenet-1k"):
        class_ids("coco")
    with pytest.raises(UnknownLabelSet, match=r"'coco'.*imagenet-1k"):
        label_set("coco", "en")


def test_unknown_language_is_refused_by_name() -> None:
    """Asking for a missing language names it and the languages that exist."""
    with pytest.raises(UnknownLabelSet, match=r"'fr'.*en, ja, zh"):
        label_set(SET, "fr")


def test_ids_are_not_a_language() -> None:
    """The id file cannot be read as if it held names."""
    with pytest.raises(ValueError, match="'wnid'"):
        label_set(SET, "wnid")
