//! A copy that follows its server: lists, follows, resumes, lists again.
//!
//! Entry points: [`Reflector::start`]; what it is asked then is in `answers`.
//!
//! ```text
//!  file ──▶ resume at (store, revision) ──changes──▶ consistent checkpoint ──▶ everybody sees it
//!    none └▶ list ────────────────────────▲  │  stream ends, or is silent: wait, resume
//!             ▲──── too old, another store ──┘  store is behind us, other rules: list
//!             └──── too many rows, nonsense, a panic: less and less often (`setback`)
//! ```
//!
//! Invariants:
//! - Readers see consistent states only, and keep the last one while a new list is made; but a copy that is known to have gone
//!   another way than its server answers nothing until it is listed again.
//! - What cannot be told from the copy, or from one that is too old, is asked of the server, never guessed.
//! - One task per reflector, which ends with it; everything that it keeps has a limit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use okta_idmap_proto::v1::{self, ErrorReason};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::age::{Lateness, Told};
use super::calls::Client;
use super::error::{ClientError, Refusal};
use super::mirror::{Change, Draft, Mirror, MirrorError, OrgTold, Step};
use super::retry::Retry;
use super::saved::{self, SaveError, Source};
use super::setback::{Setback, SetbackCause, Setbacks};
use super::shared::{Begin, Seen, Shared, supervise};
use crate::engine::clock;

/// How long a server may take to say which org it is of, while changes wait.
const ORG_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often a server that has not said it is asked again.
const ORG_AGAIN: Duration = Duration::from_secs(30);

/// How a copy is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReflectorSettings {
    /// The org, by its name in the server's configuration. Empty: the only one.
    pub org: String,
    /// Where the copy is kept for the next start; `None`: nowhere. Holds personal data: only its owner can read it.
    pub file: Option<PathBuf>,
    /// Rows of the copy at most, some 900 bytes each; twice that while a new list is made. Beyond it the copy is given up, and
    /// the server asked.
    pub rows_max: usize,
    /// A stream that says nothing for so long is begun anew. A server says where it stands every second.
    pub silence_max: Duration,
    /// How old, by the last checkpoint, a copy may be for [`Reflector::resolve`] to answer from it.
    pub age_max: Duration,
    /// The waits between attempts to reach the server; they are repeated for ever.
    pub retry: Retry,
    /// How often the file is written, at most; it is also written at the end.
    pub save_every: Duration,
}

impl Default for ReflectorSettings {
    fn default() -> Self {
        Self {
            org: String::new(),
            file: None,
            rows_max: 10_000_000,
            silence_max: Duration::from_secs(30),
            age_max: Duration::from_secs(60),
            retry: Retry {
                attempts_max: u32::MAX,
                wait_min: Duration::from_millis(500),
                wait_max: Duration::from_secs(30),
            },
            save_every: Duration::from_secs(60),
        }
    }
}

/// What a reflector is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Reads the file, or waits for the server.
    #[default]
    Connecting,
    /// Takes all rows.
    Listing,
    /// Takes changes.
    Following,
    /// The copy cannot be kept: see [`ReflectorState::setback`]. Tried again, less and less often.
    Failed,
    /// Has ended.
    Stopped,
}

/// How a reflector is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReflectorState {
    /// What it does.
    pub phase: Phase,
    /// Revision of the copy; `None`: there is none yet.
    pub revision: Option<u64>,
    /// Consistent states that were taken from the server since the start.
    pub checkpoints: u64,
    /// How often all rows were asked for since the start.
    pub lists: u64,
    /// How often a stream was begun where the copy stood, since the start.
    pub resumes: u64,
    /// Why the last stream ended, or the file could not be used; for people.
    pub problem: Option<String>,
    /// Why the copy could not be kept, how often in a row, and how long nothing is tried; `None` once there is one again.
    pub setback: Option<Setback>,
}

/// Why a reflector has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReflectorError {
    /// There is no copy yet, or none that is young enough.
    #[error("there is no copy that is recent enough")]
    NotReady,
    /// The question makes no sense.
    #[error(transparent)]
    Question(#[from] Box<Refusal>),
    /// The server was asked, and did not answer.
    #[error(transparent)]
    Server(#[from] ClientError),
}

/// A copy of an org that keeps itself up to date. Dropped, it ends at once; [`Reflector::stop`] saves before.
#[derive(Debug)]
pub struct Reflector {
    pub(super) client: Client,
    pub(super) settings: ReflectorSettings,
    pub(super) shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Reflector {
    /// Begins to follow. Must be called within a tokio runtime with a clock.
    pub fn start(client: Client, settings: ReflectorSettings) -> Self {
        let (shared, stop) = (Arc::new(Shared::new()), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (client, settings) = (client.clone(), settings.clone());
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            async move {
                let work = |begin| {
                    let follower = Follower::new(&client, &settings, &shared, &stop);
                    async move { follower.run(begin).await }
                };
                supervise(&shared, &stop, settings.retry.wait_max, work).await;
            }
        });
        Self { client, settings, shared, stop, tasks }
    }

    /// How it is, and when that changes.
    pub fn state(&self) -> watch::Receiver<ReflectorState> {
        self.shared.state.subscribe()
    }

    /// Waits until the copy is as the server had it since the start of this reflector.
    ///
    /// # Errors
    /// [`ReflectorError::NotReady`] after `patience`.
    pub async fn ready(&self, patience: Duration) -> Result<(), ReflectorError> {
        let mut state = self.state();
        let ready = state.wait_for(|state| state.checkpoints > 0);
        match tokio::time::timeout(patience, ready).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ReflectorError::NotReady),
        }
    }

    /// Looks at the copy, whatever its age, which `look` is told: `None` where no server confirms it, as it is from the file, or
    /// the server has gone another way since. `None` as the answer: there is no copy. Nothing is published while `look` runs: keep it short.
    pub fn read<T>(&self, look: impl FnOnce(&Mirror, Option<Duration>) -> T) -> Option<T> {
        let seen = self.shared.seen()?;
        let age = seen.told.as_ref().map(Told::age);
        seen.mirror.as_ref().map(|mirror| look(mirror, age))
    }

    /// Ends, and saves the copy where it has a file.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// What became of an event.
enum Taken {
    /// The next one may come; what was made visible came so late.
    Next(Duration),
    /// The position cannot be served.
    ListAgain(v1::TooOldReason),
}

/// Why a stream ended.
enum End {
    /// The reflector is to stop.
    Stopped,
    /// Something that passes: the position stays.
    Broken(String),
    /// The position cannot be served any more; the copy is what the server was.
    ListAgain(String),
    /// The server has gone another way than the copy, or answers by what the copy does not have.
    Parted(SetbackCause),
    /// The copy cannot be kept like this.
    Failed(MirrorError),
}

/// The task.
struct Follower {
    source: Source,
    client: Client,
    settings: ReflectorSettings,
    shared: Arc<Shared>,
    stop: CancellationToken,
    /// What is in the file: where it stands, and by which policy.
    saved: Option<(v1::ChangePosition, String)>,
    saved_at: Option<Instant>,
    /// Since when the server tells what the copy shows, without a setback.
    stands_since: Option<Instant>,
    /// The org, as the server said since the stream began, and when it was asked last.
    org: Option<OrgTold>,
    org_asked_at: Option<Instant>,
}

impl Follower {
    fn new(client: &Client, settings: &ReflectorSettings, shared: &Arc<Shared>, stop: &CancellationToken) -> Self {
        Self {
            source: Source { url: client.url().to_owned(), org: settings.org.clone() },
            client: client.clone(),
            settings: settings.clone(),
            shared: Arc::clone(shared),
            stop: stop.clone(),
            saved: None,
            saved_at: None,
            stands_since: None,
            org: None,
            org_asked_at: None,
        }
    }

    async fn run(mut self, begin: Begin) {
        if begin == Begin::FromFile {
            self.load().await;
        }
        let mut must_list = self.position().is_none();
        // Streams in a row that have brought nothing.
        let mut attempt = 0_u32;
        let mut setbacks = Setbacks::default();
        loop {
            let before = self.shared.state.borrow().checkpoints;
            let end = self.follow(must_list).await;
            let has_gained = self.shared.state.borrow().checkpoints > before;
            attempt = if has_gained { 1 } else { attempt.saturating_add(1) };
            must_list = self.position().is_none() || (must_list && !has_gained);
            let wait = match end {
                End::Stopped => break,
                End::Broken(problem) => self.interrupted(problem, attempt),
                End::ListAgain(problem) => {
                    must_list = true;
                    self.interrupted(problem, attempt)
                }
                End::Parted(cause) => {
                    must_list = true;
                    // What it shows may never have been so: only the server can answer.
                    self.shared.seen_mut().told = None;
                    let problem = cause.to_string();
                    let setback = self.setback(&mut setbacks, cause);
                    // Once is what a backup or another configuration does; again and again is two servers at one address.
                    if setback.in_a_row == 1 { self.interrupted(problem, attempt) } else { self.failed(setback) }
                }
                End::Failed(error) => {
                    must_list = true;
                    let setback = self.setback(&mut setbacks, error);
                    self.failed(setback)
                }
            };
            let problem = self.shared.state.borrow().problem.clone();
            tracing::debug!(url = self.source.url, org = self.source.org, problem, "the copy waits for its server");
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.save().await;
        self.shared.tell(|state| state.phase = Phase::Stopped);
    }

    fn setback(&mut self, setbacks: &mut Setbacks, cause: impl Into<SetbackCause>) -> Setback {
        let stood = self.stands_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        setbacks.note(cause, stood, self.settings.retry.wait_max)
    }

    /// Tells of it, and how long to wait.
    fn failed(&self, setback: Setback) -> Duration {
        let wait = setback.wait;
        self.shared.tell_setback(setback);
        wait
    }

    /// Tells of a stream that has ended, and how long to wait for the next one.
    fn interrupted(&self, problem: String, attempt: u32) -> Duration {
        let revision = self.position().map(|position| position.revision);
        self.shared.tell(|state| {
            (state.phase, state.revision, state.problem) = (Phase::Connecting, revision, Some(problem));
        });
        self.settings.retry.backoff(attempt, fastrand::u64(..))
    }

    /// Where the copy stands.
    fn position(&self) -> Option<v1::ChangePosition> {
        self.shared.seen()?.mirror.as_ref().map(Mirror::position)
    }

    /// One stream, until it ends.
    async fn follow(&mut self, must_list: bool) -> End {
        use v1::change_start::Start;
        let rows_max = self.settings.rows_max;
        let (start, mut draft) = match self.position() {
            Some(position) if !must_list => (Start::After(position), Draft::following(rows_max)),
            _ => (Start::Snapshot(v1::SnapshotStart {}), Draft::listing(rows_max)),
        };
        let is_list = matches!(start, Start::Snapshot(_));
        let request = v1::WatchRequest {
            context: Some(v1::RequestContext { org: self.source.org.clone(), ..Default::default() }),
            start: Some(v1::ChangeStart { start: Some(start) }),
            kinds: Vec::new(),
            for_resolution: true,
        };
        let opened = tokio::select! {
            biased;
            () = self.stop.cancelled() => return End::Stopped,
            opened = tokio::time::timeout(self.settings.silence_max, self.client.watch(request)) => opened,
        };
        let mut stream = match opened {
            Err(_) => return End::Broken("the server does not answer".to_owned()),
            Ok(Err(error)) => return end_of(&error),
            Ok(Ok(stream)) => stream,
        };
        self.shared.tell(|state| {
            state.phase = if is_list { Phase::Listing } else { Phase::Following };
            *(if is_list { &mut state.lists } else { &mut state.resumes }) += 1;
        });
        let mut lateness = Lateness::default();
        // It may be another server, and of another version.
        (self.org, self.org_asked_at) = (None, None);
        loop {
            if self.org.is_none() && self.org_asked_at.is_none_or(|at| at.elapsed() >= ORG_AGAIN) {
                self.ask_org().await;
            }
            let message = tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stopped,
                message = tokio::time::timeout(self.settings.silence_max, stream.message()) => message,
            };
            let message = match message {
                Err(_) => return End::Broken("the stream is silent".to_owned()),
                Ok(Err(status)) => return end_of(&ClientError::from(status)),
                Ok(Ok(None)) => return End::Broken("the stream has ended".to_owned()),
                Ok(Ok(Some(message))) => message,
            };
            for event in message.events {
                match self.take(&mut draft, event, &mut lateness) {
                    // A new stream begins with what is new; and where a clock was set, with another measure.
                    Ok(Taken::Next(late)) if late > self.settings.age_max => {
                        return End::Broken("the stream comes too late".to_owned());
                    }
                    Ok(Taken::Next(_)) => {}
                    Ok(Taken::ListAgain(v1::TooOldReason::ChangesDropped)) => {
                        return End::ListAgain("the server has dropped the changes".to_owned());
                    }
                    Ok(Taken::ListAgain(reason)) => return parted(reason.as_str_name()),
                    Err(error @ MirrorError::MustList { .. }) => return End::Parted(error.into()),
                    Err(error) => return End::Failed(error),
                }
            }
            let is_due = self.saved_at.is_none_or(|at| at.elapsed() >= self.settings.save_every);
            if is_due {
                self.save().await;
            }
        }
    }

    /// Asks which org principals are of. Without an answer the copy makes none.
    async fn ask_org(&mut self) {
        self.org_asked_at = Some(Instant::now());
        let context = Some(v1::RequestContext { org: self.source.org.clone(), ..Default::default() });
        let nobody = v1::ResolveAclRequest { context, entries: Vec::new() };
        self.org = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            told = tokio::time::timeout(ORG_WAIT_MAX, self.client.resolve_acl(nobody)) => match told {
                Ok(Ok(answer)) => OrgTold::read(&answer),
                Ok(Err(_)) | Err(_) => None,
            },
        };
        if self.org.is_none() {
            tracing::debug!(url = self.source.url, org = self.source.org, "the server has not said which org it is of");
        }
    }

    /// Takes an event.
    fn take(
        &mut self,
        draft: &mut Draft,
        event: v1::ChangeEvent,
        lateness: &mut Lateness,
    ) -> Result<Taken, MirrorError> {
        match draft.apply(event)? {
            Step::More | Step::Alive => Ok(Taken::Next(Duration::ZERO)),
            Step::ListAgain(reason) => Ok(Taken::ListAgain(reason)),
            Step::Publish(change) => {
                let received_at = clock::now();
                let late = lateness.of(change.served_at(), received_at);
                let revision = self.publish(*change, Told::now(received_at, late))?;
                self.stands_since.get_or_insert_with(Instant::now);
                self.shared.tell(|state| {
                    (state.phase, state.revision, state.problem) = (Phase::Following, revision, None);
                    (state.setback, state.checkpoints) = (None, state.checkpoints + 1);
                });
                Ok(Taken::Next(late))
            }
        }
    }

    fn publish(&self, change: Change, told: Told) -> Result<Option<u64>, MirrorError> {
        // A large copy takes its time to go: nobody has to wait for that.
        let mut replaced = None;
        let mut seen = self.shared.seen_mut();
        if change.is_whole() {
            replaced = seen.mirror.take();
        }
        let made = change.make(&mut seen.mirror);
        if let Some(mirror) = &mut seen.mirror {
            mirror.tell_org(self.org.as_ref());
        }
        if matches!(made, Err(MirrorError::TooManyRows { .. })) {
            replaced = seen.mirror.take();
        }
        let revision = seen.mirror.as_ref().map(Mirror::revision);
        if made.is_ok() {
            seen.told = Some(told);
        }
        drop(seen);
        drop(replaced);
        made.map(|()| revision)
    }

    async fn load(&mut self) {
        let Some(path) = self.settings.file.clone() else { return };
        let (source, rows_max) = (self.source.clone(), self.settings.rows_max);
        let read = path.clone();
        let loaded = tokio::task::spawn_blocking(move || saved::load(&read, &source, rows_max)).await;
        match loaded {
            Ok(Ok(Some(mirror))) => {
                let revision = mirror.revision();
                self.saved = Some(content_of(&mirror));
                self.saved_at = Some(Instant::now());
                *self.shared.seen_mut() = Seen { mirror: Some(mirror), told: None };
                self.shared.tell(|state| state.revision = Some(revision));
            }
            Ok(Ok(None)) => {}
            Err(_) => self.note(&SaveError::Panicked { path }),
            Ok(Err(error)) => self.note(&error),
        }
    }

    /// Writes the file, if there is one and something new for it. Nothing is published meanwhile.
    async fn save(&mut self) {
        let Some(path) = self.settings.file.clone() else { return };
        let content = self.shared.seen().and_then(|seen| seen.mirror.as_ref().map(content_of));
        if content.is_none() || content == self.saved {
            return;
        }
        self.saved_at = Some(Instant::now());
        let (source, shared) = (self.source.clone(), Arc::clone(&self.shared));
        let written = path.clone();
        let saving = tokio::task::spawn_blocking(move || {
            let seen = shared.seen();
            match seen.as_ref().and_then(|seen| seen.mirror.as_ref()) {
                Some(mirror) => saved::save(&written, &source, mirror),
                None => Ok(()),
            }
        });
        match saving.await {
            Ok(Ok(())) => self.saved = content,
            Ok(Err(error)) => self.note(&error),
            Err(_) => self.note(&SaveError::Panicked { path }),
        }
    }

    fn note(&self, error: &SaveError) {
        tracing::warn!(error = %error, "the file of the copy cannot be used");
        self.shared.tell(|state| state.problem = Some(error.to_string()));
    }
}

/// What makes one file of a copy another one.
fn content_of(mirror: &Mirror) -> (v1::ChangePosition, String) {
    (mirror.position(), mirror.policy_id().to_owned())
}

/// What a refused stream means for the position.
fn end_of(error: &ClientError) -> End {
    match error.reason() {
        Some(reason @ (ErrorReason::RevisionNotReached | ErrorReason::StoreReplaced)) => {
            parted(format!("{}: {error}", reason.reason()))
        }
        _ => End::Broken(error.to_string()),
    }
}

fn parted(what: impl Into<String>) -> End {
    End::Parted(SetbackCause::AnotherStore { what: what.into() })
}
