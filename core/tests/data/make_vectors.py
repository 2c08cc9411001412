"""Writes canonical_vectors.jsonl: what Python's own json, hashlib and hmac make of the texts that clients send.

Run it in this folder with Python 3.8 or later: python3 make_vectors.py. The same seed gives the same file.

Each line has `text` (members in any order, any white space and escapes), `as_sent` (json.dumps with sorted keys, without
spaces, with ensure_ascii off), and for the result {error, job_id, ok, result: text} its `sha256` and `sig`, both over
that form, as a client would make them.
"""

import hashlib
import hmac
import json
import random

KEY = b"vectors' own key"
VECTORS = 150
CHARACTERS = "abz09 _/'\"\\\b\f\n\r\t\x00\x1f\x7f\x80\u00e9\u00f6\u20ac\u2028\ud7ff\ue000\ufb33\uffff\U00010000\U0001f600\U0010ffff"
NUMBERS = [0, 1, -1, 7, 10**15, 2**53, 2**53 + 1, 2**63, 2**64, 10**30, -(10**22), 0.0, -0.0, 1.0, 0.1, 1.5, -2.25, 1e16,
           1e21, 1e22, 1e-6, 1e-7, 5e-324, 1.7976931348623157e308, 333333333.3333333, 123456789.125]

rng = random.Random(20260115)


def text_of_characters():
    return "".join(rng.choice(CHARACTERS) for _ in range(rng.randrange(6)))


def value(depth):
    kind = rng.randrange(8 if depth else 5)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind in (1, 2):
        return rng.choice(NUMBERS)
    if kind in (3, 4):
        return text_of_characters()
    if kind == 5:
        return [value(depth - 1) for _ in range(rng.randrange(4))]
    return {text_of_characters(): value(depth - 1) for _ in range(rng.randrange(12))}


def space():
    return rng.choice(["", "", "", " ", "\n", "\t\r\n "])


def spelled_string(text):
    out = []
    for character in text:
        if rng.random() < 0.2:
            units = character.encode("utf-16-be", "surrogatepass")
            digits = ["%02x%02x" % pair for pair in zip(units[::2], units[1::2])]
            out.append("".join("\\u" + (d.upper() if rng.random() < 0.5 else d) for d in digits))
        elif character == "/" and rng.random() < 0.5:
            out.append("\\/")
        else:
            out.append(json.dumps(character, ensure_ascii=False)[1:-1])
    return '"' + "".join(out) + '"'


def spelled(node):
    if isinstance(node, str):
        return spelled_string(node)
    if isinstance(node, list):
        return "[" + ",".join(space() + spelled(item) + space() for item in node) + space() + "]"
    if isinstance(node, dict):
        members = list(node.items())
        rng.shuffle(members)
        pieces = [space() + spelled_string(k) + space() + ":" + space() + spelled(v) + space() for k, v in members]
        return "{" + ",".join(pieces) + space() + "}"
    return json.dumps(node)


def canonical(node):
    return json.dumps(node, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def main():
    with open("canonical_vectors.jsonl", "w", encoding="ascii", newline="\n") as out:
        for number in range(VECTORS):
            node = value(3)
            result = {"job_id": "job_%020d" % number, "ok": number % 3 != 0, "result": node, "error": None}
            if not result["ok"]:
                result["error"] = text_of_characters()
            form = canonical(result).encode()
            vector = {
                "text": spelled(node),
                "as_sent": canonical(node),
                "job_id": result["job_id"],
                "ok": result["ok"],
                "error": spelled(result["error"]),
                "sha256": hashlib.sha256(form).hexdigest(),
                "sig": hmac.new(KEY, form, hashlib.sha256).hexdigest(),
            }
            out.write(json.dumps(vector) + "\n")


main()
