"""Writes the pickles of golden/ that Python's RPC makes, with PyTorch 1.13.1.

usage: dump.py DIRECTORY

The files `*.jit` are not made here: they are payloads that a stock worker sent
to a handler of ours, for `rpc.remote` and `rpc_sync` of `torch.add`, `ones` and
`split`.
"""

import pathlib
import sys

import torch
from torch._C._distributed_rpc import WorkerInfo
from torch.distributed.rpc import _utils, backend_registry
from torch.distributed.rpc.internal import PythonUDF, RemoteException, serialize


def call(function, *args, **kwargs):
    return PythonUDF(function, args, kwargs)


def double(x):
    return 2 * x


cuda0, cuda1 = torch.device("cuda", 0), torch.device("cuda", 1)
maps = {"w0": {cuda0: cuda1}}
update = _utils._update_group_membership
loop = []
loop.append(loop)
nested = None
for _ in range(300):
    nested = [nested]

VALUES = {
    "device_infos": call(backend_registry._get_device_infos),
    "join": call(update, WorkerInfo("w1", 1), [], {}, True),
    "join_devices": call(update, WorkerInfo("a:b_c", 32767), [cuda0], maps, True),
    "leave": call(update, WorkerInfo("w1", 1), [], {}, False),
    "infos": (0, {}, []),
    "infos_devices": (2, maps, [cuda0, torch.device("cpu")]),
    "plain": call(
        double,
        None,
        True,
        False,
        0,
        -1,
        10**12,
        -(2**63),
        1.5,
        "text \u00e4\U0001f600",
        "x" * 300,
        b"\x00\xff",
        b"y" * 300,
        [],
        [1],
        [1, [2, (3, 4)]],
        (),
        (1,),
        {},
        {"a": 1},
        {1: "one", (2, 3): None},
    ),
    "tensors": call(double, torch.ones(2), [torch.zeros(3), {"t": torch.ones(1)}], scale=2),
    "shared": call(double, *([["same"]] * 2)),
    "method": call(torch.add, 1),
    "device": call(double, cuda0),
    "object": call(double, WorkerInfo("w1", 1)),
    "too_long": call(double, 2**63),
    "loop": call(double, loop),
    "nested": call(double, nested),
    "set": call(double, {1, 2}),
    "none": None,
    "value_error": RemoteException("On WorkerInfo:\nValueError('no')\n", ValueError),
    "own_error": RemoteException("On WorkerInfo:\nOwn()\n", KeyError),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, value in VALUES.items():
        (folder / f"{name}.pickle").write_bytes(serialize(value)[0])


main()
