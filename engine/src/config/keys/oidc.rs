//! Issuers of bearer tokens for REST calls.

use super::{ANY, Key, SECONDS, Section, Shape, Sub, Unfit};
use crate::config::value::{Raw, Setting};
use ringhub_protocol::auth::issued::ClaimRule;
use ringhub_relay::oidc::IssuerSettings;
use std::path::PathBuf;

section! {
    /// Issuers of bearer tokens for REST calls, beside access keys. Their tokens never open a client
    /// connection; their holders ask `:generateToken` for one that does.
    Oidc in "oidc" {}
    lists {
        issuers: Issuer, 16;
    }
}

section! {
    /// One OpenID Connect issuer. Its tokens must be signed with RS256 or ES256 by a key it publishes, name it
    /// as `iss`, be for one of the audiences and fit a rule. A rule is `claim=value`; the claim may be text, a
    /// list of texts, or words (`scp`, `scope`), and case counts. Who fits no rule is answered 403.
    Issuer in "oidc.issuers" {
        /// Its identifier, letter for letter as `iss` has it. The discovery document is fetched from below it.
        /// `https://`, or `http://` on loopback.
        url: Option<String> = None, 1..=1024, "none; it must be given";
        /// Audiences its tokens may be for, each with or without a slash at the end.
        audiences: Vec<String> = vec!["https://webpubsub.azure.com".to_owned()], 1..=16;
        /// Rules for who may make every call, such as `["roles=WebPubSubServiceOwner", "sub=8f3a"]`.
        owner: Vec<String> = Vec::new(), 0..=64;
        /// Rules for who may make calls that only read (GET and HEAD).
        reader: Vec<String> = Vec::new(), 0..=64;
        /// Certificate authorities (PEM) that are trusted for this issuer besides the system's. Read at the start.
        ca_file: Option<PathBuf> = None, ANY, "none";
        /// Seconds between fetches of its keys, less up to a tenth. A token with an unknown key starts one at
        /// once, but not within 10 seconds of another that was started so. After a failure the next is tried
        /// after 1 second, then 2, up to 60.
        refresh_seconds: u64 = 3600, SECONDS;
        /// Seconds for which fetched keys are used when newer ones cannot be fetched; then its tokens are
        /// answered 503.
        keys_age_max_seconds: u64 = 86_400, 1..=(30 * 86_400);
    }
    checked by issuer_is_fit;
}

fn issuer_is_fit(issuer: &Issuer) -> Result<(), Unfit> {
    let unfit = |key, problem, fix| Err(Unfit { key, problem, fix });
    let bad_rule = |rules: &[String]| rules.iter().any(|rule| ClaimRule::parse(rule).is_none());
    match issuer.url.as_deref() {
        None => unfit("url", "is missing", "Name the issuer, such as url = \"https://login.example.com\"."),
        Some(url) if !IssuerSettings::is_legal_url(url) => unfit(
            "url",
            "must be an https:// URL without query, or an http:// one on loopback",
            "Copy it from the discovery document's issuer.",
        ),
        Some(_) if bad_rule(&issuer.owner) => unfit("owner", BAD_RULE, RULE_FIX),
        Some(_) if bad_rule(&issuer.reader) => unfit("reader", BAD_RULE, RULE_FIX),
        Some(_) if issuer.owner.is_empty() && issuer.reader.is_empty() => {
            unfit("owner", "there is no rule, so nobody could do anything", RULE_FIX)
        }
        Some(_) => Ok(()),
    }
}

const BAD_RULE: &str = "a rule must be claim=value";
const RULE_FIX: &str = "Say who has the role, such as owner = [\"roles=WebPubSubServiceOwner\"].";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_checked_as_a_whole() {
        let issuer = |url: &str, owner: &[&str]| Issuer {
            url: (!url.is_empty()).then(|| url.to_owned()),
            owner: owner.iter().map(|&rule| rule.to_owned()).collect(),
            ..Issuer::default()
        };
        for (issuer, key) in [
            (issuer("https://login.example.com/tenant/v2.0", &["roles=Owner"]), ""),
            (issuer("http://127.0.0.1:9000", &["sub=a=b", "scp=x"]), ""),
            (issuer("", &["roles=Owner"]), "url"),
            (issuer("http://login.example.com", &["roles=Owner"]), "url"),
            (issuer("https://login.example.com/?tenant=1", &["roles=Owner"]), "url"),
            (issuer("login.example.com", &["roles=Owner"]), "url"),
            (issuer("https://login.example.com", &[]), "owner"),
            (issuer("https://login.example.com", &["roles:Owner"]), "owner"),
            (issuer("https://login.example.com", &["roles="]), "owner"),
        ] {
            assert_eq!(issuer_is_fit(&issuer).err().map_or("", |unfit| unfit.key), key, "{issuer:?}");
        }
        let reader = Issuer { reader: vec!["x".to_owned()], ..issuer("https://a", &["sub=b"]) };
        assert_eq!(issuer_is_fit(&reader).unwrap_err().key, "reader");
    }
}
