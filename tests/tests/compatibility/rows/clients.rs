//! What clients speak, each kind of them, and what ends them.

use crate::compatibility::{Row, differs, not_offered, works};

pub(super) const CONNECTING: &[Row] = &[
    works(
        "Addresses",
        "`/client/hubs/{hub}` and `/client/?hub=`; a request that is no WebSocket upgrade is 400 there.",
        &[
            "handshake::bad_hubs_are_400_and_unknown_paths_404",
            "handshake::requests_that_are_no_upgrade_are_refused",
        ],
    ),
    works(
        "Subprotocols",
        "One that is offered is echoed as it was spelled; unknown ones connect as raw and none is selected.",
        &[
            "handshake::the_subprotocol_is_echoed_as_the_client_spelled_it",
            "handshake::custom_subprotocols_connect_as_raw_and_none_is_selected",
        ],
    ),
    differs(
        "Compression",
        "`permessage-deflate` is a setting of each hub, without context takeover, and declined by default.",
        &[
            "handshake::compression_is_declined",
            "deflate::it_is_negotiated_where_a_hub_has_it",
            "deflate::a_broadcast_reaches_members_of_every_format_with_it_and_without",
        ],
    ),
    works(
        "TLS",
        "1.2 and 1.3, HTTPS and WSS in the server itself, beside plain ports if wanted; 1.3 alone is a setting.",
        &[
            "tls::websockets_and_rest_over_both_versions",
            "tls::a_generated_token_names_the_scheme",
            "tls::versions_below_the_configured_one_are_refused",
            "tls::plain_and_tls_and_ipv6_at_once",
            "sdk::the_javascript_and_python_clients_speak_tls",
        ],
    ),
    works(
        "Proxies in front",
        "Of trusted peers only: the client's address from `X-Forwarded-For` or from a PROXY protocol header of version 2, host and scheme of audiences from `X-Forwarded-Host` and `X-Forwarded-Proto`.",
        &[
            "edges::forwarded_headers_count_from_trusted_proxies_only",
            "edges::a_proxy_header_says_where_the_client_is",
        ],
    ),
    differs(
        "Origins",
        "A hub may have a list of origins whose pages are let in; others are 403 before their token is read. Without a list every page may connect.",
        &["edges::pages_of_other_origins_are_kept_out_before_their_token_is_read"],
    ),
    works(
        "Keys can be changed",
        "Without a restart, by SIGHUP or by replacing the configuration file; no handshake fails while either key is good, and a file with a mistake changes nothing.",
        &[
            "reload::no_handshake_fails_while_keys_rotate",
            "reload::files_are_watched_however_they_are_replaced",
            "reload::what_is_wrong_changes_nothing_and_is_said",
        ],
    ),
];

pub(super) const JSON: &[Row] = &[
    works(
        "`json.webpubsub.azure.v1`",
        "Join, leave, send with `noEcho`, ping; `connected` first; the service's messages byte for byte.",
        &[
            "json::connected_is_first_and_names_user_and_connection",
            "json::members_receive_until_they_leave",
            "json::the_senders_echo_comes_before_the_ack_and_noecho_skips_only_the_sender",
            "json::ping_is_answered_with_pong_in_both_layers",
        ],
    ),
    works(
        "Acks",
        "Only for requests with an `ackId`, after their effect; the last 1,000 that succeeded are known, a repeated one is `Duplicate` and not done again.",
        &[
            "json::requests_are_answered_only_when_they_ask",
            "json::an_ack_id_that_succeeded_is_a_duplicate_and_one_that_failed_is_not",
            "json::the_last_thousand_ack_ids_are_remembered_whatever_their_order",
        ],
    ),
    works(
        "A missing role",
        "`Forbidden` with an `ackId`; without one it is passed over in silence.",
        &["json::a_missing_role_is_forbidden_and_changes_nothing"],
    ),
    works(
        "JSON data",
        "Is handed on as it was written, numbers included.",
        &["json::json_data_is_not_reprinted"],
    ),
    works(
        "Text, JSON and binary to every kind of client",
        "Converted as the service does.",
        &[
            "conversions::from_json_and_reliable_clients",
            "conversions::from_raw_clients",
            "conversions::from_rest",
        ],
    ),
    differs(
        "JSON in binary frames",
        "Is read like JSON in text frames, as documented; the emulator closes with 1003.",
        &["json::a_binary_frame_may_hold_the_json"],
    ),
    differs(
        "What breaks the subprotocol",
        "`disconnected` with a reason, then 1007; not recoverable.",
        &[
            "json::what_breaks_the_subprotocol_ends_the_connection_with_1007",
            "recovery::a_protocol_error_and_a_close_by_rest_are_final",
        ],
    ),
    works(
        "`invoke`, `cancelInvocation`",
        "A user event whose answer is the `invokeResponse`; a cancelled one is given up, its request aborted. Failures are named by the handler's status: `BadRequest`, `Forbidden`, `NotFound`, `Timeout`, else `InternalServerError`; `NotFound` also without a handler.",
        &[
            "events::invoke::the_handlers_answer_is_the_response",
            "events::invoke::every_failure_has_its_name",
            "events::invoke::a_cancelled_invocation_gives_up_its_request",
            "events::invoke::without_a_handler_it_is_not_found",
            "events::invoke::protobuf_clients_invoke_too",
            "sdk::express::the_express_middleware_of_today_hears_and_answers",
        ],
    ),
    not_offered(
        "Streams and group state",
        "Refused in the form that clients wait for: `streamClosed`, or a failed ack.",
        &["json::what_is_not_built_is_refused_in_the_form_clients_wait_for"],
    ),
    works(
        "Time to live of messages",
        "`ttlSeconds` and `messageTtlSeconds`, 0 to 300, 0 without an end: what expires while it waits is sent neither to a client that is slow nor to a session that comes back, whose sequence ids then have a gap, and counts against no bound.",
        &[
            "expiry::a_reader_that_stalled_is_not_sent_what_has_expired",
            "expiry::a_session_that_comes_back_after_the_ttl_finds_a_gap",
            "expiry::expired_messages_make_no_slow_consumer",
        ],
    ),
];

pub(super) const PROTOBUF: &[Row] = &[
    works(
        "`protobuf.webpubsub.azure.v1`, `protobuf.reliable.webpubsub.azure.v1`",
        "Join, leave, send, acks, metadata, recovery, and what is refused; to and from JSON and raw clients. JSON payloads come as `json_data`; the schema has no place for the sender's name.",
        &[
            "formats::protobuf_clients_talk_to_each_other_and_to_json_clients",
            "sdk::protobuf_clients_speak_with_everyone",
        ],
    ),
    works(
        "What breaks the protobuf subprotocols",
        "A text frame closes with 1003, bytes that are no request with 1007, both after `disconnected_message` with a reason.",
        &["formats::a_protobuf_client_must_send_binary_frames"],
    ),
    works(
        "The JavaScript client with a protobuf protocol",
        "Written from the schema, since the package of the service is not published; both subprotocols.",
        &[
            "sdk::the_protobuf_client_and_the_server_agree_on_bytes",
            "sdk::protobuf_clients_speak_with_everyone",
        ],
    ),
];

pub(super) const RAW: &[Row] = &[
    works(
        "Payloads",
        "Nothing but payloads is sent to them: text and JSON in text frames, binary in binary ones.",
        &["raw::they_are_told_nothing_but_payloads", "conversions::from_rest"],
    ),
    works(
        "`webpubsub_mode=sendToGroup`",
        "With `group` and `noEcho`; a frame without the role closes with 1008, also when the role was revoked just now.",
        &[
            "raw::frames_go_to_the_group_in_send_to_group_mode",
            "raw::a_frame_without_the_role_ends_the_client_with_1008",
            "permissions::a_raw_client_that_may_no_longer_send_is_closed",
            "raw::bad_modes_are_answered_400",
        ],
    ),
];

pub(super) const RELIABLE: &[Row] = &[
    works(
        "`json.reliable.webpubsub.azure.v1`",
        "Sequence ids from 1 on data messages only, kept until acknowledged.",
        &[
            "reliable::messages_are_numbered_from_one_and_nothing_else_is",
            "reliable::sequence_acks_of_any_shape_do_no_harm",
        ],
    ),
    works(
        "Recovery",
        "With `awps_connection_id` and `awps_reconnection_token`, on the same hub, without an access token: nothing is lost, nothing doubled, groups, roles and ack ids stay.",
        &[
            "recovery::nothing_is_lost_wherever_the_cut_falls",
            "recovery::what_was_not_acknowledged_comes_again_and_the_rest_follows",
            "sdk::a_cut_socket_loses_and_doubles_nothing",
        ],
    ),
    works(
        "`connected` after a recovery",
        "Is sent again, with the same id and a fresh token, as the specification allows.",
        &["recovery::what_was_not_acknowledged_comes_again_and_the_rest_follows"],
    ),
    works(
        "A refused recovery",
        "The upgrade is accepted and closed with 1008, so that SDKs open a new connection at once.",
        &[
            "recovery::recovery_is_refused_by_an_upgrade_and_1008",
            "sdk::a_refused_recovery_becomes_a_new_connection_that_rejoins",
        ],
    ),
    works(
        "What is final",
        "Only a close with 1000 by the client, a close by REST, a protocol error, an overflow, too much traffic, the end of a lifetime and the end of the window.",
        &[
            "recovery::only_a_close_with_1000_is_final",
            "recovery::the_session_ends_with_its_window",
            "recovery::a_protocol_error_and_a_close_by_rest_are_final",
            "edges::who_sends_too_much_in_a_window_is_closed",
            "edges::connections_last_as_long_as_they_may",
        ],
    ),
    differs(
        "Window",
        "30 s and 2 s of grace, a setting per hub.",
        &["recovery::the_session_ends_with_its_window"],
    ),
    differs(
        "Unacknowledged messages",
        "10,000 messages or 16 MiB, settings per hub, where the service has 1,000; more closes with 1008.",
        &[
            "reliable::too_many_unacknowledged_messages_end_the_session_with_1008",
            "reliable::too_many_unacknowledged_bytes_end_the_session_with_1008",
        ],
    ),
    differs(
        "Closed by REST",
        "Reliable clients get 1008 instead of 1000, which saves them a recovery that must fail; others get 1000.",
        &[
            "recovery::a_protocol_error_and_a_close_by_rest_are_final",
            "sdk::the_service_closes_connections_and_says_why",
        ],
    ),
];

pub(super) const LIMITS: &[Row] = &[
    works(
        "A message from a client",
        "1 MiB after its fragments are joined, a setting; more closes with 1009.",
        &[
            "limits::a_message_of_one_mebibyte_is_the_largest",
            "limits::an_announced_giant_is_refused_at_its_header",
        ],
    ),
    differs(
        "A client that does not read",
        "1 MiB of unsent bytes, a setting, whatever the number of messages; then 1008. The others are not slowed.",
        &["slow::a_slow_consumer_gets_1008_and_the_others_everything"],
    ),
    differs(
        "Groups of a connection",
        "10,000, a setting: one more is 409 over REST and a failed ack for a client; a bulk change passes over who is in too many.",
        &["rest::a_group_too_many_is_a_conflict"],
    ),
    works(
        "Rules for single groups",
        "1,000 a connection and permission; one more is 409.",
        &["permissions::more_than_a_thousand_rules_are_a_conflict"],
    ),
    works(
        "Bad frames",
        "1002 for what RFC 6455 forbids, 1007 for text that is not UTF-8.",
        &[
            "limits::forbidden_frames_get_1002_and_bad_utf8_1007",
            "limits::bad_utf8_is_found_before_the_message_ends",
        ],
    ),
    works(
        "The server stops",
        "1001, and SDKs come back by themselves.",
        &["process::sigterm_says_1001_to_clients_and_exits_0"],
    ),
    works(
        "Connections of one client",
        "Rules per user, token or claim over all hubs, and a quota per hub; one more is 429 with `Retry-After`. Each server counts its own; who has no such thing is not counted.",
        &[
            "edges::connections_of_one_client_are_counted_over_hubs_and_until_they_end",
            "edges::one_token_is_one_client_by_its_signature",
            "edges::a_hub_has_its_quota_of_connections",
        ],
    ),
    works(
        "Traffic of one client",
        "Rules on the bytes that a user, a token or a claim sends in a window; more closes with 1008 for good. Each server counts its own.",
        &["edges::who_sends_too_much_in_a_window_is_closed"],
    ),
    differs(
        "Throttled REST calls",
        "Calls a second are bounded by a setting, not by the units bought; more are 429 with `Retry-After`, and `/api/health` always answers.",
        &["edges::rest_calls_over_the_rate_are_to_be_tried_again"],
    ),
    differs(
        "Lifetime of a connection",
        "A setting per hub, up to seven days and off by default, where the service has one for all hubs. Its end closes with 1001, reliable clients with 1008, since recovery must fail; `disconnected` says why.",
        &["edges::connections_last_as_long_as_they_may"],
    ),
];
