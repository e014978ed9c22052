use super::*;

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
    for (text, expected) in [
        ("[server]\nlisten = 8080", "ringhub.toml:2: server.listen: must be an address and port"),
        ("[server]\nlisten = \"here\"", "ringhub.toml:2: server.listen: must be an address and port"),
        (
            "[server]\nlisten = [\"127.0.0.1:1\", \"wss://127.0.0.1:2\"]",
            "ringhub.toml:2: server.listen: must be an address and port",
        ),
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
        (
            "[hubs.a]\n[[hubs.a.event_handlers]]\nurl_template = \"x\"",
            "ringhub.toml:2: hubs.a.event_handlers: event handlers are not built yet",
        ),
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

#[test]
fn nearest_prefers_the_last_part() {
    assert_eq!(edits("kitten", "sitting"), 3);
    assert_eq!(edits("", "abc"), 3);
    assert_eq!(nearest("server.cors", ["server.cores", "server.listen"].into_iter()), "server.cores");
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
