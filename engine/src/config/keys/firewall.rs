//! Rules about whole clients.

use super::{ANY, Key, Section, Shape, Sub, Unfit};
use crate::config::value::{Raw, Setting};
use std::ops::RangeInclusive;
use std::path::PathBuf;

section! {
    /// Rules about whole clients, over all hubs and cores.
    Firewall in "firewall" {}
    lists {
        connection_count_rules: ConnectionCountRule, 10;
        traffic_rules: TrafficRule, 10;
    }
}

section! {
    /// How many connections may share one user, token or claim. Rules are asked in order; the first one that is
    /// broken refuses the handshake with 429. A rule does not count clients that have no such thing.
    ConnectionCountRule in "firewall.connection_count_rules" {
        /// What is counted by: the token's user, its signature (one token is one client), or the value of a claim.
        kind: CountBy = CountBy::User, ANY;
        /// The claim's name, with `kind = "claim"`.
        claim: Option<String> = None, 1..=256, "none";
        /// Connections that may share it; a reliable client that lost its socket counts until it ends.
        max_count: u64 = 20, 1..=1_000_000;
    }
    checked by |rule: &Self| claim_fits(rule.kind, rule.claim.as_ref());
}

section! {
    /// How much clients that share one user, token or claim may send. Who sends more in a window is closed with
    /// 1008.
    TrafficRule in "firewall.traffic_rules" {
        /// What is counted by: the token's user, its signature (one token is one client), or the value of a claim.
        kind: CountBy = CountBy::User, ANY;
        /// The claim's name, with `kind = "claim"`.
        claim: Option<String> = None, 1..=256, "none";
        /// Bytes they may send in a window, headers of frames included.
        max_inbound_bytes: u64 = 1 << 30, 1..=(1 << 39);
        /// Length of a window in seconds.
        window_seconds: u64 = 60, 10..=3600;
    }
    checked by |rule: &Self| claim_fits(rule.kind, rule.claim.as_ref());
}

fn claim_fits(kind: CountBy, claim: Option<&String>) -> Result<(), Unfit> {
    match (kind, claim) {
        (CountBy::Claim, None) => Err(Unfit {
            key: "claim",
            problem: "is missing",
            fix: "Name the claim to count by, such as claim = \"tenant\".",
        }),
        (CountBy::User | CountBy::Signature, Some(_)) => Err(Unfit {
            key: "claim",
            problem: "goes with kind = \"claim\" only",
            fix: "Remove it, or set kind = \"claim\".",
        }),
        _ => Ok(()),
    }
}

choice! {
    /// What a rule counts by.
    CountBy {
        /// The user.
        User = "user",
        /// The token: clients that show the same one share its signature.
        Signature = "signature",
        /// The value of a claim of the token.
        Claim = "claim",
    }
}
