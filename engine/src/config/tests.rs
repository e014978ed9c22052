use super::*;
use ringhub_protocol::events::{SystemEvents, UserEvents};

fn from_text(text: &str) -> Result<Config, ConfigError> {
    Config::from_text(text)
}

fn fault(text: &str) -> String {
    from_text(text).expect_err(text).to_string()
}

#[test]
fn an_unknown_key_names_file_line_key_and_the_nearest_one() {
    for (text, expected) in [
        (
            "[server]\nlistn = \"127.0.0.1:1\"\n",
            "ringhub.toml:2: server.listn: unknown key\n  fix: Did you mean server.listen?",
        ),
        (
            "[server]\n\nmessage_bytes_max = 1\n",
            "ringhub.toml:3: server.message_bytes_max: unknown key\n  fix: Did you mean limits.message_bytes_max?",
        ),
        (
            "[hubs.chat]\nanonymous_policy = \"deny\"",
            "ringhub.toml:2: hubs.NAME.anonymous_policy: unknown key\n  fix: Did you mean hubs.NAME.anonymous_connect_policy?",
        ),
        (
            "[hubs.chat.reliable]\nbuffer_mesages = 1",
            "ringhub.toml:2: hubs.NAME.reliable.buffer_mesages: unknown key\n  fix: Did you mean hubs.NAME.reliable.buffer_messages?",
        ),
        ("[sever]\n", "ringhub.toml:1: sever: unknown section\n  fix: Did you mean server?"),
    ] {
        assert_eq!(fault(text), expected, "{text}");
    }
}

#[test]
fn bad_values_say_what_is_allowed() {
    let listening = |addresses: usize| {
        let addresses: Vec<_> = (1..=addresses).map(|port| format!("127.0.0.1:{port}")).collect();
        format!("[server]\nlisten = {addresses:?}")
    };
    assert_eq!(from_text(&listening(16)).unwrap().server.listen.len(), 16);
    for (text, expected) in [
        ("[server]\nlisten = 8080", "ringhub.toml:2: server.listen: must be an address and port"),
        ("[server]\nlisten = \"here\"", "ringhub.toml:2: server.listen: must be an address and port"),
        (
            "[server]\nlisten = [\"127.0.0.1:1\", \"wss://127.0.0.1:2\"]",
            "ringhub.toml:2: server.listen: must be an address and port",
        ),
        (&listening(17), "ringhub.toml:2: server.listen: must be an address and port"),
        ("[tls]\ncertificate = \"\"", "ringhub.toml:2: tls.certificate: must be the path of a file"),
        ("[tls]\nmin_version = 1.3", "ringhub.toml:2: tls.min_version: must be \"1.2\" or \"1.3\""),
        ("[server]\ncores = 65", "ringhub.toml:2: server.cores: must be a whole number from 1 to 64"),
        ("[server]\ncores = 1.5", "ringhub.toml:2: server.cores: must be a whole number from 1 to 64"),
        (
            "[hubs.a]\nwebsocket_keepalive_seconds = 0",
            "ringhub.toml:2: hubs.a.websocket_keepalive_seconds: must be a whole number from 1 to 120",
        ),
        (
            "[hubs.a]\nanonymous_connect_policy = \"maybe\"",
            "ringhub.toml:2: hubs.a.anonymous_connect_policy: must be \"allow\" or \"deny\"",
        ),
        ("server = 1", "ringhub.toml:1: server: this is a section"),
        ("[hubs.\"a b\"]", "ringhub.toml:1: hubs.a b: not a hub name"),
        ("[hubs.a]\n[hubs.A]", "ringhub.toml:2: hubs.a: this hub has a section already"),
        ("[server\n", "ringhub.toml:1: not valid TOML"),
        ("[server]\npublic_endpoints = [\"ftp://x\"]", "ringhub.toml:2: server.public_endpoints: must be"),
    ] {
        assert!(fault(text).starts_with(expected), "{text}\n{}", fault(text));
    }
}

#[test]
fn a_secret_never_shows() {
    let text = fault("[keys]\nprimary = \"short-secret\"");
    assert!(text.contains("at least 32 bytes") && !text.contains("short-secret"), "{text}");
    let secret = "a-secret-of-more-than-thirty-two-bytes";
    let config = from_text(&format!("[keys]\nprimary = \"{secret}\"")).unwrap();
    assert!(!config.to_text().contains(secret) && !format!("{config:?}").contains(secret));
    assert_eq!(config.keys.primary.as_ref().unwrap().expose(), secret);
}

#[test]
fn flags_beat_the_environment_beats_the_file_beats_defaults() {
    let path = std::env::temp_dir().join(format!("ringhub-layers-{}.toml", std::process::id()));
    std::fs::write(&path, "[server]\nlisten = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:1\"\ncores = 1\n")
        .unwrap();
    let environment = |name: &str| match name {
        "RINGHUB_LISTEN" | "RINGHUB_ADMIN_LISTEN" => Some("127.0.0.1:2".to_owned()),
        "RINGHUB_PRIMARY_KEY" => Some("k".repeat(32)),
        _ => None,
    };
    let flags = [("server.listen", "127.0.0.1:3".to_owned())];
    let loaded = Config::load(Some(&path), &environment, &flags);
    std::fs::remove_file(&path).unwrap();
    let config = loaded.unwrap();
    assert_eq!(config.server.listen[0].socket.port(), 3);
    assert_eq!(config.server.admin_listen[0].socket.port(), 2);
    assert_eq!(config.server.cores, Some(1));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.keys.primary.unwrap().expose(), "k".repeat(32));
}

#[test]
fn a_bad_variable_or_flag_is_named_as_typed() {
    let environment = |name: &str| (name == "RINGHUB_CORES").then(|| "many".to_owned());
    let error = Config::load(None, &environment, &[]).unwrap_err().to_string();
    assert!(error.starts_with("RINGHUB_CORES: must be a whole number"), "{error}");
    let flags = [("server.admin_listen", "x".to_owned())];
    let error = Config::load(None, &|_| None, &flags).unwrap_err().to_string();
    assert!(error.starts_with("--admin-listen: must be an address"), "{error}");
}

#[test]
fn hubs_have_their_own_settings_and_case_does_not_matter() {
    let config = from_text(
        "[hubs.Chat]\nanonymous_connect_policy = \"allow\"\n[hubs.Chat.reliable]\nbuffer_messages = 7\n\
         [hubs.\"x.reliable\"]\nwebsocket_keepalive_seconds = 5\n",
    )
    .unwrap();
    let hub = |name: &str| &config.hubs[&HubName::parse(name).unwrap()];
    assert_eq!(hub("CHAT").anonymous_connect_policy, AnonymousPolicy::Allow);
    assert_eq!(hub("CHAT").reliable.buffer_messages, 7);
    assert_eq!(hub("x.reliable").websocket_keepalive_seconds, 5);
    assert_eq!(config.hubs.len(), 2);
}

#[test]
fn lists_of_tables_keep_their_order_and_their_bound() {
    let rule = |max: usize| format!("[[firewall.connection_count_rules]]\nmax_count = {max}\n");
    let rules: String = (1..=10).map(rule).collect();
    let config = from_text(&rules).unwrap();
    let counts: Vec<u64> = config.firewall.connection_count_rules.iter().map(|rule| rule.max_count).collect();
    assert_eq!(counts, (1..=10).collect::<Vec<_>>());
    assert!(config.to_text().contains("max_count = 2                                    # ringhub.toml:4\n"));
    for (text, expected) in [
        (
            rules + &rule(11),
            "ringhub.toml:21: firewall.connection_count_rules[10]: there may be at most 10 of these\n  fix: Remove what is over.",
        ),
        (
            rule(1) + "[[firewall.connection_count_rules]]\nmax_count = 0\n",
            "ringhub.toml:4: firewall.connection_count_rules[1].max_count: must be a whole number from 1 to 1000000",
        ),
        (
            rule(1) + "max_cuont = 0\n",
            "ringhub.toml:3: firewall.connection_count_rules.max_cuont: unknown key\n  fix: Did you mean firewall.connection_count_rules.max_count?",
        ),
        (
            "[firewall]\nconection_count_rules = []\n".into(),
            "ringhub.toml:2: firewall.conection_count_rules: unknown key\n  fix: Did you mean firewall.connection_count_rules?",
        ),
        (
            "[firewall]\n\ntraffic_rules = 1\n".into(),
            "ringhub.toml:3: firewall.traffic_rules: this is a list of sections\n  fix: Write [[firewall.traffic_rules]] on a line of its own and the keys of one entry below it.",
        ),
        (
            "[firewall]\ntraffic_rules = [1]\n".into(),
            "ringhub.toml:2: firewall.traffic_rules[0]: this is a section, not a value\n  fix: Write [firewall.traffic_rules[0]] on a line of its own and the keys below it.",
        ),
        (
            "[[firewall.traffic_rules]]\nkind = \"claim\"\n".into(),
            "ringhub.toml:1: firewall.traffic_rules[0].claim: is missing\n  fix: Name the claim to count by, such as claim = \"tenant\".",
        ),
        (
            "[[firewall.traffic_rules]]\nwindow_seconds = 10\nclaim = \"t\"\n".into(),
            "ringhub.toml:3: firewall.traffic_rules[0].claim: goes with kind = \"claim\" only\n  fix: Remove it, or set kind = \"claim\".",
        ),
    ] {
        assert_eq!(fault(&text), expected, "{text}");
    }
}

#[test]
fn what_check_prints_reads_back_the_same() {
    let text = "[[firewall.traffic_rules]]\nkind = \"claim\"\nclaim = \"tenant\"\n[[firewall.traffic_rules]]\n\
                [[firewall.connection_count_rules]]\nkind = \"signature\"\n\
                [hubs.chat]\nanonymous_connect_policy = \"allow\"\n[limits]\nmessage_bytes_max = 2048\n\
                [server]\ncores = 2\npublic_endpoints = [\"https://pubsub.example.com\"]\n\
                listen = [\"127.0.0.1:1\", \"https://[::]:2\"]\n[tls]\ncertificate = \"a.pem\"\n\
                client_certificates = \"request\"\nmin_version = \"1.3\"\n";
    let first = from_text(text).unwrap();
    let printed = first.to_text();
    let second = from_text(&printed).expect(&printed);
    assert_eq!(first.limits, second.limits);
    assert_eq!(first.server, second.server);
    assert_eq!((first.tls.clone(), first.tls.min_version), (second.tls, TlsVersion::Tls13));
    assert_eq!(first.hubs, second.hubs);
    assert_eq!(first.firewall, second.firewall);
    assert_eq!(second.firewall.traffic_rules.len(), 2);
}

/// Replacing an issuer's authorities was told as a reload, and the old ones stayed trusted.
#[test]
fn files_that_are_read_at_the_start_only_are_not_watched() {
    let config = from_text(
        "[tls]\ncertificate = \"c.pem\"\nprivate_key = \"k.pem\"\n\
         [[oidc.issuers]]\nurl = \"https://issuer.test\"\nowner = [\"sub=a\"]\nca_file = \"ca.pem\"\n",
    );
    assert_eq!(config.unwrap().files(), [Path::new("c.pem"), Path::new("k.pem")]);
}

/// An event handler of hub `a` with these lines.
fn handler(lines: &str) -> String {
    format!("[[hubs.a.event_handlers]]\nurl_template = \"http://app/{{event}}\"\n{lines}\n")
}

/// The example of the design, letter for letter.
#[test]
fn a_hub_with_handlers_as_the_design_has_it() {
    let config = from_text(
        "[hubs.chat]                                 # a hub with no section exists with defaults\n\
         anonymous_connect_policy = \"deny\"           # allow | deny\n\
         websocket_keepalive_seconds = 20\n\
         [[hubs.chat.event_handlers]]                # ordered, first match wins\n\
         url_template = \"http://127.0.0.1:3000/eventhandler/{event}\"\n\
         user_event_pattern = \"*\"\n\
         system_events = [\"connect\", \"connected\", \"disconnected\"]\n\
         [hubs.chat.reliable]\n\
         recovery_window_seconds = 30\n",
    );
    let config = config.unwrap();
    let handlers = &config.hubs[&HubName::parse("chat").unwrap()].event_handlers;
    let [handler] = &handlers[..] else { panic!("{handlers:?}") };
    let url = handler.url_template.as_ref().unwrap().url();
    assert_eq!(url.expand("chat", "connect"), "http://127.0.0.1:3000/eventhandler/connect");
    assert_eq!(handler.user_event_pattern, UserEvents::All);
    assert_eq!(handler.system_events, SystemEvents { connect: true, connected: true, disconnected: true });
    assert_eq!(handler.retry_delays_seconds, [1, 3, 5]);
}

#[test]
fn handlers_and_listeners_read_back_the_same() {
    let text = handler(
        "user_event_pattern = \"Message, join\"\nsystem_events = [\"Connect\"]\nvalidate = false\nhttp = \"2\"\n\
         retry_delays_seconds = []\nauth = { type = \"header\", name = \"x-key\", value = \"k\" }\n\
         group_presence = { events = [\"left\"], groups = [\"room-*\", \"lobby\"] }",
    ) + &handler(
        "user_event_pattern = \"*\"\n[hubs.a.event_handlers.auth]\ntype = \"client_credentials\"\n\
          token_url = \"https://login.test/token\"\nclient_id = \"ringhub\"\nclient_secret = \"s\"\nscope = \"a b\"",
    ) + "[[hubs.a.event_listeners]]\nsystem_events = [\"connected\"]\nfile = \"-\"\n\
           [[hubs.a.event_listeners]]\nuser_event_pattern = \"*\"\nfile = \"/var/log/events.ndjson\"\n";
    let first = from_text(&text).unwrap();
    let printed = first.to_text();
    let second = from_text(&printed).expect(&printed);
    let masked = |config: &Config| {
        let mut config = config.clone();
        for handler in config.hubs.values_mut().flat_map(|hub| &mut hub.event_handlers) {
            (handler.auth.value, handler.auth.client_secret) = (None, None);
        }
        config.hubs
    };
    assert_eq!(masked(&first), masked(&second), "{printed}");
    assert!(printed.contains("user_event_pattern = \"join,message\""), "{printed}");
    assert!(printed.contains("[hubs.a.event_handlers.auth]\ntype = \"client_credentials\""), "{printed}");
}

#[test]
fn what_is_wrong_with_a_handler_is_said() {
    const HEARS: &str = "user_event_pattern = \"*\"\n";
    let with = |lines: &str| handler(&format!("{HEARS}{lines}"));
    for (text, expected) in [
        (
            "[[hubs.a.event_handlers]]\n".into(),
            "ringhub.toml:1: hubs.a.event_handlers[0].url_template: is missing",
        ),
        (
            handler(""),
            "ringhub.toml:1: hubs.a.event_handlers[0].user_event_pattern: there is no event that it wants",
        ),
        (
            handler("group_presence = { events = [] }"),
            "ringhub.toml:1: hubs.a.event_handlers[0].user_event_pattern: there is no event that it wants",
        ),
        (
            with("system_events = [\"connected\", \"disconected\"]"),
            "ringhub.toml:4: hubs.a.event_handlers[0].system_events: must be a list of \"connect\"",
        ),
        (
            with("group_presence = { events = [\"join\"] }"),
            "ringhub.toml:4: hubs.a.event_handlers[0].group_presence.events: must be a list of \"joined\" and \"left\"",
        ),
        (
            with("group_presence = { groups = [\"x\"] }"),
            "ringhub.toml:4: hubs.a.event_handlers[0].group_presence.groups: there is no event",
        ),
        (
            with("http = \"3\""),
            "ringhub.toml:4: hubs.a.event_handlers[0].http: must be \"auto\" or \"1.1\" or \"2\"",
        ),
        (
            with("retry_delays_seconds = [1, -1]"),
            "ringhub.toml:4: hubs.a.event_handlers[0].retry_delays_seconds: must be a list of at most 10 whole numbers",
        ),
        (
            with("retry_delays_seconds = [0,0,0,0,0,0,0,0,0,0,0]"),
            "ringhub.toml:4: hubs.a.event_handlers[0].retry_delays_seconds: must be a list of at most 10",
        ),
        (
            with("auth = { type = \"basic\" }"),
            "ringhub.toml:4: hubs.a.event_handlers[0].auth.type: must be \"none\"",
        ),
        (
            with("auth = { type = \"header\" }"),
            "ringhub.toml:4: hubs.a.event_handlers[0].auth.name: is missing",
        ),
        (
            with("auth = { value = \"v\" }"),
            "ringhub.toml:4: hubs.a.event_handlers[0].auth.value: goes with type = \"header\" only",
        ),
        (
            with("auth = { type = \"header\", name = \"x\", value = \"v\", scope = \"s\" }"),
            "ringhub.toml:4: hubs.a.event_handlers[0].auth.scope: goes with type = \"client_credentials\" only",
        ),
        (
            with("auth = { type = \"header\", name = \"Ce-Type\", value = \"v\" }"),
            "ringhub.toml:4: hubs.a.event_handlers[0].auth.name: must be the name of a header",
        ),
        (
            with("auth = { type = \"header\", name = \"x\", value = \"a\\nb\" }"),
            "ringhub.toml:4: hubs.a.event_handlers[0].auth.value: cannot stand in a header",
        ),
        (
            with(
                "auth = { type = \"client_credentials\", client_id = \"a\", client_secret = \"b\", token_url = \"http://x/\" }",
            ),
            "ringhub.toml:4: hubs.a.event_handlers[0].auth.token_url: must be an https:// URL",
        ),
        (
            with("timout_seconds = 1"),
            "ringhub.toml:4: hubs.NAME.event_handlers.timout_seconds: unknown key\n  fix: Did you mean hubs.NAME.event_handlers.timeout_seconds?",
        ),
        (with("").repeat(65), "ringhub.toml:257: hubs.a.event_handlers[64]: there may be at most 64"),
    ] {
        assert!(fault(&text).starts_with(expected), "{text}\n{}", fault(&text));
    }
}

#[test]
fn what_is_wrong_with_a_listener_is_said() {
    let listener = |hub: &str, lines: &str| format!("[[hubs.{hub}.event_listeners]]\n{lines}\n");
    const WHOLE: &str = "file = \"-\"\nuser_event_pattern = \"*\"";
    for (text, expected) in [
        (
            listener("a", "file = \"-\"\nsystem_events = [\"connect\"]"),
            "ringhub.toml:3: hubs.a.event_listeners[0].system_events: \"connect\" is not for listeners\n  fix: Remove it",
        ),
        (
            listener("a", "user_event_pattern = \"*\""),
            "ringhub.toml:1: hubs.a.event_listeners[0].file: is missing",
        ),
        (
            listener("a", "file = \"-\""),
            "ringhub.toml:1: hubs.a.event_listeners[0].user_event_pattern: there is no event that it wants",
        ),
        (
            listener("a", WHOLE).repeat(6) + &listener("b", WHOLE).repeat(5),
            "ringhub.toml:32: hubs.b.event_listeners[4].file: there may be at most 10 listeners over all hubs",
        ),
    ] {
        assert!(fault(&text).starts_with(expected), "{text}\n{}", fault(&text));
    }
    assert!(from_text(&(listener("a", WHOLE).repeat(6) + &listener("b", WHOLE).repeat(4))).is_ok());
}

/// A configuration with secrets in every place for them, read with these variables; `file` has one too.
fn with_secrets(file: &Path, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let text = format!(
        "[[hubs.a.event_handlers]]\nuser_event_pattern = \"*\"\n\
         url_template = \"http://app/{{event}}?code={{env:CODE}}&key=literal-secret\"\n\
         auth = {{ type = \"header\", name = \"authorization\", value = \"Key {{file:{}}}\" }}\n\
         [[hubs.a.event_handlers]]\nuser_event_pattern = \"*\"\nurl_template = \"http://app/\"\n\
         auth = {{ type = \"client_credentials\", token_url = \"https://t/\", client_id = \"i\", \
         client_secret = \"literal-secret\" }}\n",
        file.display()
    );
    let find =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let mut config = Config::default();
    config.read_file(Path::new("ringhub.toml"), &text, &find)?;
    Ok(config)
}

#[test]
fn secrets_of_handlers_are_found_and_never_shown() {
    let file = std::env::temp_dir().join(format!("ringhub-handler-secret-{}", std::process::id()));
    std::fs::write(&file, "file-secret\r\n").unwrap();
    let first = with_secrets(&file, &[("CODE", "code-secret")]).unwrap();
    let [one, two] = &first.hubs[&HubName::parse("a").unwrap()].event_handlers[..] else { panic!() };
    assert_eq!(
        one.url_template.as_ref().unwrap().url().expand("a", "e"),
        "http://app/e?code=code-secret&key=literal-secret"
    );
    assert_eq!(one.auth.value.as_ref().unwrap().expose(), "Key file-secret");
    assert_eq!(two.auth.client_secret.as_ref().unwrap().expose(), "literal-secret");
    for text in [first.to_text(), format!("{first:?}")] {
        assert!(!["code-secret", "file-secret", "literal-secret"].iter().any(|s| text.contains(s)), "{text}");
    }
    assert!(first.to_text().contains(&format!("value = \"…{{file:{}}}\"", file.display())));
    assert_eq!(first.files(), [&*file], "watched");

    std::fs::write(&file, "another").unwrap();
    let second = with_secrets(&file, &[("CODE", "another")]).unwrap();
    let changes: Vec<String> = first
        .changes(&second)
        .into_iter()
        .map(|Change { key, old, new }| format!("{key}: {old} → {new}"))
        .collect();
    assert_eq!(
        changes,
        [
            format!(
                "hubs.a.event_handlers[0].auth.value: \"…{{file:{}}}\" → (another, not shown)",
                file.display()
            ),
            "hubs.a.event_handlers[0].url_template: \"http://app/{event}?code={env:CODE}&key=…\" → (another, not shown)"
                .to_owned(),
        ]
    );
    std::fs::write(&file, "\n").unwrap();
    let error = with_secrets(&file, &[("CODE", "x")]).unwrap_err().to_string();
    assert!(
        error.starts_with("ringhub.toml:4: hubs.a.event_handlers[0].auth.value: ")
            && error.ends_with("is empty")
    );
    std::fs::remove_file(&file).unwrap();
    let error = with_secrets(&file, &[("CODE", "x")]).unwrap_err().to_string();
    assert!(error.contains("auth.value: ") && error.contains("cannot be read"), "{error}");
    let error = with_secrets(&file, &[]).unwrap_err().to_string();
    assert!(
        error.starts_with("ringhub.toml:3: hubs.a.event_handlers[0].url_template: ")
            && error.contains("the variable CODE is not set"),
        "{error}"
    );
}
