"""Two machines on this one: two launchers of Accelerate, each in a network of its own where the system allows that."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
NAMES = ("robust_hub_0", "robust_hub_1")
ADDRESSES = ("10.77.0.1", "10.77.0.2")


@dataclass(frozen=True)
class Network:
    """Where two machines meet.

    Attributes:
        prefixes: what a command of each begins with.
        address: of the first.
        interfaces: by which each sees the other.
        told: what it is.
    """

    prefixes: tuple[tuple[str, ...], tuple[str, ...]]
    address: str
    interfaces: tuple[str, str]
    told: str

    def start(
        self, rank: int, words: Sequence[str], log: Path, *, port: int, machines: int = 2, **environment: str
    ) -> subprocess.Popen:
        """Starts a machine's launcher, in a session of its own, so that `kill` ends all of it.

        Args:
            rank: of the machine.
            words: the recipe and its options.
            log: gets what it prints.
            port: of the first machine.
            machines: 1 to run it alone.
            environment: variables beside those of this process.
        """
        accelerate = str(Path(sys.executable).with_name("accelerate"))
        launch = [accelerate, "launch", "--num_machines", str(machines), "--num_processes", str(machines)]
        launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"]
        if machines > 1:
            launch += ["--multi_gpu", "--machine_rank", str(rank), "--main_process_ip", self.address]
            launch += ["--main_process_port", str(port)]
        told = {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": self.interfaces[rank], "OMP_NUM_THREADS": "1"}
        with log.open("w") as file:
            return subprocess.Popen(
                [*self.prefixes[rank], *launch, *words],
                cwd=ROOT,
                env={**os.environ, **told, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def start_all(
        self, words: Sequence[str], log: Path, *, on: int = 2, environments: Sequence[dict] = ({}, {})
    ) -> list[subprocess.Popen]:
        """Starts the same command on one machine or both; each prints into the log with its number behind the name."""
        port = free_port()
        return [
            self.start(rank, words, log.with_suffix(f".{rank}"), port=port, machines=on, **environments[rank])
            for rank in range(on)
        ]


def weights_of(run: Path) -> torch.Tensor:
    """Reads the published weights of a run, as one vector."""
    weights = load_file(run / "student" / "model.safetensors")
    return torch.cat([weights[name].flatten() for name in sorted(weights)])


def kill(machine: subprocess.Popen) -> None:
    """Ends a machine's launcher and its process at once, as a power cut would."""
    # The launcher starts its process in another session.
    for pid in [machine.pid, *processes_of(machine)]:
        os.kill(pid, signal.SIGKILL)
    machine.wait()


def processes_of(machine: subprocess.Popen) -> list[int]:
    """Tells which processes a launcher has started that have not ended."""
    found = subprocess.run(["pgrep", "-P", str(machine.pid)], capture_output=True, text=True, check=False)
    return list(map(int, found.stdout.split()))


@contextmanager
def network() -> Generator[Network]:
    """Joins two network namespaces by a pair of virtual cards; gives the loopback where that is not allowed."""
    try:
        if _make_namespaces():
            inside = tuple(("ip", "netns", "exec", name) for name in NAMES)
            yield Network(inside, ADDRESSES[0], NAMES, "two network namespaces")
        else:
            yield Network(((), ()), "127.0.0.1", ("lo", "lo"), "the loopback")
    finally:
        _remove_namespaces()


def free_port() -> int:
    """Finds a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _make_namespaces() -> bool:
    _remove_namespaces()
    commands = [f"ip netns add {name}" for name in NAMES]
    commands += [f"ip link add {NAMES[0]} type veth peer name {NAMES[1]}"]
    for name, address in zip(NAMES, ADDRESSES, strict=True):
        commands += [f"ip link set {name} netns {name}", f"ip -n {name} addr add {address}/24 dev {name}"]
        commands += [f"ip -n {name} link set {name} up", f"ip -n {name} link set lo up"]
    return all(_works(command) for command in commands)


def _remove_namespaces() -> None:
    for name in NAMES:
        _works(f"ip netns del {name}")


def _works(command: str) -> bool:
    try:
        return subprocess.run(command.split(), capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
