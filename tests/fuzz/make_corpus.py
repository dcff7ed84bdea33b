#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets that read messages.

usage: make_corpus.py DUMPS

DUMPS is a folder of messages that `wire_property_test --dump=DUMPS` wrote:
libtorch's own bytes. Run it with the Python that has PyTorch 1.13.1. It writes
corpus/tensor_pickle, corpus/message and corpus/pickle_tree beside itself.
"""

import io
import pathlib
import pickle
import struct
import sys

import torch
from torch.distributed.rpc import internal

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


MANY = ([1, -1, 70000, 2**40], (None, True, 1.5), {"a": b"b", "c": "d" * 300})


def write(folder, name, content):
    path = CORPUS / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def message(payloads, tensors=(), metadata=b"", devices=0):
    """The input of message_fuzz."""
    out = bytes([len(payloads)])
    out += b"".join(struct.pack("<I", len(payload)) for payload in payloads)
    out += bytes([len(tensors)])
    out += b"".join(struct.pack("<IB", len(tensor), devices) for tensor in tensors)
    out += bytes([len(metadata)]) + metadata
    return out + b"".join(payloads) + b"".join(tensors)


def request(kind, payload, pickle_of_tensors, tensors=(), metadata=b""):
    head = [struct.pack("<i", kind), struct.pack("<q", 7)]
    return message(head + [payload, pickle_of_tensors], tensors, metadata)


def python_payloads():
    """What Python workers put into calls and replies."""
    udf = internal.PythonUDF
    values = {
        "call": udf(torch.add, (torch.ones(2), 1), {"alpha": 2}),
        "call_many": udf(max, MANY, {}),
        "call_same": udf(print, (torch.ones(1),) * 2 + (torch.zeros(3),), {}),
        "reply": (torch.ones(2), {"loss": 0.25}, [True, None]),
        "error": internal.RemoteException("On worker: ValueError('x')", ValueError),
    }
    for name, value in values.items():
        yield name, internal.serialize(value)[0]


def all_protocols():
    tuples = (1, (2, 3), (4, 5, 6), ())
    value = {"n": [1, 255, 256, -1, 2**31, -(2**70)], "t": tuples, "s": {"é"}}
    value["more"] = [tuples, tuples, b"\0\xff", 1.25, None, True, bytearray(b"x")]
    value["more"].append(frozenset([1]))
    for protocol in range(2, 6):
        out = io.BytesIO()
        pickle.Pickler(out, protocol).dump(value)
        yield f"protocol{protocol}", out.getvalue()


def parts_of(dump):
    """The payloads and tensors of a message: a u64 and that many bytes each."""
    while dump:
        (length,) = struct.unpack_from("<Q", dump)
        yield dump[8 : 8 + length]
        dump = dump[8 + length :]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    none = b"\x80\x02ctorch.jit._pickle\nbuild_tensorlist\nq\0](etR."
    for name, payload in python_payloads():
        write("pickle_tree", name, payload)
        write("message", "python_" + name, request(0x102, b"\0" + payload, none))
    for name, content in all_protocols():
        write("pickle_tree", name, content)
    for dump in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        parts = list(parts_of(dump.read_bytes()))
        write("tensor_pickle", dump.name + ".pickle", parts[3])
        write("message", dump.name, message(parts[:4], parts[4:]))
    key = b"rp1\x01\x08" + struct.pack("<q", 10**9) + b"\x02\x03key\x03\x08" + bytes(range(8))
    write("message", "extras", request(0x100, b"x", none, metadata=key))
    write("message", "way_back", request(0x100, b"x", none, metadata=b"rp1\x07\0\x09\x04\0\1\1\0"))
    write("message", "reply_id", request(0x201, b"x", none, metadata=b"rp1\x08\x08" + bytes(8)))
    write("message", "ping", request(0x72500101, b"ping 15000000000", none))
    write("message", "cancel", request(0x72500101, b"cancel 42", none))
    write("message", "features", request(0x100, b"1 deadline cancel memory=1f", none))
    write("message", "pong", request(0x72500201, b"pong 0123456789abcdef", none))
    write("message", "error", request(0x237, b"Error on Node 1: ABORTED: no", none))
    write("message", "gpu", message([b"\0\1\0\0", bytes(8), b"", none], [b"four"], devices=5))
    # Too large: read, and thrown away.
    lengths = struct.pack("<IIII", 4, 8, 1 << 30, len(none))
    write("message", "large", b"\4" + lengths + b"\0\0" + b"\0\1\0\0" + bytes(8))


if __name__ == "__main__":
    main()
