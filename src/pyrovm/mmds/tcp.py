"""The passive side of one TCP connection, as small as RFC 9293 allows.

The guest opens, asks, and closes; we answer, and close after it.  A connection is fed with
segments (:meth:`Connection.receive`) and gives segments (:meth:`Connection.next_segment`); it
reads no clock and sends nothing by itself, so the same calls always have the same outcome::

    SYN_RECEIVED --ACK--> ESTABLISHED --FIN--> CLOSE_WAIT --close()--> LAST_ACK --ACK--> is_done
         any state --RST, abort(), or GIVE_UP_MS without a word from the guest--> is_done

What is left out, and why that is allowed: segments out of order are dropped (the sender repeats
them); no congestion control (the "wire" is a queue that the receiver empties); no window scaling,
time stamps, or selective acknowledgements (all are options); urgent data is read as data.

Sequence numbers live modulo 2**32; :func:`distance` compares them.  Times are in ms.
"""

from __future__ import annotations

from pyrovm.mmds.frames import ACK, FIN, PSH, RST, SYN, Segment

RECEIVE_BUFFER = 2500  # bytes: a request must fit
MSS = 1460  # bytes: what an Ethernet frame of 1500 bytes carries; we never send more
MSS_DEFAULT = 536  # where the guest names none (RFC 9293, 3.7.1)
MSS_MIN = 100  # less would mean a frame per word of the answer

RTO_MS = 300  # until something unacknowledged is sent again; doubles with each repetition
RTO_DOUBLINGS = 4
GIVE_UP_MS = 30_000  # of silence while something is unacknowledged

SEQ_MASK = 0xFFFF_FFFF


def distance(a: int, b: int) -> int:
    """How far sequence number ``a`` is ahead of ``b``; negative if it is behind."""
    return ((a - b + 0x8000_0000) & SEQ_MASK) - 0x8000_0000


def reset_for(segment: Segment) -> Segment | None:
    """The answer to a segment that belongs to no connection (RFC 9293, 3.10.7.1)."""
    if segment.flags & RST:
        return None
    ports = segment.destination_port, segment.source_port
    if segment.flags & ACK:
        return Segment(*ports, segment.ack, 0, RST, 0)
    return Segment(*ports, 0, (segment.seq + segment.length) & SEQ_MASK, RST | ACK, 0)


class Connection:
    """One connection, from the SYN that opens it on.

    ``initial_seq`` is the number of our own SYN.  ``received`` holds the bytes that nobody has
    taken yet, :data:`RECEIVE_BUFFER` at most.
    """

    __slots__ = (
        "_aborted",
        "_ack_pending",
        "_closing",
        "_deadline_ms",
        "_established",
        "_mss",
        "_outgoing",
        "_outgoing_seq",
        "_ports",
        "_probe",
        "_rcv_nxt",
        "_retries",
        "_snd_max",
        "_snd_nxt",
        "_snd_una",
        "_snd_wnd",
        "fin_received",
        "is_done",
        "last_heard_ms",
        "received",
    )

    def __init__(self, syn: Segment, initial_seq: int, now_ms: int) -> None:
        self.received = bytearray()
        self.fin_received = False
        self.is_done = False
        self.last_heard_ms = now_ms
        self._ports = syn.destination_port, syn.source_port
        offered = MSS_DEFAULT if syn.mss is None else syn.mss
        self._mss = min(max(offered, MSS_MIN), MSS)
        self._rcv_nxt = (syn.seq + 1) & SEQ_MASK
        # As in RFC 9293, 3.3.1; snd_nxt goes back to snd_una to repeat, snd_max never does.
        self._snd_una = self._snd_nxt = self._snd_max = initial_seq & SEQ_MASK
        self._snd_wnd = syn.window
        self._outgoing = b""
        self._outgoing_seq = (initial_seq + 1) & SEQ_MASK  # of the first byte of _outgoing
        self._established = False  # our SYN is acknowledged
        self._closing = False  # our FIN follows what is outgoing
        self._aborted = False
        self._ack_pending = False
        self._probe = False  # send one byte even though the window is closed
        self._retries = 0
        # When to send again from snd_una on; set while anything is unsent or unacknowledged.
        self._deadline_ms: int | None = None

    # ------------------------------------------------------------------- the upper layer's side

    @property
    def is_sending(self) -> bool:
        """Whether part of what was given to :meth:`send` is unacknowledged."""
        return bool(self._outgoing)

    def take(self, size: int) -> bytes:
        """Remove the first ``size`` received bytes; the window grows by them."""
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken

    def send(self, data: bytes, now_ms: int) -> None:
        """Send ``data``; what was sent before must be acknowledged and we must not be closing."""
        assert not self._outgoing
        assert not self._closing
        self._outgoing = data
        self._arm(now_ms)

    def close(self) -> None:
        """No more will be sent."""
        self._closing = True

    def abort(self) -> None:
        """Answer with a reset and forget everything."""
        self._aborted = True

    # ----------------------------------------------------------------------------- segments in

    def receive(self, segment: Segment, now_ms: int) -> bool:
        """Take in one segment; False where it is none that a working peer sends now."""
        if self._aborted or self.is_done:
            return False
        self.last_heard_ms = now_ms
        flags = segment.flags
        ahead = distance(segment.seq, self._rcv_nxt)
        if flags & RST:
            # Only an exact number kills; another one within the window may be a forgery, and is
            # answered with where we stand (RFC 5961, 3.2).
            if ahead == 0:
                self.is_done = True
            elif 0 < ahead < RECEIVE_BUFFER:
                self._ack_pending = True
            return False
        if flags & SYN:
            # The guest has not heard our SYN, or has forgotten the connection: RFC 5961, 4.2.
            if not self._established and ahead == -1:
                self._snd_nxt = self._snd_una
            else:
                self._ack_pending = True
            return False
        if not flags & ACK or not self._acknowledge(segment, now_ms):
            return False
        return self._accept_text(segment, ahead)

    def _acknowledge(self, segment: Segment, now_ms: int) -> bool:
        if distance(segment.ack, self._snd_max) > 0:
            # Of something that was never sent: another connection's, or nonsense.
            if self._established:
                self._ack_pending = True
            else:
                self._snd_nxt = segment.ack
                self._aborted = True
            return False
        advanced = distance(segment.ack, self._snd_una)
        if advanced < 0:
            return True  # an old one; its text may be new all the same
        if not self._established and not advanced:
            return False  # does not acknowledge our SYN: no handshake, no data
        if advanced:
            self._established = True
            self._snd_una = segment.ack
            self._forget_acknowledged()
            self._retries = 0
            self._deadline_ms = None
            if self._outgoing or self._snd_una != self._snd_max:
                self._arm(now_ms)
        opened = segment.window and not self._snd_wnd
        self._snd_wnd = segment.window
        if opened or distance(self._snd_nxt, self._snd_una) < 0:
            self._snd_nxt = self._snd_una  # a probe into the closed window was not kept
        return True

    def _forget_acknowledged(self) -> None:
        """Release the outgoing bytes once all of them, or our FIN after them, are acknowledged."""
        beyond = distance(self._snd_una, self._end_seq)
        if beyond >= 0:
            self._outgoing_seq = self._end_seq
            self._outgoing = b""
            self.is_done = beyond > 0  # our FIN is the only thing beyond the bytes

    @property
    def _end_seq(self) -> int:
        """The number after the last outgoing byte: our FIN's, if there is one."""
        return (self._outgoing_seq + len(self._outgoing)) & SEQ_MASK

    def _accept_text(self, segment: Segment, ahead: int) -> bool:
        if not segment.length:
            # Nothing to acknowledge, but a keep-alive probe (RFC 9293, 3.8.4) wants an answer.
            if ahead < 0:
                self._ack_pending = True
            return ahead == 0
        self._ack_pending = True
        if ahead > 0 or self.fin_received:
            return False
        text = segment.payload[-ahead:]
        room = RECEIVE_BUFFER - len(self.received)
        taken = text[:room]
        self.received += taken
        self._rcv_nxt = (self._rcv_nxt + len(taken)) & SEQ_MASK
        if segment.flags & FIN and distance(segment.seq + len(segment.payload), self._rcv_nxt) == 0:
            self._rcv_nxt = (self._rcv_nxt + 1) & SEQ_MASK
            self.fin_received = True
        return ahead == 0 and len(taken) == len(text)

    # ---------------------------------------------------------------------------- segments out

    def deadline_ms(self) -> int | None:
        """When :meth:`next_segment` may have something to repeat; None if nothing can be lost."""
        return None if self.is_done or self._aborted else self._deadline_ms

    def has_segments(self, now_ms: int) -> bool:
        """Whether :meth:`next_segment` would return one now."""
        if self.is_done:
            return False
        if self._aborted or self._ack_pending or not self._syn_sent:
            return True
        if self._deadline_ms is not None and now_ms >= self._deadline_ms:
            return True
        return bool(self._sendable) or self._fin_is_due

    def next_segment(self, now_ms: int) -> Segment | None:
        """The next segment for the guest, or None."""
        if self.is_done:
            return None
        if not self._aborted and self._deadline_ms is not None and now_ms >= self._deadline_ms:
            self._repeat(now_ms)
        if self._aborted:
            self.is_done = True
            return self._segment(RST | ACK)
        if not self._syn_sent:
            return self._emit(SYN | ACK, 1, now_ms, mss=MSS)
        size = self._sendable
        if size:
            start = distance(self._snd_nxt, self._outgoing_seq)
            payload = self._outgoing[start : start + size]
            last = start + size == len(self._outgoing)
            self._probe = False
            return self._emit(ACK | PSH if last else ACK, size, now_ms, payload)
        if self._fin_is_due:
            return self._emit(FIN | ACK, 1, now_ms)
        if self._ack_pending:
            return self._segment(ACK)
        return None

    @property
    def _syn_sent(self) -> bool:
        return self._established or self._snd_nxt != self._snd_una

    @property
    def _sendable(self) -> int:
        """How many bytes of ``_outgoing`` may go into the next segment."""
        if not self._established:
            return 0
        left = distance(self._end_seq, self._snd_nxt)
        if left <= 0:
            return 0
        window = distance((self._snd_una + self._snd_wnd) & SEQ_MASK, self._snd_nxt)
        if window <= 0:
            return int(self._probe)
        return min(left, window, self._mss)

    @property
    def _fin_is_due(self) -> bool:
        return self._closing and self._established and self._snd_nxt == self._end_seq

    def _emit(
        self, flags: int, length: int, now_ms: int, payload: bytes = b"", mss: int | None = None
    ) -> Segment:
        """A segment that takes ``length`` sequence numbers and has to be acknowledged."""
        segment = self._segment(flags, payload, mss)
        self._snd_nxt = (self._snd_nxt + length) & SEQ_MASK
        if distance(self._snd_nxt, self._snd_max) > 0:
            self._snd_max = self._snd_nxt
        if self._deadline_ms is None:
            self._arm(now_ms)
        return segment

    def _segment(self, flags: int, payload: bytes = b"", mss: int | None = None) -> Segment:
        self._ack_pending = False
        window = RECEIVE_BUFFER - len(self.received)
        return Segment(*self._ports, self._snd_nxt, self._rcv_nxt, flags, window, payload, mss)

    def _arm(self, now_ms: int) -> None:
        self._deadline_ms = now_ms + (RTO_MS << min(self._retries, RTO_DOUBLINGS))

    def _repeat(self, now_ms: int) -> None:
        """The time is up: start over from the first unacknowledged byte, or give up."""
        if now_ms - self.last_heard_ms >= GIVE_UP_MS:
            self._aborted = True
            return
        self._retries += 1
        self._snd_nxt = self._snd_una
        self._probe = True
        self._arm(now_ms)
