"""Clients of PyTorch that use a TCPStore server of ours.

usage: tcp_store_client.py PORT

Writes "skip WHY" if there is no PyTorch. Else it does what tcp_store_stock_test
expects, a line for each step, and at last "all as expected".
"""

import datetime
import sys


def main():
    try:
        from torch.distributed import PrefixStore, TCPStore
    except ImportError as error:
        print("skip", error, flush=True)
        return

    def connect():
        return TCPStore("127.0.0.1", int(sys.argv[1]), None, False,
                        datetime.timedelta(seconds=60))

    store = connect()
    print("waits", flush=True)
    print("got", store.get("ours").hex(), flush=True)
    store.set("theirs", "from stock")
    print("got", store.get("token").hex(), flush=True)

    # Several clients, and all that a client of PyTorch can ask.
    other = connect()
    assert store.add("n", 40) == 40
    assert other.add("n", 2) == 42
    assert store.num_keys() == 4, store.num_keys()
    assert store.compare_set("token", "mine", "yours") == b"yours"
    assert other.compare_set("token", "mine", "x") == b"yours"
    assert other.compare_set("none", "expected", "x") == b"expected"
    assert other.delete_key("token")
    assert not store.delete_key("token")
    prefixed = PrefixStore("prefix", store)
    prefixed.set("key", "value")
    assert other.get("prefix/key") == b"value"
    try:
        store.wait(["never"], datetime.timedelta(milliseconds=50))
        raise AssertionError("it did not wait")
    except RuntimeError:
        pass
    long = b"v" * (3 << 20)
    other.set("long", long.decode())
    assert connect().get("long") == long

    # A group of two, as the master of a stock group counts its workers.
    for _ in range(2):
        TCPStore("127.0.0.1", int(sys.argv[1]), 2, False,
                 datetime.timedelta(seconds=60), wait_for_workers=False)
    print("all as expected", flush=True)


main()
