//! A new configuration in a running server, without a restart.
//!
//! Asked for by SIGHUP, or by a change of the configuration's file or of a file it names. What must stay true: all
//! or nothing, a configuration that any part refuses changes no part; what a restart is needed for refuses the
//! whole reload, naming it; every change is one log line with its key, and no secret is in it.
//!
//! Parts are registered with a function that prepares a change (and may refuse it) and returns what carries it out
//! (and cannot fail); all are prepared before any is carried out.
//!
//! Files are watched by their folders, since editors and container systems replace files and links rather than write
//! into them. What a change was is not asked: after [`QUIET`] the files are read, and if their bytes are others than
//! those of the last attempt, it is a reload.

use crate::config::{Change, Config, ConfigError};
use crate::process::ProcessCounts;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use ringhub_relay::vital;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long after a change files must be left alone: a file is often written in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// How long a change waits at most, in a folder that is never left alone.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// Most bytes of one watched file; a longer one is seen to change by its first bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Most triggers that wait. Of files there are as many as there are events in their folders; one more than fits says
/// nothing that those before it do not.
const TRIGGERS_MAX: usize = 64;

/// Carries out a prepared change.
pub(crate) type Commit = Box<dyn FnOnce()>;
/// Prepares a change, or says what is wrong with it.
pub(crate) type Prepare = Box<dyn Fn(&Config) -> Result<Commit, String> + Send>;

/// Why to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// Somebody asked.
    Asked,
    /// Something happened beside a watched file.
    Files,
}

/// The configuration in effect and everybody who goes by it.
pub(crate) struct Reloader {
    load: Box<dyn Fn() -> Result<Config, ConfigError> + Send>,
    current: Config,
    parts: Vec<Prepare>,
    process: Arc<ProcessCounts>,
    now_unix: fn() -> u64,
}

impl Reloader {
    /// `load` reads the configuration anew; `current` is in effect.
    pub(crate) fn new(
        load: impl Fn() -> Result<Config, ConfigError> + Send + 'static,
        current: Config,
        process: Arc<ProcessCounts>,
        now_unix: fn() -> u64,
    ) -> Self {
        process.configured_at_seconds.set(now_unix());
        Self { load: Box::new(load), current, parts: Vec::new(), process, now_unix }
    }

    /// Adds a part. Its files are watched if keys of the configuration name them.
    pub(crate) fn register(&mut self, prepare: impl Fn(&Config) -> Result<Commit, String> + Send + 'static) {
        self.parts.push(Box::new(prepare));
    }

    /// Reads the configuration and has every part take it over, or none.
    ///
    /// # Errors
    ///
    /// For the operator; nothing has changed then.
    pub(crate) fn reload(&mut self) -> Result<Vec<Change>, String> {
        let outcome = self.try_reload();
        match &outcome {
            Ok(changes) => {
                self.process.reloads.up();
                self.process.configured_at_seconds.set((self.now_unix)());
                for Change { key, old, new } in changes {
                    tracing::info!("{key}: {old} → {new}");
                }
                tracing::info!(changed = changes.len(), "the configuration was reloaded");
            }
            Err(problem) => {
                self.process.reloads_refused.up();
                // A record is one line; what to do follows what is wrong.
                let problem = problem.replace("\n  fix: ", "; fix: ");
                tracing::error!(
                    "the configuration was not reloaded, the one before stays in effect: {problem}"
                );
            }
        }
        outcome
    }

    fn try_reload(&mut self) -> Result<Vec<Change>, String> {
        let new = (self.load)().map_err(|error| error.to_string())?;
        let changes = self.current.changes(&new);
        let fixed: Vec<&str> =
            changes.iter().filter(|change| change.needs_restart()).map(|change| &*change.key).collect();
        if !fixed.is_empty() {
            let keys = fixed.join(", ");
            return Err(format!(
                "a change of {keys} needs a restart\n  fix: Restart the server, or undo that change."
            ));
        }
        let commits: Vec<Commit> =
            self.parts.iter().map(|prepare| prepare(&new)).collect::<Result<_, _>>()?;
        commits.into_iter().for_each(|commit| commit());
        self.current = new;
        Ok(changes)
    }

    /// Whether what stands there is not what is in effect.
    fn is_stale(&self) -> bool {
        (self.load)().is_ok_and(|now| !self.current.changes(&now).is_empty())
    }

    /// Every file the configuration in effect consists of.
    fn files(&self, config: Option<&Path>) -> Vec<PathBuf> {
        config.map(Path::to_owned).into_iter().chain(self.current.files()).collect()
    }
}

/// How a reload is asked for.
#[derive(Clone)]
pub(crate) struct Ask {
    triggers: SyncSender<Trigger>,
    /// Whoever looks next is to reload, whatever woke it.
    is_asked: Arc<AtomicBool>,
}

impl Ask {
    /// Asks, and never waits: who asks also heeds the signals that end the process.
    pub(crate) fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        // Full: those that wait are looked at anyway. Gone: the process ends.
        let _ = self.triggers.try_send(Trigger::Asked);
    }
}

/// Has a thread of its own reload whenever it is asked to, or `config` (the configuration's file) or a file named in
/// it changes. The thread ends with the process.
///
/// # Errors
///
/// If there can be no thread.
pub(crate) fn start(mut reloader: Reloader, config: Option<PathBuf>) -> std::io::Result<Ask> {
    let (send, triggers) = sync_channel(TRIGGERS_MAX);
    let ask = Ask { triggers: send.clone(), is_asked: Arc::default() };
    let is_asked = ask.is_asked.clone();
    let mut watch = Watch::new(send);
    let files = reloader.files(config.as_deref());
    watch.follow(&files);
    let mut seen = Contents::of(&files);
    // It may have changed between being read and being watched.
    let is_stale = reloader.is_stale();
    let run = move || {
        if is_stale {
            let _ = reloader.reload();
        }
        loop {
            watch.follow(&reloader.files(config.as_deref()));
            if next(&triggers).is_none() {
                return;
            }
            // Before anything is read: who asks from here on wants another look.
            let is_asked = is_asked.swap(false, Ordering::Acquire);
            let now = Contents::of(&reloader.files(config.as_deref()));
            if is_asked || now != seen {
                seen = now;
                // Said in the log already.
                let _ = reloader.reload();
            }
        }
    };
    vital::spawn("reload", run)?;
    Ok(ask)
}

/// Waits for a trigger, and after a change of files until they are left alone. `None` when nobody can ask any more.
fn next(triggers: &Receiver<Trigger>) -> Option<Trigger> {
    let first = triggers.recv().ok()?;
    let until = Instant::now() + QUIET_MAX;
    let mut trigger = first;
    while trigger == Trigger::Files {
        let left = until.saturating_duration_since(Instant::now());
        match triggers.recv_timeout(QUIET.min(left)) {
            Ok(more) => trigger = more,
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    Some(trigger)
}

/// What stands in files now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl Contents {
    fn of(files: &[PathBuf]) -> Self {
        Self(files.iter().map(|file| (file.clone(), read(file).ok())).collect())
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The folders that are watched.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: Vec<PathBuf>,
}

impl Watch {
    fn new(events: SyncSender<Trigger>) -> Self {
        let handler = move |event: notify::Result<notify::Event>| {
            // Looking at a file is no change of it, and we look.
            let is_change = event.is_ok_and(|event| match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
                EventKind::Access(_) => false,
                _ => true,
            });
            if is_change {
                // Full: it will be looked at anyway. Gone: the process ends.
                let _ = events.try_send(Trigger::Files);
            }
        };
        let watcher = notify::recommended_watcher(handler).map_err(unwatched).ok();
        Self { watcher, folders: Vec::new() }
    }

    /// Watches the folders of these files, and of what they link to; no others any more.
    fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let targets = files.iter().filter_map(|file| file.canonicalize().ok());
        let mut folders: Vec<PathBuf> = files.iter().cloned().chain(targets).map(folder_of).collect();
        folders.sort();
        folders.dedup();
        for gone in self.folders.iter().filter(|folder| !folders.contains(folder)) {
            // A folder that is not there any more is not watched any more either.
            let _ = watcher.unwatch(gone);
        }
        let mut followed = Vec::new();
        for folder in folders {
            let is_new = !self.folders.contains(&folder);
            let watched = if is_new { watcher.watch(&folder, RecursiveMode::NonRecursive) } else { Ok(()) };
            if watched.map_err(unwatched).is_ok() {
                followed.push(folder);
            }
        }
        self.folders = followed;
    }
}

fn unwatched(error: impl Display) {
    tracing::warn!(%error, "changes of the configuration's files go unseen; SIGHUP reloads");
}

fn folder_of(file: PathBuf) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::panics::ends_the_process;
    use std::sync::Mutex;

    /// A reloader of a text that can be changed, and which configurations were taken over.
    struct Setup {
        text: Arc<Mutex<String>>,
        taken: Arc<Mutex<Vec<u64>>>,
        process: Arc<ProcessCounts>,
        reloader: Reloader,
    }

    fn config(text: &str) -> Result<Config, ConfigError> {
        Config::from_text(text)
    }

    fn setup(text: &str) -> Setup {
        let current = config(text).unwrap();
        let text = Arc::new(Mutex::new(text.to_owned()));
        let (taken, process) = (Arc::new(Mutex::new(Vec::new())), Arc::new(ProcessCounts::default()));
        let source = text.clone();
        let load = move || config(&source.lock().unwrap());
        let mut reloader = Reloader::new(load, current, process.clone(), || 7);
        for part in 0..2 {
            let taken = taken.clone();
            reloader.register(move |config| {
                let hubs_max = config.limits.hubs_max;
                if part == 1 && hubs_max == 13 {
                    return Err("a part does not want this".into());
                }
                let taken = taken.clone();
                Ok(Box::new(move || taken.lock().unwrap().push(hubs_max)))
            });
        }
        Setup { text, taken, process, reloader }
    }

    impl Setup {
        fn reload(&mut self, text: &str) -> Result<Vec<String>, String> {
            *self.text.lock().unwrap() = text.into();
            let changes = self.reloader.reload()?;
            Ok(changes.into_iter().map(|Change { key, old, new }| format!("{key}: {old} → {new}")).collect())
        }
    }

    const KEY: &str = "[keys]\nprimary = \"0123456789abcdef0123456789abcdef\"\n";

    #[test]
    fn every_change_is_told_and_taken_over_by_all() {
        let mut setup = setup(&format!("{KEY}[hubs.a]\n[hubs.gone]\nwebsocket_keepalive_seconds = 5\n"));
        let changes = setup.reload(
            "[keys]\nprimary = \"0123456789abcdef0123456789abcdeX\"\n[limits]\nhubs_max = 5\n\
             [hubs.a]\nallowed_origins = [\"https://a\"]\n[[firewall.traffic_rules]]\nwindow_seconds = 30\n",
        );
        assert_eq!(
            changes.unwrap(),
            [
                "firewall.traffic_rules[0].kind: (none) → \"user\"",
                "firewall.traffic_rules[0].max_inbound_bytes: (none) → 1073741824",
                "firewall.traffic_rules[0].window_seconds: (none) → 30",
                "hubs.a.allowed_origins: [] → [\"https://a\"]",
                "hubs.gone.websocket_keepalive_seconds: 5 → 20",
                "keys.primary: \"(set, not shown)\" → (another, not shown)",
                "limits.hubs_max: 1024 → 5",
            ]
        );
        assert_eq!(*setup.taken.lock().unwrap(), [5, 5]);
        assert_eq!((setup.process.reloads.get(), setup.process.reloads_refused.get()), (1, 0));
        assert_eq!(setup.process.configured_at_seconds.get(), 7);
    }

    #[test]
    fn what_one_part_refuses_changes_nothing() {
        let mut setup = setup(KEY);
        for (text, expected) in [
            ("[limits]\nhubs_max = 13\n", "a part does not want this"),
            (
                "[limits]\nhub_max = 5\n",
                "ringhub.toml:2: limits.hub_max: unknown key\n  fix: Did you mean limits.hubs_max?",
            ),
            (
                "[limits]\nhubs_max = 5\n[server]\ncores = 3\n",
                "a change of server.cores needs a restart\n  fix: Restart the server, or undo that change.",
            ),
            (
                "[server]\noidc = false\n[[oidc.issuers]]\nurl = \"https://a\"\nowner = [\"sub=a\"]\n",
                "a change of oidc.issuers[0].audiences, oidc.issuers[0].keys_age_max_seconds, oidc.issuers[0].owner, \
                 oidc.issuers[0].reader, oidc.issuers[0].refresh_seconds, oidc.issuers[0].url, server.oidc needs a \
                 restart\n  fix: Restart the server, or undo that change.",
            ),
            (
                "[server]\nlisten = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:2\"\n",
                "a change of server.admin_listen, server.listen needs a restart\n  fix: Restart the server, or undo that change.",
            ),
        ] {
            assert_eq!(setup.reload(text), Err(expected.into()));
        }
        assert!(setup.taken.lock().unwrap().is_empty());
        assert_eq!((setup.process.reloads.get(), setup.process.reloads_refused.get()), (0, 5));
        assert_eq!(setup.reload(KEY), Ok(vec![]), "the one before is still in effect");
    }

    #[test]
    fn a_file_changes_by_its_first_bytes() {
        let file = std::env::temp_dir().join(format!("ringhub-long-file-{}", std::process::id()));
        let most = FILE_BYTES_MAX as usize;
        let mut bytes = vec![b'x'; most + 1];
        let mut contents = |place: usize, byte: u8| {
            bytes[place] = byte;
            std::fs::write(&file, &bytes).unwrap();
            Contents::of(std::slice::from_ref(&file))
        };
        let before = contents(most, b'y');
        assert_eq!(before.0[&file].as_ref().unwrap().len(), most);
        assert!(contents(most, b'z') == before, "behind what is read");
        assert!(contents(most - 1, b'y') != before);
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_folder_that_is_never_left_alone_does_not_put_a_reload_off_for_ever() {
        let (ask, triggers) = sync_channel(TRIGGERS_MAX);
        let busy = std::thread::spawn(move || {
            while ask.send(Trigger::Files).is_ok() {
                std::thread::yield_now();
            }
        });
        assert_eq!(next(&triggers), Some(Trigger::Files));
        drop(triggers);
        busy.join().unwrap();
    }

    /// A signal's thread waited for room among the triggers, and heard of no SIGTERM meanwhile.
    #[test]
    fn who_asks_never_waits_and_is_heard_though_the_triggers_are_full() {
        let (triggers, waiting) = sync_channel(TRIGGERS_MAX);
        (0..TRIGGERS_MAX).for_each(|_| triggers.try_send(Trigger::Files).unwrap());
        let ask = Ask { triggers, is_asked: Arc::default() };
        ask.ask();
        assert_eq!(waiting.try_iter().filter(|&trigger| trigger == Trigger::Asked).count(), 0);
        assert!(ask.is_asked.swap(false, Ordering::Acquire), "whoever takes the next trigger sees it");
        ask.ask();
        assert_eq!(next(&waiting), Some(Trigger::Asked), "without waiting for files");
    }

    /// Before, keys were not renewed any more, and nothing said so.
    #[test]
    fn a_panic_while_reloading_ends_the_process() {
        ends_the_process("reload::tests::a_panic_while_reloading_ends_the_process", "thread reload", || {
            let mut setup = setup(KEY);
            setup.reloader.register(|_| panic!("raised by a test"));
            start(setup.reloader, None).unwrap().ask();
        });
    }
}
