#!/usr/bin/env python3
"""A stock PyTorch worker that exchanges tensors with one of ours.

usage: stock_worker.py --peer PATH/gpu_worker --channel cuda_ipc [--device cpu]
       stock_worker.py --peer stock --channel cuda_ipc

It serves a TCPStore, starts the peer in it, and makes a static group of two:
"stock" with id 0 and "ours" with id 1. Tensors go to our worker and back, and
by way of a call of that worker's back here. With `--peer stock` both ends are
PyTorch's, which is only measured. Exit codes: 0 passed, 77 skipped with a
reason, 1 failed.
"""

import argparse
import datetime
import subprocess
import sys
import time


def skip(why):
    print(f"skip  the stock worker: {why}", flush=True)
    sys.exit(77)


try:
    import torch
    import torch.distributed as dist
    import torch.distributed.autograd as dist_autograd
    import torch.distributed.rpc as rpc
    from torch.distributed.rpc import api
except ImportError as error:
    skip(f"no PyTorch here ({error})")


def echo(*tensors):
    """What our worker does when it is called by this name."""
    return tensors


def through_peer(*tensors):
    raise RuntimeError("this runs at our worker, which does not know Python")


def add_one(*tensors):
    """Called by our worker."""
    return tuple(tensor + 1 for tensor in tensors)


def make_agent(store, device, channel, rank):
    """As rpc.init_rpc does, but for its collectives, which know only PyTorch."""
    dist_autograd._init(0)
    maps, devices = {}, []
    options = rpc.TensorPipeRpcBackendOptions(
        num_worker_threads=4, rpc_timeout=60, _channels=[channel, "basic"]
    )
    name, peer = ("stock", "ours") if rank == 0 else ("ours", "stock")
    if device.type == "cuda":
        options.set_device_map(peer, {device.index: device.index})
        maps = {peer: {device: device}}
        devices = [device]
        options.devices = devices
    agent = rpc.TensorPipeAgent(store, name, rank, 2, options, maps, devices)
    api._init_rpc_states(agent)
    return agent


def tensors_of(device, num_bytes):
    generator = torch.Generator().manual_seed(num_bytes + 1)
    count = num_bytes // 4
    return torch.randint(-1000000, 1000000, (count,), generator=generator, dtype=torch.int32).to(
        device
    )


def check(what, holds):
    print(f"{'ok   ' if holds else 'FAIL '} stock and ours, {what}", flush=True)
    return holds


def exchange(device, largest):
    good = True
    sizes = [4, 65536, (1 << 20) + 4, (9 << 20) + 4, 64 << 20, 256 << 20]
    if device.type == "cpu":
        sizes.insert(0, 0)  # PyTorch's agent dies of an empty tensor on a GPU
    for num_bytes in sizes:
        if num_bytes > largest:
            break
        tensor = tensors_of(device, num_bytes)
        (there_and_back,) = rpc.rpc_sync("ours", echo, args=(tensor,))
        (one_more,) = rpc.rpc_sync("ours", through_peer, args=(tensor,))
        good &= check(
            f"{num_bytes} bytes on {there_and_back.device}",
            there_and_back.device == tensor.device
            and one_more.device == tensor.device
            and torch.equal(there_and_back, tensor)
            and torch.equal(one_more, tensor + 1),
        )
    parts = tensors_of(device, 4096).view(32, 32)
    views = rpc.rpc_sync("ours", echo, args=(parts.t(), parts[3:5], parts.double(), parts > 0))
    wanted = (parts.t(), parts[3:5], parts.double(), parts > 0)
    good &= check("views and dtypes", all(map(torch.equal, views, wanted)))
    if device.type == "cuda":
        good &= check("work that runs still", running_work(device))
    return good


def running_work(device):
    """The tensor is made by work that is still on a stream of its own."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        matrix = torch.rand(4096, 4096, device=device)
        for _ in range(100):
            matrix = matrix @ matrix
            matrix /= matrix.max()
        tensor = torch.full((1 << 20,), 7, dtype=torch.int32, device=device)
        tensor += (matrix[0, 0] * 0).int()
        (got,) = rpc.rpc_sync("ours", through_peer, args=(tensor,))
        return bool((got == 8).all())


def measure(device, largest, peer):
    for num_bytes in [4, 1 << 20, 64 << 20, 256 << 20]:
        if num_bytes > largest:
            break
        tensor = tensors_of(device, num_bytes)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            rpc.rpc_sync("ours", echo, args=(tensor,))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
        best = sorted(times)[len(times) // 2]
        print(
            f"time  stock and {peer}, {num_bytes} bytes there and back: {best * 1e6:.0f} us,"
            f" {2 * num_bytes / best / 1e9:.1f} GB/s",
            flush=True,
        )


def serve(flags, device):
    store = dist.TCPStore(
        "127.0.0.1", flags.serve, None, False, datetime.timedelta(seconds=25), wait_for_workers=False
    )
    agent = make_agent(store, device, flags.channel, 1)
    agent.join(True)
    agent.shutdown()
    api._reset_current_rpc_agent()
    sys.exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True)
    parser.add_argument("--channel", default="cuda_ipc")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--serve", type=int, help="be the peer: the port of its store")
    flags = parser.parse_args()
    device = torch.device(flags.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        skip("PyTorch sees no GPU here")
    if not rpc.is_available():
        skip("this PyTorch has no RPC")

    if device.type == "cuda":
        torch.cuda.init()  # or the agent would do without GPUs
    if flags.serve is not None:
        serve(flags, device)
    store = dist.TCPStore(
        "127.0.0.1", 0, None, True, datetime.timedelta(seconds=25), wait_for_workers=False
    )
    is_stock = flags.peer == "stock"
    url = f"tcp://127.0.0.1:{store.port}"
    if int(torch.__version__.split(".")[0]) < 2:
        url += "?protocol=1"
    arguments = ["--role=stock", f"--store={url}", f"--channel={flags.channel}"]
    arguments.append(f"--device={device.type}")
    command = [flags.peer] + arguments
    if is_stock:
        command = [sys.executable, __file__] + sys.argv[1:] + ["--serve", str(store.port)]
    peer = subprocess.Popen(command)
    try:
        time.sleep(0.2)
        if peer.poll() is not None:
            sys.exit(peer.returncode)
        print(f"      PyTorch {torch.__version__}, {flags.channel}", flush=True)
        agent = make_agent(store, device, flags.channel, 0)
        largest = (256 << 20) if device.type == "cuda" else (64 << 20)
        good = is_stock or exchange(device, largest)
        measure(device, largest, "stock" if is_stock else "ours")
        agent.join(True)
        good &= is_stock or check("the end of our worker", peer.wait(timeout=30) == 0)
        agent.shutdown()
        api._reset_current_rpc_agent()
    finally:
        if peer.poll() is None:
            peer.kill()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
