//! The rows of the page. New behaviour gets its row with its test.

use super::{Area, Row, differs, not_offered, not_yet, works};

pub(super) const AREAS: &[Area] = &[
    Area { title: "REST operations", rows: OPERATIONS },
    Area { title: "REST requests and answers", rows: REQUESTS },
    Area { title: "Filters", rows: FILTERS },
    Area { title: "Tokens", rows: TOKENS },
    Area { title: "Connecting", rows: CONNECTING },
    Area { title: "JSON clients", rows: JSON },
    Area { title: "Protobuf clients", rows: PROTOBUF },
    Area { title: "Raw clients", rows: RAW },
    Area { title: "Reliable clients", rows: RELIABLE },
    Area { title: "Event handlers", rows: HANDLERS },
    Area { title: "Answers of event handlers", rows: ANSWERS },
    Area { title: "Event listeners", rows: LISTENERS },
    Area { title: "Limits and close codes", rows: LIMITS },
    Area { title: "SDKs", rows: SDKS },
    Area { title: "Other protocols and products", rows: OTHERS },
];

const OPERATIONS: &[Row] = &[
    works("`/api/health`", "HEAD and GET answer 200 without a token.", &["rest::health_needs_no_token"]),
    differs(
        "`:generateToken`",
        "Any authorised caller may ask, one with an access key too; all parameters and client types of the service.",
        &["rest::a_generated_token_opens_a_connection", "refusals::parameters_that_break_the_rules"],
    ),
    works(
        "Send to all",
        "`excluded`, `filter` and `messageTtlSeconds`; 202.",
        &["sdk::the_service_sends_every_content_to_whom_it_means", "rest::excluded_connections_hear_nothing"],
    ),
    works(
        "Send to a connection",
        "202, also when it does not exist.",
        &["rest::sends_reach_all_group_user_and_connection_and_nobody_else"],
    ),
    works(
        "Send to a user",
        "To every connection of the user, with `filter`; 202, also when there is none.",
        &["rest::sends_reach_all_group_user_and_connection_and_nobody_else"],
    ),
    works(
        "Send to a group",
        "`excluded` and `filter`; 202, also when nobody is in it.",
        &[
            "rest::sends_reach_all_group_user_and_connection_and_nobody_else",
            "filters::exclusions_and_filters_are_added_up",
        ],
    ),
    works(
        "Close a connection",
        "204, also when it is gone; a reliable session ends with it.",
        &["rest::closes_tell_the_reason", "recovery::a_protocol_error_and_a_close_by_rest_are_final"],
    ),
    works(
        "Close all connections, a group's, a user's",
        "`excluded` and `reason`; 204.",
        &["rest::closes_tell_the_reason", "sdk::the_service_closes_connections_and_says_why"],
    ),
    works(
        "Connection, group, user exists",
        "200 or 404 without a body; a session that waits for its client exists.",
        &[
            "rest::existence_is_200_or_404_without_a_body",
            "recovery::a_session_without_a_socket_is_still_there",
        ],
    ),
    works(
        "List connections in a group",
        "In the order of connection ids, with `maxpagesize`, `top` and `continuationToken`; `nextLink` is absolute and followed as it is.",
        &[
            "lists::pages_have_the_size_asked_for_and_end_at_the_top",
            "lists::the_next_link_is_absolute_and_carries_on",
            "lists::pages_hold_while_members_come_and_go",
            "sdk::the_service_lists_450_members",
        ],
    ),
    works(
        "Add a connection to a group",
        "200; 404 when there is no such connection.",
        &["rest::membership_of_connections_and_users_changes_by_rest"],
    ),
    works(
        "Remove a connection from a group, from all groups",
        "204, whether it was there or not.",
        &[
            "rest::membership_of_connections_and_users_changes_by_rest",
            "sdk::the_service_puts_connections_into_groups",
        ],
    ),
    works(
        "`:addToGroups`, `:removeFromGroups`",
        "Every connection of the hub that the filter names, without one every connection; 200 also when that is nobody. No cap on the number of groups.",
        &[
            "filters::a_filter_chooses_who_is_put_into_a_group_and_taken_out",
            "bulk::many_groups_fit_one_call",
            "bulk::one_bad_part_changes_nothing",
        ],
    ),
    differs(
        "Add a user to a group",
        "The user's connections of this moment; 404 when there is none, as the emulator answers and the specification does not list.",
        &["rest::membership_of_connections_and_users_changes_by_rest"],
    ),
    works(
        "Remove a user from a group, from all groups",
        "204, whether it was there or not.",
        &["rest::membership_of_connections_and_users_changes_by_rest"],
    ),
    differs(
        "Grant, revoke, check permission",
        "`targetName` may be left out and then means all groups: a grant allows all, a revocation forbids all, a check asks whether all are allowed.",
        &[
            "permissions::a_grant_for_one_group_is_for_that_group",
            "permissions::a_grant_without_a_group_is_for_all_and_takes_back_what_was_forbidden",
            "permissions::more_than_a_thousand_rules_are_a_conflict",
        ],
    ),
    not_yet(
        "`:invoke`, `groups/{group}/:invoke`",
        "501.",
        &["refusals::what_is_known_and_not_built_is_a_501"],
    ),
];

const REQUESTS: &[Row] = &[
    differs(
        "`api-version`",
        "Every version of the service, from 2020-10-01 to 2026-08-01-preview, is taken and means the same; without one it is the newest. Unknown and repeated ones are 400.",
        &[
            "refusals::every_operation_takes_every_known_version",
            "refusals::every_operation_refuses_an_unknown_or_repeated_version",
        ],
    ),
    differs(
        "Escapes in paths",
        "Every escape is decoded exactly once, `%2F` too, so a group `a/b` can be reached; the service leaves `%2F` as it is. `+` stays a plus.",
        &["rest::names_are_decoded_once", "sdk::the_service_names_users_and_groups_with_any_characters"],
    ),
    works(
        "Names of hubs, groups, users, connections",
        "The service's rules; hubs ignore case, everything else does not.",
        &["refusals::names_that_break_the_rules"],
    ),
    works(
        "Parameters",
        "Names ignore case, unknown ones are passed over, one that is repeated against its rule is 400.",
        &["refusals::parameters_that_break_the_rules", "refusals::unknown_parameters_are_passed_over"],
    ),
    works(
        "Bodies as JSON, text, binary",
        "By `Content-Type`; without one, binary. Text and JSON may be in utf-8, us-ascii, iso-8859-1 or utf-16; other types and charsets are 415.",
        &[
            "rest::the_three_content_types_arrive_as_what_they_are",
            "rest::bad_bodies_are_refused_and_nobody_hears_them",
        ],
    ),
    differs(
        "Bodies as protobuf",
        "`application/x-protobuf` is taken as a serialised `google.protobuf.Any`, which the emulator refuses; anything else under that type is 400. JSON clients get it in base64 as `protobuf`, raw clients as bytes.",
        &["rest::a_protobuf_body_is_an_any"],
    ),
    differs(
        "A JSON body `null`",
        "400, since a released client drops its connection over such a message.",
        &["sdk::the_service_sends_every_content_to_whom_it_means"],
    ),
    differs(
        "Length of bodies",
        "1 MiB, then 400 as with the service; a body may be chunked and so come without `Content-Length`.",
        &[
            "rest::a_body_may_have_one_mebibyte",
            "http::a_chunked_body_is_a_body",
            "http::a_chunked_body_has_the_same_limit",
        ],
    ),
    works(
        "Metadata headers",
        "`X-WebPubSub-Metadata-*` travels with a message to JSON clients, as `metadata` after `data`, and to protobuf clients.",
        &[
            "metadata::metadata_reaches_json_clients_and_not_raw_ones",
            "metadata::the_last_value_counts",
            "metadata::metadata_over_its_bounds_is_refused",
        ],
    ),
    works(
        "Order of sends",
        "A send is answered when every core has taken it: one that is sent after the other's 202 arrives after it.",
        &["cores::sends_arrive_in_the_order_of_their_202s"],
    ),
    works(
        "Errors",
        "A flat JSON body with `code`, `message` and `target`, the code in `x-ms-error-code` too; the SDKs show them.",
        &[
            "refusals::parameters_that_break_the_rules",
            "sdk::the_service_sends_every_content_to_whom_it_means",
        ],
    ),
    differs(
        "401",
        "Comes with `WWW-Authenticate: Bearer`.",
        &["refusals::every_operation_needs_a_token_for_its_own_path"],
    ),
    differs(
        "405",
        "A known path with another method is 405 with `Allow`.",
        &["refusals::every_path_refuses_other_methods"],
    ),
    works(
        "5xx",
        "Nothing a caller does is one, except 501 for what is known and not built, and 503 with `Retry-After` while the keys of a token's issuer are not to be had.",
        &[
            "refusals::a_hub_too_many_is_a_429",
            "refusals::nothing_a_caller_does_is_a_5xx",
            "refusals::what_is_known_and_not_built_is_a_501",
            "oidc::an_issuer_that_is_down_at_the_start_is_waited_for",
        ],
    ),
    not_offered(
        "A guard against retries, by `x-ms-client-request-id`",
        "A retried send that was delivered is delivered again, as there.",
        &[],
    ),
];

const FILTERS: &[Row] = &[
    works(
        "Where",
        "`filter` of sends to all, to a group and to a user; in the bodies of bulk group changes.",
        &[
            "filters::a_filtered_send_reaches_whom_its_filter_names",
            "filters::a_filter_chooses_who_is_put_into_a_group_and_taken_out",
        ],
    ),
    works(
        "Language",
        "`userId`, `connectionId`, `groups`; `eq ne gt ge lt le in and or not`; `length tolower toupper trim contains startswith endswith indexof concat substring`; null as the service has it.",
        &["filters::a_filtered_send_reaches_whom_its_filter_names", "filters::filters_see_the_groups_of_now"],
    ),
    works(
        "`protocol`",
        "The subprotocol, null for raw clients: the service takes it and does not document it.",
        &["filters::a_filtered_send_reaches_whom_its_filter_names"],
    ),
    works(
        "Refusals",
        "Types are checked before anything is sent, with the service's words: `Invalid syntax for '…': Type 'null', expect 'bool'. (Parameter 'filter')`.",
        &["filters::a_bad_filter_is_refused_with_what_is_wrong"],
    ),
    differs(
        "Text and numbers in filters",
        "All functions of text are ordinal and know no culture: case is mapped character by character, lengths and places count UTF-16 units. Integers have 64 bits, and one that does not fit is 400.",
        &[
            "filters::a_filtered_send_reaches_whom_its_filter_names",
            "filters::a_bad_filter_is_refused_with_what_is_wrong",
        ],
    ),
    differs(
        "Bounds of a filter",
        "8 KiB of text, 1,000 parts, nested 100 deep, some forty calls of `tolower` or one of it over 1.5 KB; more is 400. In a query it shares the head's 16 KiB with the token, and SDKs sign the query into that.",
        &["filters::a_bad_filter_is_refused_with_what_is_wrong", "http::an_oversized_head_is_refused"],
    ),
];

const TOKENS: &[Row] = &[
    works(
        "Access keys",
        "HS256 over the key's text as it is written, the primary or the secondary; no other algorithm.",
        &[
            "tokens::tokens_are_accepted_in_every_shape_the_sdks_write",
            "rest::only_signed_calls_are_served",
            "rest::audiences_are_accepted_in_every_form",
        ],
    ),
    differs(
        "Audience of REST calls",
        "The URL with its query, as the SDKs sign, or without, as is documented; case, one trailing slash and http or https do not matter.",
        &[
            "rest::audiences_are_accepted_in_every_form",
            "refusals::every_operation_needs_a_token_for_its_own_path",
        ],
    ),
    works(
        "Audience of clients",
        "The hub's address under the request's host or a configured public endpoint; another hub's or another protocol's token opens nothing.",
        &[
            "tokens::a_public_endpoint_is_an_audience_too",
            "tokens::bad_tokens_are_answered_401_before_the_upgrade",
            "sdk::every_method_of_the_service_client_is_served_and_refused",
        ],
    ),
    works(
        "Times",
        "`exp` is required, `nbf` is honoured, with five minutes for clocks that differ.",
        &["tokens::bad_tokens_are_answered_401_before_the_upgrade", "rest::only_signed_calls_are_served"],
    ),
    works(
        "User, roles, groups",
        "`sub` or the long claim, `role` and `webpubsub.group` as a text or a list; a user id is optional.",
        &[
            "tokens::the_user_comes_from_sub_or_from_the_long_claim",
            "tokens::roles_and_groups_may_be_one_string_or_a_list",
            "tokens::a_bad_group_in_the_token_is_answered_400",
        ],
    ),
    works(
        "Roles",
        "All groups, one group, patterns with `?`, `*` and `**`; unknown ones are passed over.",
        &[
            "tokens::roles_grant_exactly_what_they_say",
            "permissions::the_roles_of_a_token_are_where_rules_begin",
        ],
    ),
    works(
        "Where a token may be",
        "The query, which wins, or the Authorization header.",
        &["tokens::the_query_token_wins_over_the_header"],
    ),
    works(
        "Anonymous clients",
        "A hub may let in who has no token; a bad one is refused there too.",
        &["tokens::an_anonymous_hub_lets_in_who_has_no_token_but_nobody_with_a_bad_one"],
    ),
    differs(
        "OIDC tokens in place of Entra ID",
        "Bearer tokens, RS256 or ES256, of the issuers in the configuration; rules on claims make owners, who may make every call, and readers, who may make those with GET and HEAD. They open no client connection; `:generateToken` makes one that does.",
        &[
            "oidc::an_owner_does_everything_and_a_reader_looks",
            "oidc::tokens_that_are_not_believed",
            "oidc::an_unknown_key_is_fetched_once_and_a_rotated_one_is_found",
        ],
    ),
    works(
        "Turning off access keys or issuers",
        "Each is a setting: REST calls with what is off are 403, client tokens signed with an access key 401. Generated tokens still open connections.",
        &[
            "oidc::without_access_keys_generated_tokens_still_open_connections",
            "oidc::issuers_can_be_switched_off",
        ],
    ),
];

const CONNECTING: &[Row] = &[
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
    differs("Compression", "`permessage-deflate` is declined.", &["handshake::compression_is_declined"]),
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

const JSON: &[Row] = &[
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

const PROTOBUF: &[Row] = &[
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

const RAW: &[Row] = &[
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

const RELIABLE: &[Row] = &[
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

const HANDLERS: &[Row] = &[
    works(
        "Which handler",
        "An ordered list for each hub, in the configuration file; the first that wants an event gets it. User events by `*`, a name or names with commas between them; case does not matter.",
        &[
            "events::routing::the_first_handler_that_wants_an_event_gets_it_and_no_other",
            "events::routing::a_handler_is_its_hubs_own",
            "events::routing::a_reload_changes_the_handlers_of_those_who_are_there",
        ],
    ),
    differs(
        "URL templates",
        "`{hub}` and `{event}`, percent-encoded. Secrets come from `{env:NAME}` and `{file:/path}` in place of Key Vault, and are shown nowhere.",
        &[
            "events::routing::the_url_is_the_template_filled_in",
            "events::routing::a_hub_of_any_name_fits_a_url",
            "events::routing::secrets_of_a_template_come_from_environment_or_file_and_are_shown_nowhere",
            "events::routing::bad_handlers_are_refused_at_the_start_with_the_key_and_the_fix",
        ],
    ),
    works(
        "Abuse protection",
        "OPTIONS, and GET where that is 404, before the first event; the answer is kept for a minute. `WebHook-Allowed-Origin` may name the host with or without a port, in several headers or with commas. A setting of a handler turns it off.",
        &[
            "events::validation::the_question_is_asked_once_and_says_who_asks",
            "events::validation::a_get_is_tried_where_there_are_no_options",
            "events::validation::yes_may_be_said_in_several_ways",
            "events::validation::a_handler_that_says_no_is_sent_nothing_and_the_log_says_why",
            "events::validation::a_no_is_asked_again_after_a_while",
        ],
    ),
    works(
        "Headers",
        "CloudEvents in binary mode; all of `ce-*` with `ce-awpsversion`, `WebHook-Request-Origin` of the public endpoint or of the client's `Host`. `ce-id` counts a connection's events, 0 for `connect`.",
        &[
            "events::requests::every_header_is_there_and_no_other",
            "events::requests::what_is_not_known_is_not_said",
            "events::requests::the_origin_is_the_public_endpoint_if_there_is_one",
            "events::requests::the_origin_is_the_host_that_the_client_asked_for",
        ],
    ),
    differs(
        "A user id that no header can hold",
        "`ce-userId` is percent-encoded by the rule of CloudEvents then, and is as it is otherwise.",
        &["events::requests::a_user_of_any_characters_fits_a_header"],
    ),
    works(
        "`ce-signature`",
        "HMAC-SHA-256 of the connection id by both keys; a rotated key signs at once.",
        &["events::requests::both_keys_sign_and_a_new_one_at_once"],
    ),
    differs(
        "Authentication",
        "A header with a secret, or a bearer token by OAuth 2.0's client credentials from any token endpoint, in place of managed identities.",
        &[
            "events::auth::a_header_with_a_secret_goes_with_every_request",
            "events::auth::a_token_is_fetched_once_and_goes_with_every_request",
            "events::auth::a_token_that_ran_out_is_replaced",
            "events::auth::without_a_token_nothing_is_sent_and_the_cause_is_said",
        ],
    ),
    works(
        "`connect`",
        "Claims, query, headers, subprotocols and client certificates, without the token; its answer decides, and a client without a token is asked about where those are allowed.",
        &[
            "events::connect::it_is_told_everything_about_the_request_but_its_secrets",
            "events::connect::a_token_is_not_handed_on_wherever_it_stood",
            "events::connect::a_clients_certificate_is_told",
            "events::connect::without_a_token_the_handler_decides_where_that_is_allowed",
        ],
    ),
    works(
        "`connected`, `disconnected`",
        "Once each, whatever ends the connection, a stop of the server too; `disconnected` with its reason, behind the client's last event. A reliable client that comes back is no event.",
        &[
            "events::lifecycle::the_order_on_the_wire_is_connect_connected_events_disconnected",
            "events::lifecycle::the_end_has_its_reason",
            "events::lifecycle::who_was_refused_is_not_told_of",
            "events::lifecycle::recovery_is_nobodys_business_and_its_end_is",
            "events::lifecycle::a_stop_tells_the_end_of_everybody",
            "events::trouble::a_client_that_leaves_while_its_event_is_out_is_told_of_in_order",
        ],
    ),
    works(
        "User events",
        "Of raw, JSON and protobuf clients: text, JSON, binary, protobuf, as the body they are, with metadata in `x-webpubsub-metadata-*`.",
        &[
            "events::requests::bodies_are_what_clients_meant",
            "events::requests::metadata_goes_along_in_headers",
            "events::requests::a_message_of_one_mebibyte_arrives_whole",
        ],
    ),
    differs(
        "Order",
        "One event of a connection at a time, in order; as many as are configured may wait, then nothing more is read from that client. Other requests of it are served meanwhile.",
        &[
            "events::order::the_next_event_waits_for_the_answer_to_the_last",
            "events::order::fifty_events_in_one_write_are_answered_in_order",
            "events::order::only_events_wait_behind_an_event",
            "events::order::reading_pauses_at_the_bound_and_nothing_is_lost",
        ],
    ),
    differs(
        "Group presence",
        "`joined` and `left`, a preview there, off unless configured: by clients, by REST, at the beginning and at the end, of all groups or of some.",
        &[
            "events::presence::what_a_client_does_is_told_when_it_changed_something",
            "events::presence::what_rest_does_is_told_too",
            "events::presence::groups_of_token_and_handler_are_joined_and_all_are_left_at_the_end",
            "events::presence::only_the_groups_and_changes_asked_for_are_told",
            "events::presence::nothing_is_told_unless_it_is_asked_for",
        ],
    ),
    differs(
        "Retries and time",
        "408, 5xx and faults of the network are tried again after 1, 3 and 5 seconds; 100 seconds over all attempts, 30 for `connect`. All are settings of a handler; redirects are not followed.",
        &[
            "events::retries::what_fails_for_a_moment_is_tried_again_unseen",
            "events::retries::the_delays_are_one_three_and_five_seconds",
            "events::retries::only_what_may_pass_is_tried_again",
            "events::retries::a_handler_that_is_restarted_in_time_hears_everything",
            "events::stops::a_handler_that_comes_and_goes_costs_no_event",
        ],
    ),
    differs(
        "A handler in trouble",
        "Requests at a time and events that wait are bounded for each handler, and one that fails ten times in a row is given a rest: events fail at once then. Nobody else is held up.",
        &[
            "events::breaker::it_opens_after_so_many_failures_fails_at_once_and_closes_again",
            "events::order::events_over_the_bound_of_the_queue_fail_at_once",
            "events::crowd::a_thousand_connects_against_a_dead_handler_are_refused_and_leave_nothing",
            "events::trouble::whatever_comes_back_the_event_fails_and_the_next_goes_on",
        ],
    ),
    works(
        "HTTP/2",
        "By ALPN over TLS, or by prior knowledge; TLS with the system's authorities and one's own.",
        &[
            "events::http2::everything_works_over_http_2",
            "events::http2::one_connection_carries_many_events_at_a_time",
            "events::trouble::a_handler_over_tls_must_be_who_it_says",
        ],
    ),
    not_yet(
        "`tunnel:///` handlers",
        "Refused at the start.",
        &["events::routing::bad_handlers_are_refused_at_the_start_with_the_key_and_the_fix"],
    ),
];

const ANSWERS: &[Row] = &[
    works(
        "Yes to `connect`",
        "Any 2xx, with or without `userId`, `groups`, `roles` and `subprotocol`.",
        &[
            "events::connect::every_form_of_yes_lets_in_as_the_token_says",
            "events::connect::what_it_says_replaces_what_the_token_said",
            "events::connect::the_subprotocol_is_one_of_those_offered",
        ],
    ),
    differs(
        "No to `connect`",
        "Status, `Content-Type` and the first 4 KiB of the body reach the client, as documented, where the emulator sends the status only; a setting leaves the body out. An answer that cannot be used is 500.",
        &[
            "events::connect::a_refusal_reaches_the_client_as_it_was_said",
            "events::connect::of_a_long_refusal_the_first_4_kib_are_forwarded_unless_that_is_off",
            "events::connect::a_handler_that_fails_is_a_500",
        ],
    ),
    works(
        "Messages",
        "The body of a 2xx goes to the client before the ack, as what its `Content-Type` says; an empty one is no message.",
        &[
            "events::answers::an_answer_with_a_body_is_a_message_of_the_server_before_the_ack",
            "events::answers::an_empty_answer_is_an_ack_and_no_message",
            "events::answers::an_answer_nobody_can_be_told_is_a_failure",
            "events::answers::metadata_comes_back_with_the_answer",
        ],
    ),
    works(
        "Connection state, cookies",
        "`ce-connectionState` of an answer comes back with every later event of that connection, up to 8 KiB; `Set-Cookie` too, for each connection its own.",
        &[
            "events::connect::state_and_cookies_come_back_with_every_later_event_of_that_connection",
            "events::connect::only_a_yes_to_a_question_sets_state",
        ],
    ),
    works(
        "Repeated `ackId`",
        "`Duplicate` after a success, asked again after a failure.",
        &[
            "events::order::an_ack_id_that_succeeded_is_not_asked_again_and_one_that_failed_is",
            "events::order::an_ack_id_on_its_way_is_not_asked_twice",
        ],
    ),
    works(
        "Failures",
        "A raw client is closed with 1011; others get an ack that failed with `InternalServerError`, or without an `ackId` nothing. A setting of a hub closes those with 1011, as is documented. An event that nobody wants fails like that.",
        &[
            "events::failures::a_raw_client_is_closed_with_1011",
            "events::failures::an_ack_says_so_and_the_connection_stays",
            "events::failures::without_an_ack_id_it_is_the_operator_who_is_told",
            "events::failures::without_an_ack_id_it_may_be_the_end",
            "events::failures::an_event_no_handler_wants_fails_too",
        ],
    ),
    works("Size", "16 MiB, a setting.", &["events::trouble::an_answer_of_16_mib_is_the_largest"]),
    differs(
        "Seeing it",
        "Logged in the words of the service's documentation; counted by outcome on the metrics page; the last calls of each handler in `/upstreams` of the admin listener, bodies only if wanted.",
        &[
            "events::trouble::every_failure_is_logged_and_counted_with_its_cause",
            "events::inspector::the_last_calls_are_shown_with_what_became_of_them",
            "events::inspector::bodies_are_shown_if_that_is_wanted_and_no_more_than_their_beginnings",
        ],
    ),
];

const LISTENERS: &[Row] = &[
    differs(
        "Where events go",
        "Lines of JSON (CloudEvents) in a file that may be rotated or on standard output, in place of Event Hubs; at most ten listeners. One that cannot keep up loses its oldest events, counted.",
        &[
            "events::listeners::a_line_says_what_the_webhook_says",
            "events::listeners::a_file_that_was_moved_away_is_made_again",
            "events::listeners::standard_output_is_a_place_too",
            "events::listeners::a_listener_that_cannot_keep_up_loses_the_oldest",
        ],
    ),
    works(
        "What they hear",
        "`connected`, `disconnected` and user events; all that want an event get it, beside its handler.",
        &[
            "events::listeners::connect_is_for_no_listener",
            "events::listeners::all_listeners_that_want_an_event_get_a_copy_and_the_handler_answers",
        ],
    ),
    works(
        "What they change",
        "An event that a listener wants counts as handled, also when it cannot be delivered, which is logged and counted.",
        &[
            "events::listeners::an_event_that_only_a_listener_wants_is_handled",
            "events::listeners::a_listener_that_cannot_be_written_is_nobodys_failure",
        ],
    ),
];

const LIMITS: &[Row] = &[
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

const SDKS: &[Row] = &[
    works(
        "`@azure/web-pubsub` 1.2.0",
        "Every method, with the right key and with a wrong one; `allowInsecureConnection` over plain http.",
        &[
            "sdk::every_method_of_the_service_client_is_served_and_refused",
            "sdk::the_service_sends_every_content_to_whom_it_means",
            "sdk::the_service_puts_connections_into_groups",
            "sdk::the_service_closes_connections_and_says_why",
            "sdk::the_service_grants_and_revokes_permissions",
            "sdk::the_service_lists_450_members",
            "sdk::the_service_names_users_and_groups_with_any_characters",
        ],
    ),
    works(
        "`azure-messaging-webpubsubservice` 1.3.0",
        "Every method of the asynchronous and of the synchronous client.",
        &[
            "sdk::every_method_of_the_service_client_is_served_and_refused",
            "sdk::the_service_sends_every_content_to_whom_it_means",
            "sdk::the_service_lists_450_members",
        ],
    ),
    works(
        "Token credentials over TLS",
        "The service SDKs with an endpoint and a `TokenCredential` of a trusted issuer, whose default audience is the one of the scope they ask for; `getClientAccessToken` goes through `:generateToken`. Their own rules forbid it without TLS.",
        &["sdk::token_credentials_work_over_tls"],
    ),
    works(
        "`@azure/web-pubsub-client` 1.1.0",
        "Both JSON subprotocols, recovery and rejoining included.",
        &[
            "sdk::clients_join_publish_and_are_refused",
            "sdk::a_cut_socket_loses_and_doubles_nothing",
            "sdk::the_languages_talk_to_each_other",
        ],
    ),
    works(
        "`@azure/web-pubsub-express` 1.1.0 and 1.0.6",
        "Unmodified as an application's middleware, with `allowedEndpoints` too. An event of type protobuf fails there, since it knows no such type.",
        &[
            "sdk::express::the_express_middleware_of_today_hears_and_answers",
            "sdk::express::the_express_middleware_of_yesterday_hears_and_answers",
        ],
    ),
    works(
        "`azure-messaging-webpubsubclient` 1.1.0",
        "The asynchronous client. The synchronous one loses an ack that comes faster than it waits, with any server this near.",
        &[
            "sdk::clients_join_publish_and_are_refused",
            "sdk::a_cut_socket_loses_and_doubles_nothing",
            "sdk::the_languages_talk_to_each_other",
        ],
    ),
];

const OTHERS: &[Row] = &[
    not_yet("MQTT", "`/clients/mqtt/…` is 501.", &["handshake::bad_hubs_are_400_and_unknown_paths_404"]),
    not_yet(
        "Socket.IO",
        "`/clients/socketio/…` is 501.",
        &["handshake::bad_hubs_are_400_and_unknown_paths_404"],
    ),
    not_yet("The tunnel", "`/server/tunnel` is 501.", &["handshake::bad_hubs_are_400_and_unknown_paths_404"]),
    not_yet("Chat", "`/api/hubs/{hub}/chat/…` is 501.", &["refusals::what_is_known_and_not_built_is_a_501"]),
];
