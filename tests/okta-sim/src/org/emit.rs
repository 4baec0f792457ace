//! Makes System Log events with the targets of facts 8.3.
//!
//! Entry points: `Org::emit` with an [`EventDraft`]; the log accessors of [`Org`].

use super::log::{Actor, Event, LogControls, LoggedEvent, Target, logged};
use super::types::GroupKind;
use super::{AppRef, GroupRef, Org, UserRef};
use crate::ids::{IdKind, encode};

/// An event under construction: type, cause, targets in the order of the samples.
pub(crate) struct EventDraft {
    event_type: String,
    job: bool,
    succeeded: bool,
    targets: Vec<Target>,
    debug: Vec<(&'static str, Box<str>)>,
}

impl EventDraft {
    /// An event caused by a request of the administrator.
    pub(crate) fn web(event_type: &str) -> Self {
        Self { event_type: event_type.to_owned(), job: false, succeeded: true, targets: Vec::new(), debug: Vec::new() }
    }

    /// An event caused by a background job.
    pub(crate) fn job(event_type: &str) -> Self {
        Self { job: true, ..Self::web(event_type) }
    }

    pub(crate) fn cause(event_type: &str, job: bool) -> Self {
        Self { job, ..Self::web(event_type) }
    }

    /// The outcome is FAILURE.
    pub(crate) fn failed(mut self) -> Self {
        self.succeeded = false;
        self
    }

    pub(crate) fn debug(mut self, key: &'static str, value: &str) -> Self {
        self.debug.push((key, value.into()));
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    pub(crate) fn user(self, org: &Org, user: UserRef) -> Self {
        let target = org.user_target(user);
        self.target(target)
    }

    pub(crate) fn group(self, org: &Org, group: GroupRef) -> Self {
        let target = org.group_target(group);
        self.target(target)
    }

    /// A group as imports and memberships name it: imported ones have a target type of their own (facts 8.2, 8.3).
    pub(crate) fn group_or_app_group(self, org: &Org, group: GroupRef) -> Self {
        let is_imported = org.group(group.0).is_some_and(|known| known.kind == GroupKind::App);
        let target = org.group_target(group);
        self.target(if is_imported { Target { kind: "AppGroup", ..target } } else { target })
    }

    pub(crate) fn app(self, org: &Org, app: AppRef) -> Self {
        let target = org.app_target(app);
        self.target(target)
    }
}

/// An event about the rights of the administrator (facts 8.3, 9.6, 15.13).
pub(crate) fn emit_role_event(org: &mut Org, event_type: &str) {
    let administrator = org.administrator();
    let draft = EventDraft::web(event_type).user(org, administrator);
    org.emit(draft.debug("privilegeGranted", "Read-only administrator"));
}

impl Org {
    pub(crate) fn emit(&mut self, draft: EventDraft) {
        let transaction = self.next_transaction;
        self.next_transaction = self.next_transaction.wrapping_add(1);
        let event = Event {
            number: 0,
            published_ms: self.now_ms,
            event_type: draft.event_type.into(),
            actor: if draft.job { Actor::System } else { Actor::Administrator },
            targets: draft.targets,
            succeeded: draft.succeeded,
            transaction,
            debug: draft.debug,
        };
        self.log.append(self.now_ms, event);
    }

    pub(crate) fn user_target(&self, user: UserRef) -> Target {
        let known = self.user(user.0);
        Target {
            kind: "User",
            id: user.id(),
            alternate_id: known.map_or("unknown".into(), |known| known.login.clone()),
            display_name: self.display_name(user).into(),
            change: None,
        }
    }

    pub(crate) fn group_target(&self, group: GroupRef) -> Target {
        let name = self.group(group.0).map_or("".into(), |known| known.name.clone());
        Target { kind: "UserGroup", id: group.id(), alternate_id: "unknown".into(), display_name: name, change: None }
    }

    pub(crate) fn app_target(&self, app: AppRef) -> Target {
        let label: Box<str> = self.app(app.0).map_or("".into(), |known| known.label.clone());
        Target { kind: "AppInstance", id: app.id(), alternate_id: label.clone(), display_name: label, change: None }
    }

    /// The target of type `AppUser`: its id is the assignment's (`0ua..`), not the API's id of the app user (facts 5.3).
    pub(crate) fn app_user_target(&self, app: AppRef, user: UserRef) -> Target {
        let names = self.app(app.0).zip(self.app_user(app.0, user.0));
        let user_name = names.and_then(|(known, app_user)| self.user_name_of(known, app_user));
        let assignment = names.map_or(0, |(_, app_user)| app_user.assignment);
        Target {
            kind: "AppUser",
            id: encode(IdKind::AppUser, assignment),
            alternate_id: user_name.unwrap_or_else(|| "unknown".to_owned()).into(),
            display_name: self.display_name(user).into(),
            change: None,
        }
    }

    /// An event about an app user: AppUser, AppInstance, User. Must be drafted while the app user still exists.
    pub(crate) fn app_user_event(&self, event_type: &str, job: bool, app: AppRef, user: UserRef) -> EventDraft {
        EventDraft::cause(event_type, job).target(self.app_user_target(app, user)).app(self, app).user(self, user)
    }

    /// The name log events show for a user.
    pub(crate) fn display_name(&self, user: UserRef) -> String {
        let Some(known) = self.user(user.0) else { return String::new() };
        if let Some(own) = &known.display_name {
            return own.to_string();
        }
        let parts: Vec<&str> =
            [known.first_name, known.last_name].iter().filter_map(|key| self.texts.text(*key)).collect();
        if parts.is_empty() { known.login.to_string() } else { parts.join(" ") }
    }

    /// Writes an event of any type with given (type, id) targets into the log, without changing anything: noise, types
    /// unknown to the client, failed attempts, bulk announcements.
    pub fn emit_foreign_event(&mut self, event_type: &str, targets: &[(&'static str, &str)], succeeded: bool) {
        let transaction = self.next_transaction;
        self.next_transaction = self.next_transaction.wrapping_add(1);
        let targets = targets
            .iter()
            .map(|(kind, id)| Target {
                kind,
                id: (*id).to_owned(),
                alternate_id: "unknown".into(),
                display_name: "unknown".into(),
                change: None,
            })
            .collect();
        let event = Event {
            number: 0,
            published_ms: self.now_ms,
            event_type: event_type.into(),
            actor: Actor::System,
            targets,
            succeeded,
            transaction,
            debug: Vec::new(),
        };
        self.log.append(self.now_ms, event);
    }

    /// How events reach the log from now on.
    pub fn set_log_controls(&mut self, controls: LogControls) {
        self.log.controls = controls;
    }

    /// The position after the last visible event: what a poller that has read everything stands at.
    pub fn log_end(&self) -> u64 {
        self.log.end()
    }

    /// The visible events from a position on, in persistence order.
    pub fn log_after(&self, position: u64) -> Vec<LoggedEvent> {
        self.log.after(position).map(|(_, entry)| logged(&entry.event)).collect()
    }

    /// Events that happened and are not visible yet.
    pub fn log_pending(&self) -> usize {
        self.log.pending_len()
    }

    /// Makes all log cursors handed out so far invalid (400 on the next use).
    pub fn expire_log_cursors(&mut self) {
        self.log.expire_cursors();
    }
}
