//! Runs the binary. Entry point: [`Place`].
//!
//! Invariant: nothing of the surroundings gets in: the environment is empty, the working directory a new one.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A token that no output may show.
pub(crate) const CANARY: &str = "00CanaryTokenNeverShown-abcdefghijklmnop_42";

/// A directory with a configuration.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!ran.out.contains(CANARY) && !ran.err.contains(CANARY), "a token was shown: {ran:?}");
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        ran
    }
}

impl Ran {
    /// Exit code and standard output, for a run that says nothing else of interest.
    #[track_caller]
    pub(crate) fn assert(&self, code: i32, out_part: &str, err_part: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.out.contains(out_part), "expected {out_part:?} in {self:?}");
        assert!(self.err.contains(err_part), "expected {err_part:?} in {self:?}");
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Place {
    /// Nothing configured.
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    /// With this configuration file.
    pub(crate) fn with_config(text: &str) -> Self {
        let place = Self::empty();
        std::fs::write(place.path().join("okta-idmap.toml"), text).unwrap();
        place
    }

    /// One org named acme, without a store. The address answers nobody.
    pub(crate) fn with_org() -> Self {
        let mut place = Self::with_config("[orgs.acme]\ndomain = \"http://127.0.0.1:9\"\n");
        place.set("OKTA_IDMAP_ORGS__ACME__API_TOKEN", CANARY);
        // A file that nobody names does not say where that goes.
        place.set("OKTA_IDMAP_CONFIG", "./okta-idmap.toml");
        // What the tests store has dates of its own.
        place.set("OKTA_IDMAP_COVERAGE__STALE_AFTER", "0s");
        place.set("OKTA_IDMAP_COVERAGE__LOG_STALE_AFTER", "0s");
        place
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_okta-idmap"));
        command.args(line).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, line: &[&str]) -> Ran {
        self.command(line).output().unwrap().into()
    }

    /// Runs to the end below a shell that has made these settings: limits, signals.
    pub(crate) fn run_under(&self, settings: &str, line: &[&str]) -> Ran {
        let plain = self.command(line);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{settings}; exec \"$@\""), "sh"]).arg(plain.get_program()).args(plain.get_args());
        command.current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.output().unwrap().into()
    }

    /// Runs without waiting; standard output and error are pipes.
    pub(crate) fn start(&self, line: &[&str]) -> Running {
        Running(Some(self.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// Runs with a standard output whose reader leaves after `bytes` bytes.
    pub(crate) fn run_cut_off(&self, line: &[&str], bytes: usize) -> Ran {
        let mut running = self.start(line);
        let mut out = running.child().stdout.take().unwrap();
        let mut head = vec![0; bytes];
        out.read_exact(&mut head).unwrap();
        drop(out);
        running.wait()
    }
}

/// A run that goes on; a test that fails does not leave it behind.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Sends SIGTERM, as a service manager does.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&mut self) {
        self.signal("INT");
    }

    /// Sends the signal of this name.
    pub(crate) fn signal(&mut self, name: &str) {
        let id = self.child().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ran {
        self.0.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
