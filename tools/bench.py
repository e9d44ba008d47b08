"""Measures the function beside what people would deploy instead; prints lines of the table that `make bench` ends with.

    .tools/peer/bin/python tools/bench.py --bootstrap … --empty … --emulator-python … --rie … [--rounds 10]

Three functions run under AWS's runtime interface emulator, one after the other in each round: the watchdog, an empty
handler built with the same profile (benches/peer/empty), and the same healthy pass in Python (benches/peer/handler.py).
AWS is the emulator, over TLS with its own certificate beside the system's. INIT and passes take what the runtime
interface emulator reports, as Lambda's own REPORT line does; how long a caller waits for it all, the emulator's own
part included, is told beside them. Every figure is a median of the rounds, and counts only as a ratio to what ran in
the same minutes.
"""

import argparse
import http.client
import http.server
import json
import os
import re
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

REGION = "ap-northeast-1"
ACCOUNT = "123456789012"
SCHEDULER = "myteacher-production"
GROUP = f"/ecs/{SCHEDULER}"
TABLE = "watchdog-state"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:watchdog-alerts"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}
ROOT = Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, ask, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.02)
    raise SystemExit(f"{what}: not within {seconds} s")


class Process:
    """A child process that ends with the block; its output goes to a file."""

    def __init__(self, command, environment, home):
        self.log = Path(home) / f"{free_port()}.log"
        base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home)}
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen(
                command, env={**base, **environment}, cwd=home, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def text(self):
        return self.log.read_text(errors="replace")


def children(pid):
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def peak_memory(pid):
    """The most memory that a process and its children held, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    return own + sum(peak_memory(child) for child in children(pid))


class Aws:
    """The emulator, by the raw calls of AWS's JSON protocols."""

    def __init__(self, endpoint, bundle):
        self.endpoint = endpoint
        host = endpoint.split("//")[1]
        self.connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=bundle))

    def call(self, target, body, version="1.1"):
        service = {"Logs_20140328": "logs", "DynamoDB_20120810": "dynamodb"}[target.split(".")[0]]
        scope = f"test/20260101/{REGION}/{service}/aws4_request"
        headers = {
            "X-Amz-Target": target,
            "Content-Type": f"application/x-amz-json-{version}",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        }
        self.connection.request("POST", "/", body=body, headers=headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def json(self, target, body, version="1.1"):
        status, answer = self.call(target, json.dumps(body), version)
        if status != 200:
            raise SystemExit(f"{target}: {status} {answer.decode()}")
        return json.loads(answer or b"{}")

    def set_up(self):
        """A table, and half an hour of a scheduler's log, by the minute."""
        self.json(
            "DynamoDB_20120810.CreateTable",
            {
                "TableName": TABLE,
                "AttributeDefinitions": [{"AttributeName": "scheduler", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "scheduler", "KeyType": "HASH"}],
                "BillingMode": "PAY_PER_REQUEST",
            },
            "1.0",
        )
        stream = {"logGroupName": GROUP, "logStreamName": f"app/app/{'0a1b2c3d' * 4}"}
        self.json("Logs_20140328.CreateLogGroup", {"logGroupName": GROUP})
        self.json("Logs_20140328.CreateLogStream", stream)
        self.stream = stream
        self.print(30)

    def print(self, minutes):
        """A heartbeat for each of the last minutes."""
        now = datetime.now(timezone.utc)
        events = []
        for ago in range(minutes, -1, -1):
            at = now - timedelta(minutes=ago)
            text = "   INFO  No scheduled commands are ready to run.  "
            if ago % 5 == 0:
                text = f"  {at:%Y-%m-%d %H:%M:%S} Running ['artisan' redis:monitor] ........ 120.5ms DONE"
            events.append({"timestamp": int(at.timestamp() * 1000), "message": text})
        self.json("Logs_20140328.PutLogEvents", {**self.stream, "logEvents": events})


class Function:
    """One function under the runtime interface emulator, cold when it is started."""

    def __init__(self, options, command, environment, home):
        self.port = free_port()
        addresses = [
            "--runtime-interface-emulator-address",
            f"127.0.0.1:{self.port}",
            "--runtime-api-address",
            f"127.0.0.1:{free_port()}",
        ]
        lambda_environment = {
            **CREDENTIALS,
            "AWS_LAMBDA_FUNCTION_NAME": "watchdog",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": "120",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        }
        self.process = Process([options.rie, *addresses, *command], {**lambda_environment, **environment}, home)

    def __enter__(self):
        wait_for("the runtime interface emulator", self.listens)
        return self

    def __exit__(self, *_):
        self.process.__exit__()

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def invoke(self):
        """One wake-up: seconds, and the answer."""
        address = f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations"
        began = time.perf_counter()
        try:
            with urllib.request.urlopen(address, data=b"{}") as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{error}:\n{self.process.text()}") from error
        return time.perf_counter() - began, json.loads(text)

    def init(self):
        """The seconds of its INIT phase, as the emulator reports them."""
        report = wait_for("INIT", lambda: re.search(r"INIT REPORT\(durationMs: ([\d.]+)\)", self.process.text()), 5)
        return float(report[1]) / 1000

    def passes(self):
        """The seconds of each invocation, as the emulator reports them."""
        return [float(ms) / 1000 for ms in re.findall(r"INVOKE RTDONE\(.*?duration: ([\d.]+)ms", self.process.text())]

    def memory(self):
        return sum(peak_memory(child) for child in children(self.process.child.pid))


class Recorder(http.server.ThreadingHTTPServer):
    """Stands between the function and the emulator, and keeps what is asked."""

    daemon_threads = True

    def __init__(self, aws):
        self.aws, self.calls, self.lock = aws, [], threading.Lock()
        super().__init__(("127.0.0.1", 0), RecorderHandler)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class RecorderHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        target = self.headers.get("X-Amz-Target")
        with self.server.lock:
            self.server.calls.append((target or body.decode(errors="replace"), body))
            if target:
                status, answer = self.server.aws.call(target, body, self.headers["Content-Type"].rsplit("-", 1)[1])
            else:
                status, answer = 400, b"{}"
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def bare(aws, calls):
    """The seconds that the same requests take, one after the other, on one kept-alive connection."""
    query, seconds = None, 0.0
    for target, body in calls:
        asked = json.loads(body)
        if target.endswith("GetQueryResults"):
            asked["queryId"] = query
        if target.endswith("PutItem"):
            # Its condition held once; the write is what is measured.
            asked.pop("ConditionExpression", None)
            asked.pop("ExpressionAttributeValues", None)
            asked.pop("ExpressionAttributeNames", None)
        text = json.dumps(asked)
        began = time.perf_counter()
        status, answer = aws.call(target, text, "1.0" if "Dynamo" in target else "1.1")
        seconds += time.perf_counter() - began
        if status != 200:
            raise SystemExit(f"{target}: {status} {answer.decode()}")
        if target.endswith("StartQuery"):
            query = json.loads(answer)["queryId"]
    return seconds


def check(answer, what):
    verdict = answer.get("verdict") or (answer.get("schedulers") or [{}])[0].get("verdict")
    if verdict != "healthy":
        raise SystemExit(f"{what} is not healthy: {json.dumps(answer)[:2000]}")


def measure(options, home):
    (port, figures) = (free_port(), {})
    emulator = {
        **CREDENTIALS,
        # As boto3 and the bare calls speak it: its HTTP/2 is written in Python, and slow.
        "EMULATOR_HTTP": "1.1",
        "USE_SSL": "1",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AWS_ENDPOINT_URL": f"https://127.0.0.1:{port}",
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
    }
    with Process([options.emulator_python, str(ROOT / "tools/emulator.py")], emulator, home) as process:
        certificate = Path(home) / "ministack-tls/server.crt"

        def is_ready():
            if process.child.poll() is not None:
                raise SystemExit(f"the emulator ended:\n{process.text()}")
            with socket.socket() as probe:
                return certificate.exists() and probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for("the emulator", is_ready)
        bundle = Path(home) / "bundle.pem"
        system = ssl.get_default_verify_paths()
        roots = next((p for p in (system.cafile, system.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt")
                      if p and os.path.exists(p)), None)
        bundle.write_text((Path(roots).read_text() if roots else "") + certificate.read_text())
        aws = Aws(f"https://127.0.0.1:{port}", str(bundle))
        aws.set_up()
        trust = {
            "SSL_CERT_FILE": str(bundle),
            "AWS_CA_BUNDLE": str(bundle),
            "AWS_ENDPOINT_URL": aws.endpoint,
            # At AWS each service is a host of its own, with a connection of its own.
            "AWS_ENDPOINT_URL_DYNAMODB": f"https://localhost:{port}",
        }
        ours = {
            **trust,
            "WATCHDOG_TABLE": TABLE,
            "WATCHDOG_SCHEDULER": SCHEDULER,
            "WATCHDOG_LOG_GROUPS": GROUP,
            "WATCHDOG_LOG_STREAM_PREFIX": "app/",
        }
        theirs = {
            **trust,
            "AWS_DEFAULT_REGION": REGION,
            "TABLE": TABLE,
            "SCHEDULER": f"{SCHEDULER}-peer",
            "LOG_GROUP": GROUP,
            "TOPIC_ARN": TOPIC,
            "PYTHONPATH": str(ROOT / "benches/peer"),
            "_HANDLER": "handler.handler",
            "LAMBDA_TASK_ROOT": str(ROOT / "benches/peer"),
            # Lambda's image holds its libraries compiled; so does this environment after the first start.
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        }
        commands = {
            "watchdog": ([options.bootstrap], ours),
            "empty": ([options.empty], {}),
            "python": ([sys.executable, "-m", "awslambdaric", "handler.handler"], theirs),
        }
        rows = {name: {what: [] for what in ("init", "first", "caller", "memory")} for name in commands}
        # The first round warms the machine's caches and counts for nobody.
        for round_number in range(options.rounds + 1):
            aws.print(1)
            for name, (command, environment) in commands.items():
                with Function(options, command, environment, home) as function:
                    seconds, answer = function.invoke()
                    if name != "empty":
                        check(answer, name)
                    if round_number > 0:
                        init = function.init()
                        first = wait_for("the pass's report", function.passes, 5)[0]
                        rows[name]["init"].append(init)
                        rows[name]["first"].append(init + first)
                        rows[name]["caller"].append(seconds)
                        rows[name]["memory"].append(function.memory())
        figures["cold"] = rows

        with Recorder(aws) as recorder:
            address = f"http://127.0.0.1:{recorder.server_address[1]}"
            plain = {**ours, "AWS_ENDPOINT_URL": address, "AWS_ENDPOINT_URL_DYNAMODB": address}
            with Function(options, [options.bootstrap], plain, home) as function:
                check(function.invoke()[1], "the recorded pass")
                recorder.calls.clear()
                check(function.invoke()[1], "the recorded pass")
                calls = list(recorder.calls)
        figures["calls"] = [target.split(".")[-1] for target, _ in calls]
        warm, trips = [], []
        with Function(options, [options.bootstrap], ours, home) as function:
            check(function.invoke()[1], "the warm pass")
            for _ in range(options.rounds * 5):
                # Passes are minutes apart; neither finds the machine's caches warm from the other.
                time.sleep(0.3)
                trips.append(bare(aws, calls))
                time.sleep(0.3)
                check(function.invoke()[1], "the warm pass")
            warm = wait_for("reports", lambda: (p := function.passes()) and len(p) > options.rounds * 5 and p)[1:]
        figures["warm"], figures["trips"] = warm, trips
    return figures


def show(options, figures):
    cold = figures["cold"]

    def of(name, what):
        return statistics.median(cold[name][what])

    def ms(seconds):
        return f"{seconds * 1000:.1f} ms"

    def mib(size):
        return f"{size / 2**20:.1f} MiB"

    init, empty = of("watchdog", "init"), of("empty", "init")
    first, python = of("watchdog", "first"), of("python", "first")
    caller, python_caller = of("watchdog", "caller"), of("python", "caller")
    memory, python_memory = of("watchdog", "memory"), of("python", "memory")
    warm, trips = statistics.median(figures["warm"]), statistics.median(figures["trips"])
    rows = [
        ("INIT, against an empty handler", ms(init), ms(empty), init / empty, "2.5 at most"),
        ("INIT and first pass, against Python", ms(first), ms(python), first / python, "0.05 at most"),
        ("the same as its caller sees it", ms(caller), ms(python_caller), caller / python_caller, ""),
        ("peak memory after it, against Python", mib(memory), mib(python_memory), memory / python_memory,
         "16 MiB, 0.25 at most"),
        ("warm pass, against its bare calls", ms(warm), ms(trips), warm / trips, "1.3 at most"),
    ]
    for name, own, other, ratio, aim in rows:
        print(f"= {name:<44} {own:>10} {other:>10} {ratio:>7.3f}  {aim}")
    print(f"a healthy pass calls: {', '.join(figures['calls'])}")
    size = Path(options.bootstrap).stat().st_size
    print(f"bootstrap: {mib(size)}; {len(cold['watchdog']['init'])} cold starts each, interleaved")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bootstrap", "empty", "emulator-python", "rie"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        show(options, measure(options, home))


if __name__ == "__main__":
    main()
