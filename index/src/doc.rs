//! What goes into the index: plain documents and the mark of how far they go.
//!
//! Entry point: [`IndexDoc`], built by the caller from rows of its store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of a key. Two ids of 100 bytes and a word fit twice; the whole key is a term, a fast-field entry and part
/// of every hit.
pub const KEY_BYTES_MAX: usize = 512;

/// Values of one list of a document ([`IndexDoc::names`], `accounts`, `ids`, `apps`, `app_labels`); more are ignored.
/// An org has some hundred apps, so a user with more than this many accounts is a mistake, and one document must not
/// fill the writer's heap.
pub const VALUES_PER_LIST_MAX: usize = 4_096;

/// Kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocKind {
    /// A person, with all accounts.
    User,
    /// An application.
    App,
    /// A group.
    Group,
    /// One account of one user in one app.
    Mapping,
}

impl DocKind {
    /// Every kind, in the order in which equal matches rank.
    pub const ALL: [Self; 4] = [Self::User, Self::App, Self::Group, Self::Mapping];

    /// The stable name, as in `kind:user`.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::App => "app",
            Self::Group => "group",
            Self::Mapping => "mapping",
        }
    }

    /// The number in the index. Stable: part of the schema.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::User => 0,
            Self::App => 1,
            Self::Group => 2,
            Self::Mapping => 3,
        }
    }

    /// The kind with this number in the index.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The byte before the titles of this kind in the field of titles: suggestions walk the titles of one kind.
    pub(crate) fn tag(self) -> char {
        match self {
            Self::User => 'u',
            Self::App => 'a',
            Self::Group => 'g',
            Self::Mapping => 'm',
        }
    }
}

impl fmt::Display for DocKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A word that names no [`DocKind`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}: expected user, app, group or mapping")]
pub struct UnknownKind(pub String);

impl FromStr for DocKind {
    type Err = UnknownKind;

    /// Reads a stable name; case does not matter. `account` is what people call a mapping.
    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        if name.eq_ignore_ascii_case("account") {
            return Ok(Self::Mapping);
        }
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// One searchable thing. Long values are cut (2,048 bytes each), long lists too ([`VALUES_PER_LIST_MAX`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexDoc {
    /// Unique, the caller's encoding (`user/00u1`, `mapping/0oa1/00u1`); 1 to [`KEY_BYTES_MAX`] bytes. Equal scores are
    /// ordered by it, bytewise.
    pub key: String,
    /// What it is.
    pub kind: DocKind,
    /// Display name, label, group name or account user name. Of a mapping it counts as one of the `accounts` and need not
    /// be repeated there.
    pub title: String,
    /// More names: first, last, e-mails, logins, description.
    pub names: Vec<String>,
    /// User: user names and external ids of all its accounts. Mapping: its own; they are found whole and by their words
    /// before an `@`, but not by beginnings, in phrases or misspelt: so is the user. One that a machine made (15 letters and
    /// digits or more, mixed up) is no words: it is found whole only.
    pub accounts: Vec<String>,
    /// Exact ids, compared byte by byte (they are case-sensitive); but one that a machine made and that is among `accounts`
    /// as those are.
    pub ids: Vec<String>,
    /// Facet, such as `ACTIVE`; empty for none.
    pub status: String,
    /// Facet: app ids, compared byte by byte.
    pub apps: Vec<String>,
    /// Labels of these apps, for `app:"Jira Cloud"`. Free words do not search them: the app itself is a document.
    pub app_labels: Vec<String>,
}

impl IndexDoc {
    /// A document without names, accounts, ids, status and apps.
    pub fn new(kind: DocKind, key: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            kind,
            title: title.into(),
            names: Vec::new(),
            accounts: Vec::new(),
            ids: Vec::new(),
            status: String::new(),
            apps: Vec::new(),
            app_labels: Vec::new(),
        }
    }
}

/// How far the index goes: which store it was built from, up to which revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Identity of the store.
    pub store_id: String,
    /// The era of the revision: a store that is put back from a backup comes by the same revisions again, with other content, in
    /// another era. Empty: not known, and such an index is made anew.
    pub era: String,
    /// Last revision whose changes are all in the index.
    pub revision: u64,
}

/// The payload of a commit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) store_id: String,
    pub(crate) schema: u32,
    /// Marks of earlier versions have none.
    #[serde(default)]
    pub(crate) era: String,
    pub(crate) revision: u64,
}

impl Payload {
    pub(crate) fn of(mark: &Mark, schema: u32) -> Self {
        Self { store_id: mark.store_id.clone(), schema, era: mark.era.clone(), revision: mark.revision }
    }

    pub(crate) fn mark(self) -> Mark {
        Mark { store_id: self.store_id, era: self.era, revision: self.revision }
    }
}
