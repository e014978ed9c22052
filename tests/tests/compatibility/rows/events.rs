//! What application servers are asked and told.

use crate::compatibility::{Row, differs, not_yet, works};

pub(super) const HANDLERS: &[Row] = &[
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

pub(super) const ANSWERS: &[Row] = &[
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

pub(super) const LISTENERS: &[Row] = &[
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
