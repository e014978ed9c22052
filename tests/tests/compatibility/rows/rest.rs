//! What application servers call, and what they show for it.

use crate::compatibility::{Row, differs, not_offered, not_yet, works};

pub(super) const OPERATIONS: &[Row] = &[
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

pub(super) const REQUESTS: &[Row] = &[
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

pub(super) const FILTERS: &[Row] = &[
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

pub(super) const TOKENS: &[Row] = &[
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
