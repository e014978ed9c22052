//! SDKs, and what else the service has.

use crate::compatibility::{Row, not_yet, works};

pub(super) const SDKS: &[Row] = &[
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

pub(super) const OTHERS: &[Row] = &[
    not_yet("MQTT", "`/clients/mqtt/…` is 501.", &["handshake::bad_hubs_are_400_and_unknown_paths_404"]),
    not_yet(
        "Socket.IO",
        "`/clients/socketio/…` is 501.",
        &["handshake::bad_hubs_are_400_and_unknown_paths_404"],
    ),
    not_yet("The tunnel", "`/server/tunnel` is 501.", &["handshake::bad_hubs_are_400_and_unknown_paths_404"]),
    not_yet("Chat", "`/api/hubs/{hub}/chat/…` is 501.", &["refusals::what_is_known_and_not_built_is_a_501"]),
];
