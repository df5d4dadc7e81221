"""How many requests a second does the service of `app.py` answer, and how fast?

Run while the service runs::

    python examples/service/load.py --rate 300 --seconds 30
    python examples/service/load.py --seconds 30            # as many as it can answer

Connections are kept open; each sends requests of a few rows and waits for the answer. With
`--rate`, requests are due at fixed times, and a latency counts from the time that a request was
due, so that waiting behind a slow one counts, too. Every answer is compared with the first.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np


class Connection:
    """One open connection to the service."""

    def __init__(self, host: str, port: int):
        self.http = http.client.HTTPConnection(host, port, timeout=30)

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Body of an answer; an error if it is a refusal."""
        self.http.request(method, path, body, {"Content-Type": "application/json"})
        answer = self.http.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {content!r}")
        return content


def latencies_of(
    connection: Connection, body: bytes, expected: bytes, due: Any, end: float
) -> list[float]:
    """Seconds that each request took, until the end."""
    latencies = []
    for start in due:
        now = time.perf_counter()
        if max(start, now) > end:
            break
        if start > now:
            time.sleep(start - now)
        start = start or now
        if connection.request("POST", "/transform", body) != expected:
            raise RuntimeError("an answer differs from the first one")
        latencies.append(time.perf_counter() - start)
    return latencies


def run(
    host: str, port: int, seconds: float, rate: float, n_connections: int, n_rows: int
) -> dict[str, float]:
    """Send requests for some seconds; latencies are in milliseconds."""
    connections = [Connection(host, port) for _ in range(n_connections)]
    n_features = json.loads(connections[0].request("GET", "/health"))["n_features"]
    rows = np.random.default_rng(0).normal(size=(n_rows, n_features)).round(3)
    body = json.dumps({"rows": rows.tolist()}).encode()
    expected = connections[0].request("POST", "/transform", body)
    begin = time.perf_counter()
    end = begin + seconds

    def send(i: int) -> list[float]:
        gap, n = (n_connections / rate, int(seconds * rate)) if rate else (0.0, 10**9)
        due = (begin + (j + i / n_connections) * gap if rate else 0.0 for j in range(n))
        return latencies_of(connections[i], body, expected, due, end)

    with ThreadPoolExecutor(n_connections) as threads:
        latencies = np.concatenate(list(threads.map(send, range(n_connections))))
    duration = time.perf_counter() - begin
    p50, p99 = np.quantile(latencies, [0.5, 0.99]) * 1e3
    return {
        "requests": len(latencies),
        "requests per second": round(len(latencies) / duration, 1),
        "p50, ms": round(p50, 2),
        "p99, ms": round(p99, 2),
        "longest, ms": round(latencies.max() * 1e3, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: no limit")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rows", type=int, default=10, help="of each request")
    args = parser.parse_args()
    sizes = args.connections, args.rows
    print(json.dumps(run(args.host, args.port, args.seconds, args.rate, *sizes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
