//! What happened in a run, told when it fails: what a reader needs who was not there. Entry point: [`Story`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Lines with their times; all clones tell the same story.
#[derive(Clone)]
pub(crate) struct Story {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), lines: Arc::default() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn tell(&self, line: impl AsRef<str>) {
        let at = self.began.elapsed().as_millis();
        self.lines.lock().unwrap().push(format!("{at:>6} ms  {}", line.as_ref()));
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}
