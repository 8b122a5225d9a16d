"""How words sound: what has an entry, how homographs are read, what changed for nano.

    python benchmarks/pronunciation.py [--text FILE ...]                   coverage; share of words that nano hears anew
    python benchmarks/pronunciation.py --homographs homographs.tsv.gz      accuracy through the whole front end

Coverage counts what is in the lexicons or a regular form of a word there; what would be sounded out or read by its
letters has no entry. Word forms are the commonest of `wordfreq`, names those of the American census of 1990 (`names`),
brands those of `brands.txt`. Homographs are the labelled sentences that training never saw (`tools/front_end`): the
tenth of the test. Each is read as a text of its own, and counts as right if the word has the phonemes of its label.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import re
from collections import Counter, defaultdict
from pathlib import Path
from zlib import crc32

from chelys.evaluation.sets import read_texts
from chelys.text.lexicon import NANO_LEXICON, Lexicon
from chelys.text.pronounce import Pronouncer, english
from chelys.text.split import split
from chelys.text.tokenizer import Tokenizer

HERE = Path(__file__).parent
FORMS, NAMES = 10_000, 1000


def commonest() -> dict[str, list[str]]:
    """Lists of words that ought to have entries."""
    import names
    from wordfreq import top_n_list

    forms = [word for word in top_n_list("en", 2 * FORMS) if re.fullmatch("[a-z']+", word)]
    shares: Counter[str] = Counter()
    for kind in ("first:female", "first:male"):
        for line in Path(names.FILES[kind]).read_text(encoding="utf8").splitlines():
            name, share, *_ = line.split()
            shares[name.lower()] += float(share)
    last = [line.split()[0].lower() for line in Path(names.FILES["last"]).read_text(encoding="utf8").splitlines()]
    return {
        "word forms": forms[:FORMS],
        "first names": [name for name, _ in shares.most_common(NAMES)],
        "surnames": last[:NAMES],
        "brands": (HERE / "brands.txt").read_text(encoding="utf8").split(),
    }


def coverage(lexicon: Lexicon) -> None:
    """Print the share of words without an entry, today and in nano's lexicon alone."""
    pronouncer = Pronouncer(lexicon)
    for name, words in commonest().items():
        alone = sum(lexicon.lookup(word) is None for word in words)
        missing = [word for word in words if pronouncer.sound(word)[1] not in ("lexicon", "context")]
        print(
            f"{name}: {len(words)}, without an entry {len(missing) / len(words):.2%}, before {alone / len(words):.2%}"
        )
        print("  missing:", " ".join(missing) or "none")


def changed(lexicon: Lexicon, texts: list[str]) -> None:
    """Print how many words of running text sound unlike before, when nano's lexicon was all there was."""
    tokenizer, words = Tokenizer.load(NANO_LEXICON.parent), []
    for text in (text.text for name in texts for text in read_texts(name)):
        for sentence in split(text):
            words += tokenizer.analyse(sentence.text).words
    kinds: Counter[str] = Counter()
    examples: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for word in words:
        before = lexicon.lookup(word.text) or lexicon.lookup(word.text.lower())
        if word.phonemes != before:
            kind = "new" if before is None else "homograph" if word.found == "context" else "corrected"
            kinds[kind] += 1
            examples[kind][f"{word.text} {before or ''} {word.phonemes}"] = None
    print(f"{len(words)} words of running text, of which sound anew:")
    for kind, count in kinds.items():
        print(f"  {kind}: {count} ({count / len(words):.2%}), such as {', '.join([*examples[kind]][:12])}")


def homographs(path: Path) -> None:
    """Print the accuracy on the test's sentences, and that of the lexicon's one entry."""
    tokenizer, variants = Tokenizer.load(NANO_LEXICON.parent), english().homographs.variants
    assert tokenizer.lexicon is not None
    right, plain = defaultdict(list), []
    with gzip.open(path, "rt", encoding="utf8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if crc32(f"split{row['sentence']}".encode()) % 10:
                continue
            word = row["homograph"]
            wanted = next(r.phonemes for r in variants[word] if r.label == row["wordid"])
            said = [w for w in tokenizer.analyse(row["sentence"]).words if w.text.lower() == word]
            before = row["sentence"].encode()[: int(row["start"])].decode(errors="ignore")  # it counts bytes
            place = len(re.findall(rf"\b{word}\b", before, re.IGNORECASE))
            right[word].append(place < len(said) and said[place].phonemes == wanted)
            plain.append(tokenizer.lexicon[word] == wanted)
    micro = [found for its in right.values() for found in its]
    macro = [sum(its) / len(its) for its in right.values()]
    print(f"homographs: {len(micro)} sentences of {len(right)} words, right {sum(micro) / len(micro):.4f},")
    print(f"  by word {sum(macro) / len(macro):.4f}; the lexicon alone {sum(plain) / len(plain):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homographs", type=Path, metavar="FILE")
    parser.add_argument("--text", nargs="+", metavar="SET|FILE", default=["harvard", "long"])
    arguments = parser.parse_args()
    if arguments.homographs:
        return homographs(arguments.homographs)
    lexicon = Lexicon.load(NANO_LEXICON)
    coverage(lexicon)
    changed(lexicon, arguments.text)


if __name__ == "__main__":
    main()
