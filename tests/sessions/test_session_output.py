"""The output queue against a plain byte string."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from txspread.engine.session_output import LARGE_FRAME, MAX_BUFFERS, OutputQueue


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(bytes, st.integers(0, 3 * LARGE_FRAME)),
            st.integers(0, 60),
            st.integers(0, 4 * LARGE_FRAME),
        )
    ),
    st.integers(0, 20000),
)
def test_queue_is_a_stream_cut_into_frames(steps: list[bytes | int], limit: int) -> None:
    queue = OutputQueue()
    expected = b""
    ends: list[int] = []
    done = 0
    for step in steps:
        if isinstance(step, bytes):
            queue.append(step)
            expected += step
            if step:
                ends.append(done + len(expected))
        else:
            queue.consumed(step)
            taken = min(step, len(expected))
            expected = expected[taken:]
            done += taken
        ends = [end for end in ends if end > done]
        assert queue.size == len(expected)
        assert queue.frames == len(queue) == len(ends)
        data = b"".join(queue.buffers(limit))
        assert expected.startswith(data)
        assert len(data) >= min(limit, len(expected))
        assert b"".join(queue.buffers(1 << 40)) == expected


def test_small_frames_come_as_one_buffer_and_large_ones_as_they_are() -> None:
    queue = OutputQueue()
    for _ in range(100):
        queue.append(b"x" * 80)
    assert queue.buffers(4000) == [b"x" * 4000]
    large = b"y" * 100_000
    queue.clear()
    queue.append(large)
    queue.append(large)
    buffers = queue.buffers(150_000)
    assert len(buffers) == 2
    assert buffers[0] is large
    queue.consumed(1)
    first, second = queue.buffers(150_000)
    assert len(first) == 99_999
    assert second is large


def test_number_of_buffers_is_what_one_system_call_takes() -> None:
    queue = OutputQueue()
    for _ in range(MAX_BUFFERS + 10):
        queue.append(b"z" * LARGE_FRAME)
    assert len(queue.buffers(1 << 30)) == MAX_BUFFERS


def test_clear_and_consuming_too_much_leave_an_empty_queue() -> None:
    queue = OutputQueue()
    queue.append(b"abc")
    queue.consumed(1)
    queue.clear()
    assert (queue.size, queue.frames, queue.buffers(10)) == (0, 0, [])
    queue.append(b"abc")
    queue.consumed(99)
    assert (queue.size, queue.frames, queue.buffers(10)) == (0, 0, [])
