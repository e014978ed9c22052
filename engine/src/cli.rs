//! Verbs and flags. A flag that sets a key takes its help from the key's definition.

use crate::config::{Config, ConfigError, keys};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A self-hosted Web PubSub server that unmodified Azure Web PubSub SDKs use by changing only the endpoint.
#[derive(Debug, Parser)]
#[command(name = "ringhub", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Serve clients and REST calls (the default)
    Serve(Serve),
    /// Have a server on this machine close its clients by and by and end, and show how far it is
    Drain(Drain),
    /// Print a client URL with a token in it
    Token(Token),
    /// Print the effective configuration, or what is wrong with it (exit code 2)
    Check(Check),
    /// Echo WebSocket messages: the conformance listener, with limits raised
    Echo(Echo),
    /// Make a certificate for development, and the authority that signed it
    Cert(Cert),
}

#[derive(Debug, Default, Clone, Args)]
pub(crate) struct Serve {
    #[arg(long, value_name = "ADDR,…", help = help("server.listen"))]
    listen: Option<String>,
    #[arg(long, value_name = "ADDR,…", help = help("server.admin_listen"))]
    admin_listen: Option<String>,
    #[arg(long, value_name = "N", help = help("server.cores"))]
    cores: Option<String>,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The server's admin listener; by default the configured one
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<String>,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The hub the client connects to
    #[arg(long)]
    pub(crate) hub: String,
    /// The client's user id
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// A role, such as webpubsub.joinLeaveGroup or webpubsub.sendToGroup; may be repeated
    #[arg(long = "role")]
    pub(crate) roles: Vec<String>,
    /// A group the client is in from the start; may be repeated
    #[arg(long = "group")]
    pub(crate) groups: Vec<String>,
    /// How long the token is good for connecting
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=525_600))]
    pub(crate) minutes: u32,
    /// The access key; by default the configured primary key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// The server's URL; by default the first public endpoint, else the address it listens on
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Print the reference page of all keys instead
    #[arg(long)]
    pub(crate) reference: bool,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Echo {
    /// Where to listen; with https:// in front, over TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    pub(crate) listen: String,
    /// The certificate chain (PEM), for TLS
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Cert {
    /// The folder to write to; nothing in it is overwritten
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// A host name or address the server is called by; may be repeated [default: localhost, 127.0.0.1, ::1]
    #[arg(long = "name", value_name = "HOST")]
    pub(crate) names: Vec<String>,
    /// How long the certificate is good for
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}

#[derive(Debug, Default, Clone, Args)]
pub(crate) struct File {
    /// The configuration file (TOML); none by default, every key has a default
    #[arg(long = "config", value_name = "FILE", env = "RINGHUB_CONFIG", hide_env_values = true)]
    pub(crate) path: Option<PathBuf>,
}

impl Serve {
    /// What `ringhub` without a verb means: no flags, and the file the environment names.
    pub(crate) fn from_environment() -> Self {
        let path = std::env::var_os("RINGHUB_CONFIG").map(PathBuf::from);
        Self { file: File { path }, ..Self::default() }
    }

    /// The configuration's file, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.path.as_deref()
    }

    /// The effective configuration: flags over environment over file over defaults.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let flags = [
            ("server.listen", &self.listen),
            ("server.admin_listen", &self.admin_listen),
            ("server.cores", &self.cores),
        ];
        let flags: Vec<_> =
            flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
        self.file.load(&flags)
    }
}

impl File {
    /// The configuration of the verbs without flags of their own.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        self.load(&[])
    }

    fn load(&self, flags: &[(&'static str, String)]) -> Result<Config, ConfigError> {
        // A variable that is not Unicode is no legal value of any key.
        let text = |value: OsString| value.to_string_lossy().into_owned();
        Config::load(self.path.as_deref(), &|name| std::env::var_os(name).map(text), flags)
    }
}

/// The first sentence of a key's documentation, with its default.
fn help(full_name: &str) -> String {
    let key = keys::all()
        .find(|key| full_name.split_once('.') == Some((key.section, key.name)))
        .expect("flags name keys");
    let about = key.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let sentence = about.split(". ").next().unwrap_or_default().trim_end_matches('.');
    let default = if key.default_words.is_empty() { (key.default)() } else { key.default_words.to_owned() };
    format!("{sentence} [default: {}] [env: {}]", default.trim_matches('"'), key.env_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_every_verb() {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut text = command.render_long_help().to_string();
        for verb in command.get_subcommands_mut() {
            text.push_str("\n=== ");
            text.push_str(&verb.render_long_help().to_string());
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn flags_reach_their_keys() {
        let cli = Cli::parse_from([
            "ringhub",
            "serve",
            "--listen",
            "[::1]:1",
            "--admin-listen",
            "127.0.0.1:2",
            "--cores",
            "3",
        ]);
        let Some(Verb::Serve(serve)) = cli.verb else { panic!("serve") };
        let config = serve.config().unwrap();
        assert_eq!(config.server.listen[0].short(), "[::1]:1");
        assert_eq!(config.server.admin_listen[0].short(), "127.0.0.1:2");
        assert_eq!(config.server.cores, Some(3));
    }
}
