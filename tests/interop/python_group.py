#!/usr/bin/env python3
"""A PyTorch worker in Python, in static groups with one of ours.

usage: python_group.py --peer PYTHON_PEER [--reprise REPRISE] [--all]

It makes groups of two, sends our worker tensors of all types that this PyTorch
has, as functions of Python are called, and by way of a call of our worker's back
here, and compares each byte. With --all it makes one for each store, transport,
channel and order, else two. REPRISE, the command, serves our own TCPStore.
Exit codes: 0 passed, 77 skipped with a reason, 1 failed.
"""

import argparse
import datetime
import itertools
import os
import subprocess
import sys
import tempfile
import time


def skip(why):
    print(f"skip: {why}", flush=True)
    sys.exit(77)


try:
    import torch
    import torch.distributed as dist
    import torch.distributed.autograd as dist_autograd
    import torch.distributed.rpc as rpc
    from torch.distributed.rpc import api
except ImportError as error:
    skip(f"no PyTorch here ({error}): tools/setup.sh --with-interop or --with-torch")

OLD = (
    "uint8 int8 int16 int32 int64 float16 float32 float64 complex32 complex64"
    " complex128 bool bfloat16"
).split()
NEW = (
    "uint16 uint32 uint64 float8_e5m2 float8_e4m3fn float8_e5m2fnuz"
    " float8_e4m3fnuz float8_e8m0fnu"
).split()
TIMEOUT = 60
IN_FLIGHT = 5000
MODERN = int(torch.__version__.split(".")[0]) >= 2


# Our worker goes by the names of these functions; they run only in Python.
def echo(*tensors):
    return tensors


def through_peer(*tensors):
    raise RuntimeError("this runs at our worker, which knows no Python")


def fail():
    raise RuntimeError("this too")


def hold(*tensors):
    raise RuntimeError("this too")


def release():
    raise RuntimeError("this too")


def same(*tensors):
    """Called by our worker."""
    return tensors


class Counts:
    def __init__(self):
        self.calls = self.bytes = self.different = self.failures = 0

    def fail(self, what):
        self.failures += 1
        print(f"FAIL {what}", flush=True)

    def compare(self, what, sent, got):
        if len(sent) != len(got):
            return self.fail(f"{what}: {len(got)} tensors instead of {len(sent)}")
        for a, b in zip(sent, got):
            if a.dtype != b.dtype or a.shape != b.shape:
                self.fail(f"{what}: {b.dtype} {b.shape}, not {a.dtype} {a.shape}")
                continue
            x, y = raw(a), raw(b)
            self.bytes += x.numel()
            different = int((x != y).sum())
            self.different += different
            if different:
                self.fail(f"{what}: {different} of {x.numel()} bytes of {a.dtype} differ")


def raw(tensor):
    """The bytes of the elements."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype)
    copy.copy_(tensor)
    return bytes_of(copy)


def bytes_of(tensor):
    """Of a contiguous tensor; PyTorch 1.13 cannot view a scalar as another type."""
    view = torch.empty(0, dtype=torch.uint8)
    storage = tensor.untyped_storage() if MODERN else tensor.storage()._storage
    return view.set_(storage, 0, (tensor.numel() * tensor.element_size(),))


def random_tensor(dtype, *shape):
    tensor = torch.empty(shape, dtype=dtype)
    values = bytes_of(tensor)
    limit = 2 if dtype == torch.bool else 256
    values.copy_(torch.randint(0, limit, values.shape, dtype=torch.uint8))
    return tensor


def some_of(dtype):
    tensor = random_tensor(dtype, 6, 10)
    return [
        tensor,
        tensor.t(),
        tensor[1:3, ::2],
        random_tensor(dtype, 3).expand(4, 3),
        random_tensor(dtype),
        random_tensor(dtype, 0),
        random_tensor(dtype, 3, 0, 2),
    ]


def call(counts, function, *arguments, **options):
    counts.calls += 1
    return rpc.rpc_sync("ours", function, args=arguments, timeout=TIMEOUT, **options)


def exchange(counts, largest):
    names = OLD + [name for name in NEW if hasattr(torch, name)]
    for name in names:
        sent = some_of(getattr(torch, name))
        counts.compare(name, sent, call(counts, echo, *sent))
        counts.compare(f"{name} by way of a call", sent, call(counts, through_peer, *sent))
    base = random_tensor(torch.float32, 64, 64)
    sent = [base, base.t(), base.view(4096), base[16:]]
    for function in (echo, through_peer):
        got = call(counts, function, *sent)
        counts.compare("one storage of four tensors", sent, got)
        if len({tensor.storage().data_ptr() for tensor in got}) != 1:
            counts.fail("four tensors of one storage came in several")
    for size in (0, 1, 1023, 65536, (1 << 20) + 1, 16 << 20, 64 << 20):
        if size <= largest:
            sent = [random_tensor(torch.uint8, size)]
            counts.compare(f"{size} bytes", sent, call(counts, through_peer, *sent))
    in_flight(counts)
    errors(counts)
    return len(names)


def in_flight(counts):
    """None is answered before all have been sent."""
    sent = [torch.full((4,), i, dtype=torch.int32) for i in range(IN_FLIGHT)]
    counts.calls += IN_FLIGHT
    futures = [rpc.rpc_async("ours", hold, args=(tensor,), timeout=TIMEOUT) for tensor in sent]
    # Held ones are answered; those that had not come yet are the next time.
    while not all(future.done() for future in futures):
        call(counts, release)
    counts.compare("calls in flight", sent, [future.wait()[0] for future in futures])


def errors(counts):
    try:
        call(counts, fail)
        counts.fail("an error of ours did not come")
    except RuntimeError as error:
        if "there is no such thing" not in str(error):
            counts.fail(f"an error of ours came as {error}")
    counts.calls += 1
    try:
        rpc.rpc_sync("ours", hold, args=(torch.ones(1),), timeout=0.1)
        counts.fail("a call did not time out")
    except RuntimeError as error:
        if "RPC ran for more than set timeout" not in str(error):
            counts.fail(f"a timeout came as {error}")
    call(counts, release)
    sent = [torch.ones(3)]
    counts.compare("after a timeout", sent, call(counts, echo, *sent))


def make_agent(store, rank, transport, channel):
    """As rpc.init_rpc does, but for its collectives, which know only PyTorch."""
    dist_autograd._init(rank)
    options = rpc.TensorPipeRpcBackendOptions(
        num_worker_threads=4, rpc_timeout=TIMEOUT, _transports=[transport], _channels=[channel]
    )
    agent = rpc.TensorPipeAgent(store, "stock", rank, 2, options, {}, [])
    api._init_rpc_states(agent)
    return agent


def open_store(kind, folder, command):
    """The store, the URL of it for ours, and the process of its server."""
    timeout = datetime.timedelta(seconds=TIMEOUT)
    if kind == "file":
        return dist.FileStore(f"{folder}/store", 2), f"c10d-file://{folder}/store", None
    if kind == "ours":
        server = subprocess.Popen(
            [command, "store", "--tcp", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
        )
        port = int(server.stdout.readline().split(":")[-1].split()[0].strip("/."))
        store = dist.TCPStore("127.0.0.1", port, None, False, timeout, wait_for_workers=False)
        return store, f"tcp://127.0.0.1:{port}", server
    options = {"use_libuv": kind == "libuv"} if MODERN else {}
    store = dist.TCPStore("127.0.0.1", 0, None, True, timeout, wait_for_workers=False, **options)
    return store, f"tcp://127.0.0.1:{store.port}", None


def run_group(flags):
    """One group, whose barriers are the first of this process."""
    kind, transport, channel, rank = flags.group.split(",")
    torch.manual_seed(1)
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        store, url, server = open_store(kind, folder, flags.reprise)
        command = [flags.peer, f"--store={url}", f"--id={1 - int(rank)}"]
        command += [f"--transport={transport}", f"--channel={channel}"]
        if MODERN:
            command.append("--later")
        peer = subprocess.Popen(command)
        try:
            agent = make_agent(store, int(rank), transport, channel)
            types = exchange(counts, 64 << 20 if flags.all else 1 << 20)
            agent.join(True)
            if peer.wait(timeout=TIMEOUT) != 0:
                counts.fail("our worker failed")
            agent.shutdown()
            api._reset_current_rpc_agent()
        finally:
            for process in filter(None, (peer, server)):
                if process.poll() is None:
                    process.kill()
                    process.wait()
    print(
        f"{'FAIL' if counts.failures else 'ok'} {flags.group}: {types} types,"
        f" {counts.calls} calls, {counts.bytes} bytes, {counts.different} different",
        flush=True,
    )
    # PyTorch's own threads may still be ending.
    os._exit(1 if counts.failures else 0)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--reprise", default="")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--group", help="of one: store,transport,channel,rank")
    flags = parser.parse_args()
    if not rpc.is_available():
        skip("this PyTorch has no RPC")
    if flags.group:
        run_group(flags)
    os.environ["TP_SOCKET_IFNAME"] = "lo"
    print(f"PyTorch {torch.__version__}", flush=True)
    stores = ["libuv", "plain", "file"] if MODERN else ["plain", "file"]
    if flags.reprise:
        stores.append("ours")
    channels = ["basic", "cma", "mpt_uv"]
    groups = list(itertools.product(stores, ["uv", "shm"], channels, "01"))
    if not flags.all:
        groups = [(stores[0], "uv", "basic", "0"), (stores[-1], "shm", "cma", "1")]
    start = time.time()
    this = [sys.executable, "-W", "ignore", __file__] + sys.argv[1:]
    failed = 0
    for group in groups:
        failed += subprocess.run(this + ["--group", ",".join(group)]).returncode != 0
    seconds = time.time() - start
    print(f"{len(groups)} groups, {failed} failed, {seconds:.0f} s", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
