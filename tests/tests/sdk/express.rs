//! The service's own middleware as application server (`event-handlers` §6.1).

use ringhub_tests::{Script, Server, dead_address};

#[test]
fn the_express_middleware_of_today_hears_and_answers() {
    serves("@azure/web-pubsub-express");
}

/// 1.0.6, before group presence.
#[test]
fn the_express_middleware_of_yesterday_hears_and_answers() {
    serves("@azure/web-pubsub-express-1.0");
}

fn serves(package: &str) {
    for cores in [1, 2] {
        let application = dead_address();
        let section = |hub: &str, path: &str| {
            format!(
                "[[hubs.{hub}.event_handlers]]\nurl_template = \"http://{application}{path}\"\n\
                 user_event_pattern = \"*\"\nsystem_events = [\"connect\", \"connected\", \"disconnected\"]\n\
                 retry_delays_seconds = []\n"
            )
        };
        // A client that is stopped goes without a code, so its session waits for it.
        let window = "[hubs.chat.reliable]\nrecovery_window_seconds = 1\nrecovery_grace_seconds = 0\n";
        let presence = "[hubs.chat.event_handlers.group_presence]\nevents = [\"joined\", \"left\"]\n";
        let config = [
            window.to_owned(),
            section("chat", "/eventhandler/{event}"),
            presence.to_owned(),
            section("bare", "/api/webpubsub/hubs/{hub}/{event}"),
            section("picky", "/api/webpubsub/hubs/{hub}/{event}"),
            section("closed", "/api/webpubsub/hubs/{hub}/{event}"),
        ];
        let server = Server::with(|setup| setup.cores(cores).config(&config.concat()));
        let script = Script::node("express.mjs").endpoint(&server).env("EXPRESS", package);
        script.env("PORT", &application.port().to_string()).run();
    }
}
