"""C structures over any buffer, as descriptors: the vocabulary of the generated ABI modules.

A generated class names the fields of one kernel structure with their offsets, and works on a
buffer of its own or on anybody else's (a shared ``kvm_run`` page, guest memory).  ``ctypes``
would do the same for 3 ms of start-up and a megabyte of memory more; ``struct`` alone would leave
offsets scattered through the code.
"""

from __future__ import annotations

from struct import Struct as Codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar, Generic, Self, TypeVar, overload

    from _typeshed import WriteableBuffer

    S = TypeVar("S", bound="Struct")

    class _Nested(Generic[S]):
        pass

    class _NestedArray(Generic[S]):
        pass
else:

    class _Subscriptable:
        def __class_getitem__(cls, _item: object) -> type:
            return cls

    S = None
    _Nested = _NestedArray = _Subscriptable

    def overload(function: object) -> object:
        return function


U8, U16, U32, U64 = Codec("<B"), Codec("<H"), Codec("<I"), Codec("<Q")
S8, S16, S32, S64 = Codec("<b"), Codec("<h"), Codec("<i"), Codec("<q")


class Struct:
    """One C structure: ``SIZE`` bytes at ``offset`` of ``buffer``, or of a new zeroed buffer.

    Raises:
        ValueError: the buffer ends before the structure does.
    """

    SIZE: ClassVar[int] = 0
    __slots__ = ("view",)

    def __init__(self, buffer: WriteableBuffer | None = None, offset: int = 0) -> None:
        size = self.SIZE
        if buffer is None:
            self.view = memoryview(bytearray(size))
            return
        view = memoryview(buffer)
        if view.format != "B":
            view = view.cast("B")
        self.view = view[offset : offset + size]
        if len(self.view) != size:
            raise ValueError(
                f"{type(self).__name__} needs {size} bytes at {offset}, has {len(self.view)}"
            )

    def __bytes__(self) -> bytes:
        return bytes(self.view)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> Self:
        """A structure of the same contents over a buffer of its own."""
        return type(self)(bytearray(self.view))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A structure over a private copy of ``data``."""
        return cls(bytearray(data))


class Scalar:
    """An integer field; ``offset`` and ``size`` are in bytes."""

    __slots__ = ("codec", "offset", "size")

    def __init__(self, offset: int, codec: Codec) -> None:
        self.offset = offset
        self.codec = codec
        self.size = codec.size

    @overload
    def __get__(self, instance: None, owner: object) -> Scalar: ...
    @overload
    def __get__(self, instance: Struct, owner: object) -> int: ...
    def __get__(self, instance: Struct | None, owner: object) -> Scalar | int:
        if instance is None:
            return self
        value: int = self.codec.unpack_from(instance.view, self.offset)[0]
        return value

    def __set__(self, instance: Struct, value: int) -> None:
        self.codec.pack_into(instance.view, self.offset, value)


class Array:
    """A field of ``count`` integers of one native format, seen as a memoryview of them."""

    __slots__ = ("count", "format", "offset", "size")

    def __init__(self, offset: int, format: str, count: int) -> None:  # noqa: A002 (struct's word)
        self.offset = offset
        self.format = format
        self.count = count
        self.size = Codec("=" + format).size * count

    @overload
    def __get__(self, instance: None, owner: object) -> Array: ...
    @overload
    def __get__(self, instance: Struct, owner: object) -> memoryview[int]: ...
    def __get__(self, instance: Struct | None, owner: object) -> Array | memoryview[int]:
        if instance is None:
            return self
        raw = instance.view[self.offset : self.offset + self.size]
        return raw if self.format == "B" else raw.cast(self.format)  # type: ignore[call-overload]

    def __set__(self, instance: Struct, value: bytes) -> None:
        if len(value) != self.size:
            raise ValueError(f"an array of {self.size} bytes was given {len(value)}")
        instance.view[self.offset : self.offset + self.size] = value


class Nested(_Nested[S]):
    """A structure inside a structure, sharing its bytes."""

    __slots__ = ("kind", "offset")

    def __init__(self, offset: int, kind: type[S]) -> None:
        self.offset = offset
        self.kind = kind

    @overload
    def __get__(self, instance: None, owner: object) -> Nested[S]: ...
    @overload
    def __get__(self, instance: Struct, owner: object) -> S: ...
    def __get__(self, instance: Struct | None, owner: object) -> Nested[S] | S:
        if instance is None:
            return self
        return self.kind(instance.view, self.offset)

    def __set__(self, instance: Struct, value: S) -> None:
        instance.view[self.offset : self.offset + self.kind.SIZE] = value.view


class NestedArray(_NestedArray[S]):
    """``count`` structures in a row, sharing the bytes of the structure around them."""

    __slots__ = ("count", "kind", "offset")

    def __init__(self, offset: int, kind: type[S], count: int) -> None:
        self.offset = offset
        self.kind = kind
        self.count = count

    @overload
    def __get__(self, instance: None, owner: object) -> NestedArray[S]: ...
    @overload
    def __get__(self, instance: Struct, owner: object) -> list[S]: ...
    def __get__(self, instance: Struct | None, owner: object) -> NestedArray[S] | list[S]:
        if instance is None:
            return self
        step = self.kind.SIZE
        return [self.kind(instance.view, self.offset + i * step) for i in range(self.count)]


def with_tail(header: type[Struct], entry: type[Struct], count: int) -> bytearray:
    """A zeroed buffer for a header that ends in ``entry entries[count]``."""
    return bytearray(header.SIZE + count * entry.SIZE)


def entries(
    buffer: WriteableBuffer, header: type[Struct], entry: type[S], count: int
) -> Iterator[S]:
    """The structures that follow ``header`` in ``buffer``."""
    for index in range(count):
        yield entry(buffer, header.SIZE + index * entry.SIZE)
