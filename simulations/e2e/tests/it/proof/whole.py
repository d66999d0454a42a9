"""The root of a Merkle tree over every entry of an exported log, made by pymerkle.

Takes the folder of the log, and prints how many entries it read and the root in base64, as the
second and third line of a checkpoint have them.
"""

import base64
import pathlib
import sys

import pymerkle


def entries(folder):
    """Entries of all bundles in the order of the log: each has two bytes of length before it."""
    bundles = sorted((folder / "tile" / "entries").rglob("*"), key=order)
    for bundle in filter(pathlib.Path.is_file, bundles):
        data = bundle.read_bytes()
        while data:
            length = int.from_bytes(data[:2], "big")
            yield data[2 : 2 + length]
            data = data[2 + length :]


def order(path):
    """`x001/234` comes before `x001/235`, and a tile that is not full, `x001/236.p/7`, last."""
    parts = path.parts[path.parts.index("entries") + 1 :]
    return [int(part.strip("x").split(".")[0]) for part in parts]


tree = pymerkle.InmemoryTree(algorithm="sha256")
for entry in entries(pathlib.Path(sys.argv[1])):
    tree.append_entry(entry)
print(tree.get_size())
print(base64.b64encode(tree.get_root()).decode())
