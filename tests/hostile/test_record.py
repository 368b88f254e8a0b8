"""Which test answers which advisory, or fault found elsewhere: the record that these tests were written from."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

RECORD = {
    # Lengths and integer arithmetic
    "test_a_violation": "hostile/test_violations.py: CVE-2020-13935, CVE-2020-27813, PYSEC-2026-4395, CVE-2026-27889, "
    "CVE-2026-1528, baresip/re #1584, CVE-2018-21035, CVE-2016-10542, CVE-2026-19204, CVE-2026-54466, CVE-2026-54463, "
    "Beast 361, NATS #8029, tinymux #792, CVE-2026-59881",
    "test_a_declared_payload_takes_no_memory": "hostile/test_violations.py: CVE-2022-35922, gobwas/ws #223, cwist #119",
    "test_in_place_at_every_alignment": "test_masking.py: CVE-2017-18922",
    "test_encoding_gives_the_very_bytes": "test_decoders.py: libevent #1519",
    "test_a_sum_of_sizes_does_not_wrap": "test_decoders.py: gobwas/ws #223",
    # Fragments
    "test_fragments_without_end": "hostile/test_floods.py: CVE-2026-48779, CVE-2026-62389, ws #2329",
    "test_the_sum_of_fragments_is_limited": "hostile/test_violations.py: CVE-2026-12151, CVE-2026-9675, "
    "GHSA-pf94-94m9-536p, CVE-2026-63495, CVE-2014-0193, CVE-2026-47073",
    "test_one_byte_fragments_cost_linear_time": "test_decoders.py: CVE-2026-65623",
    "test_a_frame_in_segments_of_two_bytes": "hostile/test_floods.py: CVE-2026-54274, CVE-2026-123817",
    "test_a_control_frame_between_fragments": "hostile/test_floods.py: aiohttp #12988",
    "test_cut_anywhere": "test_decoders.py: aiohttp 3.11.17",
    # Control frames and closing
    "test_pings_whose_pongs_are_never_read": "hostile/test_floods.py: CVE-2026-11586, CVE-2026-109932, ws 8.23.0, "
    "CPython #146507",
    "test_pongs_that_nobody_asked_for": "hostile/test_floods.py: CVE-2021-3690",
    "test_empty_frames_in_every_state": "hostile/test_floods.py: CVE-2014-9374",
    "test_an_end_at_every_byte": "hostile/test_endings.py: CVE-2017-2670",
    "test_a_peer_that_goes_while_nobody_reads": "hostile/test_endings.py: CVE-2024-23672",
    "test_who_never_reads": "hostile/test_endings.py: CVE-2026-79677",
    "test_sending_and_closing_at_once": "hostile/test_endings.py: CVE-2022-25762",
    "test_close_takes_what_may_be_sent": "test_socket.py: CVE-2026-45736",
    "test_what_is_no_payload_of_a_ping_is_refused": "test_pings.py: CVE-2016-10518",
    "test_what_is_no_frame_is_refused": "test_socket.py: CVE-2016-10518",
    "test_a_violation_is_answered_once_with_its_code": "test_connection.py: undici #5050",
    "test_every_code": "test_decoders.py: Beast 361",
    # Decompression
    "test_a_bomb": "hostile/test_compression.py: CVE-2018-1000518, tornado #2391, CVE-2026-1526, CVE-2026-77528, "
    "CVE-2026-116579, CVE-2026-54464, CVE-2026-54490, CVE-2026-5680, GHSA-x8v2-478q-2hvg",
    "test_the_limit_counts_what_is_inflated": "hostile/test_compression.py: CVE-2021-21419, GHSA-qrvq-68c2-7grw",
    "test_an_offer_that_a_server_declines": "test_deflate.py: CVE-2026-2229",
    "test_an_answer_that_a_client_refuses": "test_deflate.py: CVE-2026-2229",
    "test_broken_messages": "test_deflate.py: CVE-2026-29035, CVE-2026-6100",
    "test_sends_that_are_cancelled": "hostile/test_compression.py: aiohttp #11725",
    "test_connections_that_compressed_leave_nothing": "hostile/test_compression.py: node #8871, ws #1202",
    "test_contexts_are_given_back": "test_deflate.py: Jetty #13029, Jetty #293",
    # Handshake and HTTP
    "test_a_request_that_is_refused": "hostile/test_requests.py: CVE-2024-37890, CVE-2026-69243, CVE-2018-12541, "
    "aiohttp #13016, GHSA-4mp9-239f-g9hg, aiohttp #12723, CVE-2020-7693, kemal #767",
    "test_a_header_in_small_segments": "hostile/test_requests.py: CVE-2023-43669",
    "test_headers_without_end": "hostile/test_requests.py: CVE-2026-54465, CVE-2026-54467, CVE-2026-22815",
    "test_what_is_no_answer": "test_handshake.py: CVE-2026-54467, CVE-2026-47073",
    "test_values_that_are_hard_to_parse": "hostile/test_requests.py: CVE-2021-32640, CVE-2020-7662, CVE-2020-7663",
    "test_many_requests_without_a_key": "hostile/test_requests.py: GHSA-mqv9-5hh9-4cgg",
    "test_nothing_can_be_injected_into_a_request": "test_handshake.py: CVE-2026-1527, CVE-2026-1502",
    "test_a_header_that_may_not_stand_there": "test_handshake.py: CVE-2020-7695, CVE-2020-35678",
    "test_many_violations_at_a_time": "hostile/test_violations.py: CVE-2022-41940, CVE-2022-21676",
    "test_the_origin_is_judged_before_the_handler_runs": "test_server_life.py: engineio #128, djust #653, CWE-1385",
    "test_fresh_keys_are_unpredictable": "test_frames.py: CVE-2025-10148",
    "test_a_forked_child_has_keys_of_its_own": "test_frames.py: CVE-2025-10148",
    "test_what_another_origin_is_not_told": "test_client.py: CVE-2026-42498",
    "test_an_answer_that_opens_nothing": "test_client.py: CVE-2024-23326",
    "test_cancelled_at_every_turn_of_the_loop": "test_client.py: Undertow #1092, CVE-2025-11234",
    "test_cancelled_at_any_turn_the_close_leaves_nothing": "test_server_life.py: CVE-2025-11677, CVE-2026-77358",
    # Flow control, time, concurrency
    "test_a_handler_that_never_reads": "hostile/test_floods.py: tornado #2341, websockets #105, Quarkus #56856, "
    "aiohttp #9686",
    "test_echoes_that_are_never_read": "hostile/test_floods.py: tungstenite, ws",
    "test_who_reads_late_gets_everything": "hostile/test_endings.py: uvicorn 0.52.1",
    "test_a_large_frame_that_comes_slowly_is_a_sign_of_life": "test_keepalive.py: aiohttp heartbeat, Beast",
    "test_who_never_answers_is_dropped_and_told": "test_keepalive.py: websockets #312",
    "test_threads_hammering_one_decoder": "test_buffers.py: zttp #152, httptools #118, websockets #1680",
    "test_inside_a_callback": "hostile/test_reentrancy.py: socketify #197",
    "test_behind_the_end": "hostile/test_reentrancy.py: libwebsockets #3412, #1461, #2620",
    "test_the_end_of_tls_is_no_close": "test_server_life.py: TLS truncation",
}
"""By test: its file, and what it answers."""


@pytest.mark.any_backend
@pytest.mark.parametrize("name", RECORD)
def test_it_is_there(name: str) -> None:
    """Every advisory of the record has a test."""
    file, _, _ = RECORD[name].partition(":")
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert name in functions
