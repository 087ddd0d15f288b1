"""What reading a file of torch.save would take, counted before anything of it is made."""

import pickle
import pickletools
import re
import zipfile
from io import BufferedReader, BytesIO
from pathlib import Path

# Of which a tensor takes 38; the largest networks have thousands.
MOST_STEPS = 2_000_000
# What all calls are given together, of which a tensor takes 20; a list that is given a thousand times counts as often.
MOST_GIVEN = 5_000_000
# Of a tuple, through all tuples in it; as a key it would be gone through as often, however small its pickle is.
MOST_IN_A_TUPLE, DEEPEST_TUPLE = 100_000, 50
# What a state dict is made by. What else torch allows would make much of little: bytearray of a number, texts encoded
# again and again, tensors of a size.
CALLED = {
    *(f"collections.{name}" for name in ("OrderedDict", "Counter")),
    *(f"{builtins}.{name}" for builtins in ("builtins", "__builtin__") for name in ("set", "complex")),
    *(f"torch.{name}" for name in ("Size", "device", "serialization._get_layout", "nn.parameter.Parameter")),
    *(f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3", "qtensor", "sparse_tensor")),
    *(f"torch._utils._rebuild_{name}" for name in ("parameter", "parameter_with_state", "meta_tensor_no_storage")),
    "torch._tensor._rebuild_from_type_v2",
}
# Types of numbers, their storages, and kinds of quantisation, which are named and never called.
NAMED = re.compile(r"torch\.(storage\.)?[A-Za-z0-9_]+")
PUT, GET = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
EMPTY = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
PLAIN = {
    *("NONE", "NEWFALSE", "NEWTRUE", "BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1"),
    *("BINUNICODE", "SHORT_BINSTRING"),
}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def check_archive(file: Path) -> None:
    """Checks the zip that torch.save writes: nothing in it is larger than in the file, and its pickle is harmless.

    Raises:
        UnpicklingError: when it is not so, or no such zip.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members, names = archive.infolist(), [name.lower() for name in archive.namelist()]
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise pickle.UnpicklingError("its parts are compressed, which torch.save never does")
            if sum(member.file_size for member in members) > file.stat().st_size:
                raise pickle.UnpicklingError("its parts are larger than the file")
            pickles = [member for member in members if re.fullmatch(r"(.*/)?data\.pkl", member.filename)]
            # Two readers might take two different ones of equal names.
            if len(pickles) != 1 or len(set(names)) < len(names) or archive.comment:
                raise pickle.UnpicklingError("it holds parts that torch.save never writes, or lacks data.pkl")
            # At once, as it is read in steps of a byte or two.
            check_pickle(BytesIO(archive.read(pickles[0])))
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise pickle.UnpicklingError(str(error)) from error


def check_legacy(file: Path) -> None:
    """Checks the five pickles with which torch.save began before it wrote zips; storages follow them.

    Raises:
        UnpicklingError: when one is not harmless, or none.
    """
    with file.open("rb") as opened:
        for _ in ("magic number", "protocol", "system", "content", "keys of storages"):
            check_pickle(opened)


def check_pickle(opened: BufferedReader | BytesIO) -> None:
    """Follows a pickle without making what it describes; its reader gives tensors no more than is stored of them.

    Raises:
        UnpicklingError: when it needs code, or makes far more than it holds, or is none.
    """
    pickled = _Pickled()
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(opened)):
            if steps > MOST_STEPS:
                raise pickle.UnpicklingError(f"it takes more than {MOST_STEPS:,} steps")
            pickled.step(opcode.name, argument)
    except (ValueError, LookupError, AttributeError, MemoryError) as error:
        raise pickle.UnpicklingError(str(error) if isinstance(error, ValueError) else "a pickle is torn") from error


class _Value:
    """What stands for something that a pickle makes.

    Attributes:
        size: how many things are in it, or letters; of a tuple through all tuples in it.
        depth: of tuples in tuples.
        parts: of a tuple.
        name: of what is called, or named.
    """

    __slots__ = ("depth", "name", "parts", "size")

    def __init__(self, size: int = 1, depth: int = 0, parts: tuple["_Value", ...] = (), name: str = ""):
        self.size, self.depth, self.parts, self.name = size, depth, parts, name


class _Pickled:
    """The machine that pickles are programs for, with sizes instead of things."""

    def __init__(self):
        self.stack: list[_Value] = []
        self.marked: list[list[_Value]] = []
        self.memo: dict[object, _Value] = {}
        self.given = 0
        self.number = _Value()

    def step(self, name: str, argument: object) -> None:
        """Takes one step."""
        if name in PLAIN:
            self.stack.append(_Value(len(argument)) if isinstance(argument, str | bytes) else self.number)
        elif name in PUT:
            self.memo[argument] = self.stack[-1]
        elif name in GET:
            self.stack.append(self.memo[argument])
        elif name in TUPLES:
            count = TUPLES[name]
            parts, self.stack = self.stack[len(self.stack) - count :], self.stack[: len(self.stack) - count]
            self.stack.append(_tuple_of(parts))
        elif name in EMPTY:
            self.stack.append(_Value(0))
        elif name == "MARK":
            self.marked.append(self.stack)
            self.stack = []
        elif name == "GLOBAL":
            self.stack.append(_Value(name=_allowed(str(argument).replace(" ", "."))))
        elif name not in ("PROTO", "STOP"):
            self._step_with_marks_or_calls(name)

    def _step_with_marks_or_calls(self, name: str) -> None:
        if name in ("TUPLE", "APPENDS", "SETITEMS"):
            parts, self.stack = self.stack, self.marked.pop()
            if name == "TUPLE":
                self.stack.append(_tuple_of(parts))
            else:
                self.stack[-1].size += len(parts)
        elif name == "BINPERSID":
            self.stack[-1] = _Value()
        elif name in ("APPEND", "SETITEM", "BUILD"):
            for _ in range(2 if name == "SETITEM" else 1):
                self.stack.pop()
            self.stack[-1].size += 1
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, called = self.stack.pop(), self.stack.pop()
            self.stack.append(self._call(called, arguments))
        else:
            raise ValueError(f"{name} is no step of torch.save's")

    def _call(self, called: _Value, arguments: _Value) -> _Value:
        first = arguments.parts[0].name if arguments.parts else ""
        for name in (called.name, first) if called.name.endswith("_from_type_v2") else (called.name,):
            if name not in CALLED:
                raise pickle.UnpicklingError(f"GLOBAL {name or 'unnamed'}")
        waiting = [arguments]
        while waiting:
            value = waiting.pop()
            waiting += value.parts
            self.given += 1 if value.parts else 1 + value.size
            if self.given > MOST_GIVEN:
                raise ValueError("it makes far more than it holds")
        return _Value(0)


def _tuple_of(parts: list[_Value]) -> _Value:
    size = 1 + sum(part.size if part.depth else 1 for part in parts)
    depth = 1 + max((part.depth for part in parts), default=0)
    if size > MOST_IN_A_TUPLE or depth > DEEPEST_TUPLE:
        raise ValueError("it nests far more tuples than a checkpoint does")
    return _Value(size, depth, tuple(parts))


def _allowed(name: str) -> str:
    if name not in CALLED and not NAMED.fullmatch(name):
        raise pickle.UnpicklingError(f"GLOBAL {name}")
    return name
