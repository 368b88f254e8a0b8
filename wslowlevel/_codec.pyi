"""The contract of both codec backends; what each name does is said in `_codec_py.py`."""

from typing import Any, Generic, Literal, TypeVar, final

from typing_extensions import Buffer

from .errors import WebSocketError

def apply_mask(data: Buffer, key: Buffer, offset: int = 0) -> bytes: ...
def apply_mask_inplace(buffer: Buffer, key: Buffer, offset: int = 0) -> None: ...
def kernel() -> str: ...
def fresh_mask_key() -> bytes: ...
def parse_header(buffer: Buffer, offset: int = 0) -> Header | None: ...
def encode_header(
    opcode: int,
    payload_length: int,
    *,
    fin: int = 1,
    rsv1: int = 0,
    rsv2: int = 0,
    rsv3: int = 0,
    mask_key: Buffer | None = None,
) -> bytes: ...
def encode_frame(
    opcode: int,
    payload: Buffer,
    *,
    fin: int = 1,
    rsv1: int = 0,
    rsv2: int = 0,
    rsv3: int = 0,
    mask_key: Buffer | None = None,
) -> bytes: ...
def prepare_websocket_frame(
    payload: Buffer,
    *,
    is_utf8: bool = False,
    opcode: int | None = None,
    fin: int = 1,
    rsv1: int = 0,
    rsv2: int = 0,
    rsv3: int = 0,
    mask_key: Buffer | Literal[True] | None = None,
) -> bytes: ...

@final
class Header:
    __match_args__ = ("opcode", "payload_length", "fin", "rsv1", "rsv2", "rsv3", "mask_key")
    def __init__(
        self,
        opcode: int,
        payload_length: int,
        fin: int = 1,
        rsv1: int = 0,
        rsv2: int = 0,
        rsv3: int = 0,
        mask_key: bytes | None = None,
    ) -> None: ...
    @property
    def opcode(self) -> int: ...
    @property
    def payload_length(self) -> int: ...
    @property
    def fin(self) -> int: ...
    @property
    def rsv1(self) -> int: ...
    @property
    def rsv2(self) -> int: ...
    @property
    def rsv3(self) -> int: ...
    @property
    def mask_key(self) -> bytes | None: ...
    @property
    def mask(self) -> int: ...
    @property
    def length(self) -> int: ...

@final
class Utf8Validator:
    def __init__(self) -> None: ...
    @property
    def position(self) -> int: ...
    @property
    def complete(self) -> bool: ...
    def reset(self) -> None: ...
    def feed(self, data: Buffer) -> None: ...
    def finish(self) -> None: ...

@final
class Frame:
    __match_args__ = ("opcode", "payload", "fin", "rsv1", "rsv2", "rsv3", "mask_key")
    def __init__(
        self,
        opcode: int,
        payload: bytes,
        fin: int = 1,
        rsv1: int = 0,
        rsv2: int = 0,
        rsv3: int = 0,
        mask_key: bytes | None = None,
    ) -> None: ...
    @property
    def opcode(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def fin(self) -> int: ...
    @property
    def rsv1(self) -> int: ...
    @property
    def rsv2(self) -> int: ...
    @property
    def rsv3(self) -> int: ...
    @property
    def mask_key(self) -> bytes | None: ...
    @property
    def mask(self) -> int: ...

@final
class Message:
    __match_args__ = ("opcode", "payload", "rsv1", "rsv2", "rsv3", "mask")
    def __init__(
        self, opcode: int, payload: bytes, rsv1: int = 0, rsv2: int = 0, rsv3: int = 0, mask: int = 0
    ) -> None: ...
    @property
    def opcode(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def rsv1(self) -> int: ...
    @property
    def rsv2(self) -> int: ...
    @property
    def rsv3(self) -> int: ...
    @property
    def mask(self) -> int: ...
    @property
    def text(self) -> str: ...

@final
class Chunk:
    __match_args__ = (
        "opcode",
        "payload",
        "message_started",
        "frame_started",
        "frame_finished",
        "message_finished",
        "rsv1",
        "rsv2",
        "rsv3",
        "mask",
    )
    def __init__(
        self,
        opcode: int,
        payload: bytes,
        message_started: int = 1,
        frame_started: int = 1,
        frame_finished: int = 1,
        message_finished: int = 1,
        rsv1: int = 0,
        rsv2: int = 0,
        rsv3: int = 0,
        mask: int = 0,
    ) -> None: ...
    @property
    def opcode(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def message_started(self) -> int: ...
    @property
    def frame_started(self) -> int: ...
    @property
    def frame_finished(self) -> int: ...
    @property
    def message_finished(self) -> int: ...
    @property
    def rsv1(self) -> int: ...
    @property
    def rsv2(self) -> int: ...
    @property
    def rsv3(self) -> int: ...
    @property
    def mask(self) -> int: ...

_Item = TypeVar("_Item")

class _Decoder(Generic[_Item]):
    @property
    def error(self) -> WebSocketError | MemoryError | None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def eventful(self) -> bool: ...
    @property
    def buffered(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def frames_received(self) -> int: ...
    @property
    def messages_received(self) -> int: ...
    @property
    def pings_received(self) -> int: ...
    @property
    def pongs_received(self) -> int: ...
    def feed(self, data: Buffer) -> list[_Item]: ...
    def get_buffer(self, hint: int = -1) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> list[_Item]: ...

@final
class FrameDecoder(_Decoder[Frame]):
    def __init__(
        self,
        *,
        role: str,
        strict: bool = True,
        require_mask: bool = True,
        max_message_size: int | None = None,
        max_frame_size: int | None = ...,
        max_fragments: int | None = None,
        allow_rsv: int = 0,
    ) -> None: ...

@final
class MessageDecoder(_Decoder[Message]):
    def __init__(
        self,
        *,
        role: str,
        strict: bool = True,
        require_mask: bool = True,
        max_message_size: int | None = ...,
        max_frame_size: int | None = None,
        max_fragments: int | None = ...,
        allow_rsv: int = 0,
    ) -> None: ...

@final
class ChunkDecoder(_Decoder[Chunk]):
    def __init__(
        self,
        *,
        role: str,
        strict: bool = True,
        require_mask: bool = True,
        max_message_size: int | None = None,
        max_frame_size: int | None = None,
        max_fragments: int | None = None,
        allow_rsv: int = 0,
    ) -> None: ...

class Endpoint:
    decoder: Any
    state: Any
    extensions: tuple[Any, ...]
    eventful: bool
    failed: bool
    passing: bool
    ended: bool
    def __init__(self, *, role: str) -> None: ...
    @property
    def passed(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def high_water(self) -> int: ...
    def feed(self, data: Buffer) -> list[Any]: ...
    def get_buffer(self, hint: int = -1) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> list[Any]: ...
    def _see_events(self, items: list[Any]) -> None: ...
    @final
    def passes(self, frame: object) -> bool: ...
    @final
    def count_bytes(self, size: int) -> None: ...
    @final
    def note_waiting(self, size: int) -> None: ...
