//! The example of `examples/chat`, as its README has it: the real app, and its page in Chromium.

use std::path::Path;
use std::process::Command;

use ringhub_tests::{Endpoint, Process, Proxy, Script, Server, npm_package};

#[test]
fn people_chat_are_refused_and_come_back() {
    let Some(chromium) = chromium() else {
        println!("SKIPPED: there is no chromium here (apt-get install chromium)");
        return;
    };
    for cores in [1, 2] {
        println!("on {cores} cores");
        let mut example = Example::start(cores);
        let script = Script::node("example.mjs").env("CHROMIUM", &chromium).env("PAGE", &example.page());
        script.run_with(|ask| match ask {
            "cut the sockets" => example.to_ringhub.cut(),
            "restart the app" => example.restart_app(),
            _ => panic!("nobody answers {ask:?}"),
        });
    }
}

/// The three parts, on free ports. What stands between them is there because each has to know where another is
/// before that one runs, and to cut.
struct Example {
    folder: std::path::PathBuf,
    to_ringhub: Proxy,
    to_app: Proxy,
    app: Process,
    _ringhub: Server,
}

impl Example {
    fn start(cores: usize) -> Self {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chat");
        let config = std::fs::read_to_string(sources.join("ringhub.toml")).expect("the example is there");
        let key = config.lines().find_map(|line| line.strip_prefix("primary = \"")?.strip_suffix('"'));
        let key = key.expect("the example has a key");
        let folder = npm_package(&sources, "example/chat");
        let built =
            Command::new("npm").args(["run", "build"]).current_dir(&folder).output().expect("npm runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

        let nowhere = Endpoint::plain("127.0.0.1:1".parse().expect("an address"), "");
        let to_app = Proxy::start(&nowhere);
        assert!(config.contains("http://127.0.0.1:3000/"), "the app's address is in {config}");
        let config = config.replace("http://127.0.0.1:3000", &to_app.endpoint().url());
        let ringhub = Server::with(|setup| setup.cores(cores).config(&config).keys_in_config().key(key));
        let to_ringhub = Proxy::start(&ringhub);
        let app = Self::start_app(&folder, &to_ringhub, &to_app);
        Self { folder, to_ringhub, to_app, app, _ringhub: ringhub }
    }

    fn start_app(folder: &Path, to_ringhub: &Proxy, to_app: &Proxy) -> Process {
        let mut command = Command::new("node");
        command.arg("server.js").current_dir(folder).env("PORT", "0");
        let mut app =
            Process::spawn(command.env("CONNECTION_STRING", to_ringhub.endpoint().connection_string()));
        let addr = app.expect_line("chat on http://");
        to_app.point_at(&Endpoint::plain(addr.parse().expect("an address"), ""));
        app
    }

    fn restart_app(&mut self) {
        self.app.stop();
        self.app = Self::start_app(&self.folder, &self.to_ringhub, &self.to_app);
    }

    /// Where the page is: behind the proxy too, so that it is the same after a restart.
    fn page(&self) -> String {
        self.to_app.endpoint().url()
    }
}

fn chromium() -> Option<String> {
    let found =
        Command::new("sh").args(["-c", "command -v chromium || command -v chromium-browser"]).output();
    let found = found.expect("there is a shell");
    found.status.success().then(|| String::from_utf8_lossy(&found.stdout).trim().to_owned())
}
