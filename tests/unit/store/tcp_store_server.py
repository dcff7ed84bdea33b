"""A TCPStore of PyTorch, and a client of it that does what it is told.

usage: tcp_store_server.py [PORT]

Writes "port N" once it serves, or "skip WHY". Then for each line of its input,
`set|get|add|compare_set|delete KEY [HEX|N]...`, writes what came back, in
hexadecimal where it is bytes. Ends with its input.
"""

import datetime
import sys


def main():
    try:
        from torch.distributed import TCPStore
    except ImportError as error:
        print("skip", error, flush=True)
        return
    store = TCPStore(
        "127.0.0.1",
        int(sys.argv[1]) if len(sys.argv) > 1 else 0,
        1,
        True,
        datetime.timedelta(seconds=60),
        wait_for_workers=False,
    )
    print("port", store.port, flush=True)
    for line in sys.stdin:
        command, key, *rest = line.split()
        if command == "set":
            store.set(key, bytes.fromhex(rest[0]))
            answer = "ok"
        elif command == "get":
            answer = store.get(key).hex()
        elif command == "add":
            answer = store.add(key, int(rest[0]))
        elif command == "compare_set":
            answer = store.compare_set(key, *rest).hex()
        elif command == "delete":
            answer = store.delete_key(key)
        print(answer, flush=True)


main()
