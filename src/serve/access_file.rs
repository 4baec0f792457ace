//! Who may call, from a file that may change. Entry points: [`FollowedAccess::load`] at the start, [`FollowedAccess::follow`]
//! beside the server.
//!
//! Invariants:
//! - A file that cannot be used changes nothing: those whom it named before may call, and log and metrics say so.
//! - Nobody is cut off by what stands there for a moment: what takes back is used when two looks in a row have found it.

use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use super::stats::ServerStats;
use crate::config::{AccessFile, ConfigErrors};
use crate::core::access::Access;

/// How often the file is looked at: what was taken back should not go on for long, and the file is small.
const FILE_INTERVAL: Duration = Duration::from_secs(5);

/// How long what is new must have stood there: a file that is just being written may be a whole one that names fewer.
const SETTLE: Duration = Duration::from_millis(200);

/// What takes back, as the last look found it.
#[derive(Debug, Default)]
struct TakingBack(Option<Access>);

impl TakingBack {
    /// Whether what was found may be used instead of what is: at once if it still names everybody, else if the look before found
    /// the same.
    fn may_use(&mut self, current: &Access, found: &Access) -> bool {
        let before = self.0.take();
        let may_use = !current.names_more_than(found) || before.as_ref() == Some(found);
        if !may_use {
            self.0 = Some(found.clone());
        }
        may_use
    }
}

/// The file, and whom it named at the start.
#[derive(Clone, Debug)]
pub struct FollowedAccess {
    file: AccessFile,
    interval: Duration,
    begun: Arc<Access>,
}

impl FollowedAccess {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigErrors`]: it cannot be used.
    pub fn load(file: AccessFile) -> Result<Self, ConfigErrors> {
        let begun = Arc::new(file.read()?);
        Ok(Self { file, interval: FILE_INTERVAL, begun })
    }

    /// The same, looking at the file this often.
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Who may call at the start.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.begun)
    }

    /// Lets the gate use the file as it changes; never ends.
    pub(super) async fn follow(&self, gate: &Gate, stats: &ServerStats) {
        let (mut current, mut told) = (self.access(), String::new());
        let mut taking_back = TakingBack::default();
        stats.access_file(false);
        loop {
            tokio::time::sleep(self.interval).await;
            let found = self.look().await;
            match &found {
                Ok(access) if *access == *current => {
                    taking_back = TakingBack::default();
                    stats.access_file(false);
                    told.clear();
                    continue;
                }
                Ok(access) if !taking_back.may_use(&current, access) => continue,
                Ok(_) => {}
                Err(_) => taking_back = TakingBack::default(),
            }
            tokio::time::sleep(SETTLE).await;
            match (found, self.look().await) {
                (Ok(access), Ok(settled)) if access == settled => {
                    stats.access_file(false);
                    told.clear();
                    current = Arc::new(settled);
                    gate.use_access(Arc::clone(&current));
                    let clients = current.clients().len();
                    tracing::info!(clients, file = %self.file.path().display(), "who may call was read anew");
                }
                (Err(_), Err(errors)) => {
                    stats.access_file(true);
                    // Each state of the file once.
                    if errors != told {
                        errors.lines().for_each(|error| {
                            tracing::error!(error, "who may call changed and cannot be used: the former ones may");
                        });
                        told = errors;
                    }
                }
                // It is being written.
                _ => {}
            }
        }
    }

    /// What the file says now, or what is wrong with it.
    async fn look(&self) -> Result<Access, String> {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || file.read().map_err(|errors| errors.to_string()));
        read.await.unwrap_or_else(|error| Err(format!("read {}: {error}", self.file.path().display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::access::{Role, TokenHash};

    fn naming(names: &[&str]) -> Access {
        let mut access = Access::awaiting();
        for name in names {
            let hash = TokenHash::of(&format!("oidm_{name}-{}", "A".repeat(40))).unwrap();
            assert!(access.add_token(name, Role::Read, hash));
        }
        access
    }

    #[test]
    fn what_takes_back_is_used_when_two_looks_in_a_row_have_found_it() {
        let current = naming(&["a", "b"]);
        let (more, fewer, nobody) = (naming(&["a", "b", "c"]), naming(&["a"]), naming(&[]));
        let replaced = naming(&["a", "c"]);
        // Each look with what comes of it.
        let cases: [&[(&Access, bool)]; 6] = [
            &[(&more, true)],
            &[(&fewer, false), (&fewer, true)],
            &[(&nobody, false), (&fewer, false), (&nobody, false), (&nobody, true)],
            &[(&replaced, false), (&replaced, true)],
            &[(&nobody, false), (&more, true), (&nobody, false)],
            &[(&nobody, false), (&nobody, true), (&nobody, false)],
        ];
        for (number, looks) in cases.into_iter().enumerate() {
            let mut taking_back = TakingBack::default();
            for (found, expected) in looks {
                assert_eq!(taking_back.may_use(&current, found), *expected, "{number}: {found:?}");
            }
        }
    }
}
