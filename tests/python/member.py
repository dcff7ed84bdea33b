"""A PyTorch worker that does what it is told.

usage: member.py

Writes "ready", or "skip WHY" where there is no PyTorch. Then for each line of
its input it writes one line: "ok", "ok VALUE", or "raised TYPE: TEXT". It ends
with its input.

  serve                              serves a TCPStore; the value is its port
  join NAME RANK GROUP PORT SECONDS  rpc.init_rpc without a world size, in the
                                     store at PORT, under the prefix of GROUP
  prefix                             what comes before GROUP in that prefix
  leave                              rpc.shutdown()
  names                              the members, as this worker knows them
  eval EXPRESSION                    the value of an expression of Python
"""

import inspect
import os
import sys

_store = None

try:
    import datetime

    import torch
    import torch.distributed as dist
    import torch.distributed.autograd as dist_autograd
    import torch.distributed.rpc as rpc
except ImportError as error:
    print("skip", error, flush=True)
    sys.exit(0)


def double(x):
    return 2 * x


def describe(*args, **kwargs):
    return f"{args!r} {kwargs!r}"


def fail(text):
    raise ValueError(text)


def add_all(*tensors, scale=1):
    return {"sum": sum(tensors) * scale, "count": len(tensors)}


class OnlyHere:
    pass


def make_object():
    return OnlyHere()


def scale(tensor, factor):
    """A name: the C++ workers have registered what it does, as the next two."""


def same(value):
    """See `scale`."""


def failing(text):
    """See `scale`."""


def backward_through(name):
    with dist_autograd.context() as context:
        x = torch.ones(2, requires_grad=True)
        y = rpc.rpc_sync(name, torch.add, args=(x, x))
        dist_autograd.backward(context, [y.sum()])


def profiled(name):
    with torch.autograd.profiler_legacy.profile():
        return rpc.rpc_sync(name, torch.add, args=(torch.ones(1), 1))


def join(name, rank, group, port, seconds):
    # All workers are clients of the store, rank 0 too.
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    os.environ["TORCHELASTIC_RESTART_COUNT"] = "0"
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    os.environ["MASTER_PORT"] = port
    # `init_rpc` counts the groups of its process.
    rpc._init_counter = int(group)
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"tcp://127.0.0.1:{port}", rpc_timeout=float(seconds), num_worker_threads=4
    )
    rpc.init_rpc(name, rank=int(rank), rpc_backend_options=options)


def prefix():
    # Later versions have no such prefix for workers of torchelastic.
    source = inspect.getsource(sys.modules["torch.distributed.rendezvous"])
    return ("/worker/attempt_0/" if "/worker/attempt_" in source else "") + "rpc_prefix_"


def names():
    agent = rpc.api._get_current_rpc_agent()
    return ",".join(sorted(f"{info.name}-{info.id}" for info in agent.get_worker_infos()))


def serve():
    global _store
    _store = dist.TCPStore(
        "127.0.0.1", 0, None, True, datetime.timedelta(seconds=60), wait_for_workers=False
    )
    return _store.port


def run(command, rest):
    if command == "serve":
        return serve()
    if command == "join":
        return join(*rest.split())
    if command == "leave":
        return rpc.shutdown()
    if command == "prefix":
        return prefix()
    if command == "names":
        return names()
    return eval(rest)


def main():
    print("ready", flush=True)
    for line in sys.stdin:
        command, _, rest = line.strip().partition(" ")
        try:
            value = run(command, rest)
            answer = "ok" if value is None else f"ok {value}"
        except BaseException as error:
            answer = f"raised {type(error).__name__}: {error}"
        print(" ".join(answer.split()), flush=True)


main()
